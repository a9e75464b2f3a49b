/**
 * A crowd of phones in a process of its own, so that their work is not taken from the test's time: all connect
 * at once, and each registers as soon as its handshake is done. Told by { address, ca, phones }; says
 * { registered, failed, ms } when all are through, and keeps the connections until it is disconnected.
 */
import { connect } from 'node:tls';
import type { Address } from '../harness/agent.ts';
import { freshHost } from '../harness/ports.ts';
import { isStatus, registerText, TcpWire } from '../network/crowd.ts';

export interface Order {
  address: Address;
  ca: string;
  phones: number;
}

export interface Report {
  registered: number;
  failed: number;
  ms: number;
}

process.on('message', async ({ address, ca, phones }: Order) => {
  const began = performance.now();
  const outcomes = await Promise.allSettled(Array.from({ length: phones }, (_, i) => phone(address, ca, i)));
  const registered = outcomes.filter(({ status }) => status === 'fulfilled').length;
  const report: Report = { registered, failed: phones - registered, ms: performance.now() - began };
  process.send?.(report);
});
process.on('disconnect', () => process.exit(0));

function phone(address: Address, ca: string, i: number): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const options = { ...address, localAddress: freshHost(), servername: 'edge.test', ca };
    const socket = connect(options, () => {
      const wire = new TcpWire(socket);
      resolve(wire.next(isStatus(200), 30_000));
      wire.send(registerText(wire, i));
    });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('closed')));
  });
}
