/** PROXY headers as a balancer writes them (haproxy's proxy-protocol.txt, section 2), for streams. */
import { Endpoint } from '../../src/net/endpoint.ts';
import type { Address } from './agent.ts';

export const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');

/** Version 1. */
export const line = (client: Address, to: Address): string =>
  `PROXY TCP${client.host.includes(':') ? 6 : 4} ${client.host} ${to.host} ${client.port} ${to.port}\r\n`;

function octets(host: string): Buffer {
  const { a0, a1, a2, a3 } = Endpoint.parse(host, 0) as Endpoint;
  const bytes = Buffer.alloc(16);
  for (const [i, word] of [a0, a1, a2, a3].entries()) bytes.writeInt32BE(word, 4 * i);
  return host.includes(':') ? bytes : bytes.subarray(12);
}

/** Version 2. `command` 0x20 is LOCAL. */
export function block(client: Address, to: Address, tlvs: Buffer = Buffer.alloc(0), command = 0x21): Buffer {
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(client.port, 0);
  ports.writeUInt16BE(to.port, 2);
  const body = Buffer.concat([octets(client.host), octets(to.host), ports, tlvs]);
  const head = Buffer.from([command, client.host.includes(':') ? 0x21 : 0x11, 0, 0]);
  head.writeUInt16BE(body.length, 2);
  return Buffer.concat([SIGNATURE, head, body]);
}
