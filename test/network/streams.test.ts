/** Connections that are slow, half-closed or broken in the middle. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TcpAgent, UdpAgent } from '../harness/agent.ts';
import { isFinal, isRequest } from '../harness/inbox.ts';
import { freshHost } from '../harness/ports.ts';
import { boundBecomes, call, register, statusOf } from '../harness/registrar.ts';
import { isStatus, optionsText, registerText, TcpWire } from './crowd.ts';
import { pause, Watched } from './watched.ts';

let server: Watched;
let caller: UdpAgent;

beforeAll(async () => {
  server = await Watched.start({
    settings: { DOMAINS: 'example.test', STORE: 'memory:', MAX_FLOWS: '512' },
  });
  caller = await UdpAgent.open({ host: freshHost(), peer: server.address, name: 'caller' });
});
afterAll(async () => {
  await caller?.close();
  await server?.stop();
});

const agent = () => TcpAgent.connect({ peer: server.address, localHost: freshHost() });
const self = () => `sip:${server.address.host}:${server.address.port}`;

/** A socket that sends its FIN when it is told, and goes on reading. */
async function halfOpen(): Promise<Socket> {
  const { host, port } = server.address;
  const socket = connect({ host, port, localAddress: freshHost(), allowHalfOpen: true });
  await once(socket, 'connect');
  return socket;
}

/** All that comes until the server's FIN. */
async function everything(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  await once(socket, 'end');
  return text;
}

describe('a phone that does not read', () => {
  it('is closed when its write queue is full; its binding goes, the caller hears of it, others are not held up [AP-7-08 AP-7-07]', async () => {
    const lazy = await agent();
    const { aor } = await register(lazy);
    const other = await agent();
    const busy = await register(other);
    lazy.socket.pause();
    const source = await agent();
    const body = 'x'.repeat(60_000);
    const ended = source.next(isFinal(), 20_000);
    // what the kernel takes for itself is megabytes; the queue behind it is bounded
    for (let i = 0; i < 1_500 && source.arrivals.length === 0; i++) {
      if (!source.socket.write(source.compose('MESSAGE', aor, { body }))) await once(source.socket, 'drain');
      if (i % 100 === 0) {
        const callId = call(caller, busy.aor);
        await other.next(isRequest('MESSAGE', callId));
      }
    }
    expect([430, 480, 503]).toContain((await ended).message.status);
    expect(await server.causeOf(lazy.hostPort)).toBe('write-queue');
    expect((await server.state()).counters.writeQueueOverflow).toBe(1);
    await boundBecomes(caller, aor, (contacts) => contacts.length === 0);
    lazy.socket.resume();
    await lazy.closed;
    for (const a of [other, source]) await a.close();
  }, 40_000);
});

describe('a client that closes its sending side', () => {
  it('at once after a request still gets the answer, then the server closes as well', async () => {
    const socket = await halfOpen();
    const wire = new TcpWire(socket);
    const text = everything(socket);
    socket.end(optionsText(wire, 'last words', self()));
    expect(await text).toMatch(/^SIP\/2\.0 200 /);
    socket.destroy();
  });

  it('at once after many requests gets all the answers', async () => {
    const socket = await halfOpen();
    const wire = new TcpWire(socket);
    const text = everything(socket);
    socket.end(Array.from({ length: 300 }, (_, i) => optionsText(wire, `${i}`, self())).join(''));
    expect((await text).match(/^SIP\/2\.0 200 /gm)).toHaveLength(300);
    socket.destroy();
  });

  it('in the middle of a message is closed, and nothing is kept for it', async () => {
    const socket = await halfOpen();
    const wire = new TcpWire(socket);
    const text = everything(socket);
    socket.end(registerText(wire, 1).slice(0, 200));
    expect(await text).toBe('');
    expect(await server.causeOf(wire.hostPort)).toBe('peer-closed');
    socket.destroy();
  });

  it('after a REGISTER is not bound: its flow has ended, and the server closes as well [AP-7-07]', async () => {
    const socket = await halfOpen();
    const wire = new TcpWire(socket);
    const text = everything(socket);
    socket.end(registerText(wire, 77));
    expect(['', '200']).toContain((await text).slice(8, 11));
    await boundBecomes(caller, 'sip:u77@example.test', (contacts) => contacts.length === 0);
    expect(await statusOf(caller, 'sip:u77@example.test')).toBe(480);
    expect(await server.causeOf(wire.hostPort)).toBe('peer-closed');
    socket.destroy();
  });
});

describe('a connection that breaks', () => {
  it('by RST in the middle of a message leaves nothing behind; the next one from that port is served', async () => {
    const host = freshHost();
    const wire = await TcpWire.open(server.address, host);
    const { port } = wire;
    const message = optionsText(wire, 'half', self());
    wire.send(message.slice(0, 150));
    for (
      let i = 0;
      i < 200 && !(await server.flows()).some((f) => f.peer === wire.hostPort && f.flags & 1);
      i++
    )
      await pause(5);
    wire.close();
    expect(await server.causeOf(wire.hostPort)).toBe('reset');
    const next = await TcpAgent.connect({ peer: server.address, localHost: host, localPort: port });
    next.send(Buffer.from(message)); // whole this time: no octet of the last life is in front of it
    await next.only(isFinal('half'));
    await next.close();
  });

  it('by RST while the server is writing to it ends the flow, and callers are answered [AP-7-07]', async () => {
    const phone = await agent();
    const { aor } = await register(phone);
    phone.socket.pause();
    for (let i = 0; i < 20; i++) call(caller, aor, 'MESSAGE', { body: 'y'.repeat(20_000) });
    await phone.reset();
    await boundBecomes(caller, aor, (contacts) => contacts.length === 0);
    expect(await statusOf(caller, aor)).toBe(480);
  });
});

describe('a sender of one octet at a time', () => {
  it('does not hold up others on its shard, and is answered in the end [3261-18.3-01]', async () => {
    const slow = await Promise.all(Array.from({ length: 8 }, () => TcpWire.open(server.address)));
    const quick = await agent();
    const { aor } = await register(quick);
    const messages = slow.map((wire) => optionsText(wire, 'slow', self()));
    const answers = slow.map((wire) => wire.next(isStatus(200)));
    for (let at = 0; messages.some((m) => at < m.length); at++) {
      for (const [i, wire] of slow.entries()) if (at < messages[i].length) wire.send(messages[i][at]);
      if (at % 50 === 0) await quick.next(isRequest('MESSAGE', call(caller, aor)));
      await pause(1);
    }
    await Promise.all(answers);
    for (const wire of slow) wire.close();
    await quick.close();
  });
});
