/**
 * Connections that make no end with something: nothing comes, or no whole message, or a message without an end.
 * Each is closed with a cause of its own, on the server's clock, which the test moves.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ACCEPTED, FIRST_MESSAGE, MESSAGE, PROOF_S, STAGES } from '../../src/flow/deadline.ts';
import { type Agent, TcpAgent } from '../harness/agent.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { freshHost } from '../harness/ports.ts';
import { block } from '../harness/proxy.ts';
import { call, register } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';
import { Watched } from './watched.ts';

const OCTET_S = STAGES[ACCEPTED].seconds;
const FIRST_S = STAGES[FIRST_MESSAGE].seconds;
const MESSAGE_S = STAGES[MESSAGE].seconds;
const BALANCER = freshHost();
const CLIENT = { host: '203.0.113.9', port: 40_000 };

let server: Watched;
const open: Agent[] = [];

beforeAll(async () => {
  // one shard: when a neighbour's ping is answered, what was sent before it has been read
  server = await Watched.start({
    settings: { DOMAINS: 'example.test', STORE: 'memory:', WORKERS: '1', TRUSTED: BALANCER },
    clocked: true,
  });
});
afterAll(async () => {
  for (const agent of open) await agent.close();
  await server?.stop();
});

async function agent(localHost = freshHost()): Promise<TcpAgent> {
  const made = await TcpAgent.connect({ peer: server.address, localHost });
  open.push(made);
  return made;
}

/** All that was sent so far has been read. */
async function read(): Promise<void> {
  const neighbour = await agent();
  for (let i = 0; i < 2; i++) await neighbour.probe();
  await neighbour.close();
}

async function send(to: TcpAgent, octets: string | Buffer): Promise<void> {
  to.send(Buffer.from(octets as string, 'latin1'));
  await read();
}

const isOpen = async (a: TcpAgent) => (await server.flows()).some(({ peer }) => peer === a.hostPort);

/** It is open a second before the end of its time, and closed with this cause a second after it. */
async function endsAfter(a: TcpAgent, seconds: number, cause: string): Promise<void> {
  await server.advance(seconds - 1);
  await read();
  expect(await isOpen(a)).toBe(true);
  await server.advance(2);
  expect(await server.causeOf(a.hostPort)).toBe(cause);
  await a.closed;
}

const options = (a: TcpAgent, body = '') => {
  const callId = unique('call-');
  const { host, port } = server.address;
  return { callId, bytes: a.compose('OPTIONS', `sip:${host}:${port}`, { callId, body }) };
};

describe('a connection', () => {
  it('on which nothing comes is closed', async () => {
    const silent = await agent();
    await read();
    await endsAfter(silent, OCTET_S, 'no-octet');
  });

  it('that sends an octet a second of its first message is closed', async () => {
    const slow = await agent();
    const { bytes } = options(slow);
    await server.advance(OCTET_S - 5);
    await send(slow, bytes.subarray(0, 1));
    for (let i = 1; i < FIRST_S - 1; i++) {
      slow.send(bytes.subarray(i, i + 1));
      await server.advance(1);
    }
    await read();
    expect(await isOpen(slow)).toBe(true);
    await server.advance(3);
    expect(await server.causeOf(slow.hostPort)).toBe('no-message');
  });

  it('that sends keep-alives alone is closed as well: they lengthen no stage', async () => {
    const pinging = await agent();
    await pinging.probe();
    for (let s = 0; s < FIRST_S - 10; s += 10) {
      await server.advance(10);
      await pinging.probe();
    }
    await endsAfter(pinging, 10, 'no-message');
  });

  it('that begins with keep-alives and registers in time stays', async () => {
    const phone = await agent();
    await server.advance(OCTET_S - 2);
    await phone.probe();
    await server.advance(FIRST_S - 2);
    const { aor } = await register(phone);
    await server.advance(PROOF_S);
    await phone.next(isRequest('MESSAGE', call(await agent(), aor)));
  });

  it('that sends messages and registers nothing is closed later, whatever it sends', async () => {
    const guest = await agent();
    for (let s = 0; s < PROOF_S - 10; s += 10) {
      const { bytes, callId } = options(guest);
      guest.send(bytes);
      await guest.next(isResponse(200, callId));
      await server.advance(10);
    }
    await endsAfter(guest, 10, 'stage-deadline');
  });

  it('that is registered is closed amid a message without an end, though octets come', async () => {
    const phone = await agent();
    const { aor } = await register(phone);
    const { bytes } = options(phone, 'x'.repeat(5_000));
    await server.advance(100);
    await phone.probe();
    await send(phone, bytes.subarray(0, 1_000));
    for (let s = 0; s < MESSAGE_S - 10; s += 10) {
      await server.advance(10);
      await send(phone, 'x');
    }
    await endsAfter(phone, 10, 'unfinished');
    const caller = await agent();
    const callId = call(caller, aor);
    expect((await caller.next(isFinal(callId))).message.status).toBe(480);
  });

  it('that ends each message in its time stays, however slow it is', async () => {
    const phone = await agent();
    const { aor } = await register(phone);
    for (let i = 0; i < 3; i++) {
      const { bytes, callId } = options(phone, 'y'.repeat(100));
      await send(phone, bytes.subarray(0, 20));
      await server.advance(MESSAGE_S - 5, 5);
      await send(phone, bytes.subarray(20, 60)); // silent for less than Flow-Timer
      await server.advance(3);
      phone.send(bytes.subarray(60));
      await phone.next(isResponse(200, callId));
    }
    await phone.next(isRequest('MESSAGE', call(await agent(), aor)));
  });
});

describe('a connection from a trusted network', () => {
  it('may be silent, and slow', async () => {
    const gateway = await agent(BALANCER);
    await server.advance(PROOF_S + OCTET_S, 10);
    const { bytes, callId } = options(gateway);
    await send(gateway, bytes.subarray(0, 30));
    await server.advance(MESSAGE_S + PROOF_S, 10);
    gateway.send(bytes.subarray(30));
    await gateway.next(isResponse(200, callId));
  });

  it('has no more time than others for a PROXY header that it has begun, and for what follows', async () => {
    const balancer = await agent(BALANCER);
    await send(balancer, block(CLIENT, CLIENT).subarray(0, 14));
    await endsAfter(balancer, FIRST_S, 'no-message');
    const client = await agent(BALANCER);
    await send(client, block(CLIENT, CLIENT));
    await endsAfter(client, FIRST_S, 'no-message');
  });
});
