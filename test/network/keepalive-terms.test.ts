/**
 * What an edge tells a client of its flow, and how long the flow then lives, on every transport: Flow-Timer (RFC 5626
 * section 5.4), `keep` (RFC 6223), and under which address it was seen (RFC 3581). The server's clock stands still and
 * is moved by the test. Flow-Timer 20 s, grace 10 s: a silent flow is dead after 30.
 *
 * When a keep-alive is answered is in keepalive-contract.test.ts; what else there is to each of these headers in
 * test/rfc5626/edge-flow-timer.test.ts, test/rfc6223/edge-keep.test.ts and test/rfc3581/edge-rport.test.ts.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, TcpAgent, type UdpAgent } from '../harness/agent.ts';
import { composeRegister, type Flow, registerFlow, sendDown } from '../harness/flows.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { newBranch, response, unique, type Via } from '../harness/sip.ts';
import { stun } from '../harness/stun.ts';
import { frame, PING, PONG, WsAgent } from '../harness/websocket.ts';
import {
  BEHIND,
  CRLF,
  CRLF_PING,
  isStream,
  isWeb,
  startWiredEdge,
  WIRES,
  type Wire,
  type WiredEdge,
  write,
} from './keepalives.ts';

const FLOW_TIMER = 20;
const GRACE = 10;
/** one step of the clock, less than what any timer of a connection's own would run out in */
const STEP = 10;

let edge: WiredEdge<UdpAgent>;

beforeAll(async () => {
  const settings = { FLOW_TIMER: String(FLOW_TIMER), FLOW_GRACE: String(GRACE) };
  edge = await startWiredEdge({ clocked: true, settings });
});
afterAll(() => edge?.close());

/** After all that was sent has been read. */
async function pass(seconds: number): Promise<void> {
  for (let left = seconds; left > 0; left -= STEP) {
    await edge.hasRead();
    await edge.edge.server.advance(Math.min(left, STEP) * 1000);
  }
  await edge.hasRead();
}

/** A request comes down the flow. */
async function lives(client: Agent, flow: Flow): Promise<void> {
  await client.next(isRequest('MESSAGE', sendDown(edge.core, flow, 'MESSAGE')));
}

/** A stream is closed; of the end of a datagrams' flow the log tells. */
async function ended(client: Agent): Promise<void> {
  if (client instanceof WsAgent) expect(await client.closed).toBe(1000);
  else if (client instanceof TcpAgent) await client.closed;
  else await edge.edge.server.logged((l) => l.event === 'flow-ended' && l.peer === client.hostPort);
}

/** What shows that a client is there, answered or not; at last of a message that has 60 s to become whole. */
function signs(wire: Wire): Buffer[] {
  if (!isStream(wire)) return [stun({ type: 0x0011 }), CRLF, Buffer.from('x'), stun()];
  if (!isWeb(wire)) return [CRLF, CRLF_PING, Buffer.from('O'), Buffer.from('P')];
  const control = [PING, PONG].map((opcode) => frame(Buffer.from('p'), { opcode }));
  const fragment = frame(Buffer.from('OP'), { fin: false });
  return [...control, frame(CRLF), fragment, frame(Buffer.from('T'), { opcode: 0 }).subarray(0, 1)];
}

for (const wire of WIRES)
  describe(wire.title, () => {
    const open = () => edge.open(wire);
    const seenAs = (client: Agent) => (wire.isProxied ? BEHIND : client);

    describe('a client that registers', () => {
      it('is told Flow-Timer once, with outbound in use [EP-5.4-06]', async () => {
        const { ok } = await registerFlow(await open(), edge.core);
        expect(ok.fields('Flow-Timer')).toEqual([String(FLOW_TIMER)]);
      });

      it('is told none without [EP-5.4-06]', async () => {
        const { ok } = await registerFlow(await open(), edge.core, { requireOutbound: false });
        expect(ok.header('Flow-Timer')).toBeUndefined();
      });

      it("is told the edge's own where the registrar has said another [EP-5.4-10]", async () => {
        const responseHeaders = [['Flow-Timer', '999']] as const;
        const { ok } = await registerFlow(await open(), edge.core, { responseHeaders: [...responseHeaders] });
        expect(ok.fields('Flow-Timer')).toEqual([String(FLOW_TIMER)]);
      });

      it('is told the same in keep where its Via asks, and the registrar is not asked [6223-4.4-01 6223-5-02 6223-10-01]', async () => {
        const client = await open();
        const { ok, forwarded } = await registerFlow(client, edge.core, { via: client.via(';keep') });
        expect(ok.via[0].params.get('keep')).toBe(String(FLOW_TIMER));
        expect(ok.fields('Flow-Timer')).toEqual([String(FLOW_TIMER)]);
        const asked = forwarded.message.via.map(({ params }) => params.has('keep') && params.get('keep'));
        expect(asked).toEqual([false, undefined]);
      });

      it('is not told the keep that the registrar has put there [6223-10-02]', async () => {
        const client = await open();
        const { bytes, callId } = composeRegister(client, { via: client.via(';keep') });
        client.send(bytes);
        const got = await edge.core.next(isRequest('REGISTER', callId));
        const text = response(got.message, 200, 'OK', [['Require', 'outbound']]).toString('latin1');
        got.answer(Buffer.from(text.replace(/;keep/g, ';keep=5'), 'latin1'));
        const { message } = await client.next(isResponse(200, callId));
        expect(message.via[0].params.get('keep')).toBe(String(FLOW_TIMER));
      });
    });

    describe('a flow', () => {
      it('lives for longer than its Flow-Timer in silence [EP-5.4-08]', async () => {
        const client = await open();
        const flow = await registerFlow(client, edge.core);
        await pass(FLOW_TIMER + 4);
        await lives(client, flow);
      });

      it.each([
        ['Flow-Timer', '', true],
        ['keep', ';keep', false],
      ])(
        'that was told %s is dead when the grace too is over: 430 [EP-5.4-08 EP-5.3.1-05]',
        async (_, via, requireOutbound) => {
          const client = await open();
          const flow = await registerFlow(client, edge.core, { requireOutbound, via: client.via(via) });
          await pass(FLOW_TIMER + GRACE + 3);
          await ended(client);
          const callId = sendDown(edge.core, flow, 'MESSAGE');
          expect((await edge.core.next(isFinal(callId))).message.status).toBe(430);
        },
      );

      it('that was told nothing lives as long as its registration', async () => {
        const client = await open();
        const flow = await registerFlow(client, edge.core, { requireOutbound: false, expires: 90 });
        await pass(80);
        await lives(client, flow);
      });

      it('lives on any octet, answered or not [EP-5.4-09]', async () => {
        const client = await open();
        const flow = await registerFlow(client, edge.core);
        for (const octets of signs(wire)) {
          await pass(FLOW_TIMER);
          write(client, octets);
        }
        await pass(FLOW_TIMER);
        await lives(client, flow);
      });
    });

    describe('a request', () => {
      /** Its Via as the core has it and as it comes back. */
      async function vias(client: Agent, via: string): Promise<Via[]> {
        const callId = unique('call-');
        client.send(client.compose('OPTIONS', 'sip:example.test', { callId, via }));
        const got = await edge.core.next(isRequest('OPTIONS', callId));
        edge.core.reply(got, 200, 'OK');
        const { message } = await client.next(isResponse(200, callId));
        expect(message.via).toHaveLength(1);
        return [got.message.via.at(-1) as Via, message.via[0]];
      }

      it.each([
        ['without a value', '3581-4-01', ';rport'],
        ['with a value of its own', '3581-4-04', ';rport=1'],
      ])('with rport %s has the address and port that it came from [%s]', async (_, __, rport) => {
        const client = await open();
        for (const { params } of await vias(client, client.via(rport))) {
          expect(params.get('received')).toBe(seenAs(client).host);
          expect(params.get('rport')).toBe(String(seenAs(client).port));
        }
      });

      const via = (sentBy: string) => `SIP/2.0/${wire.transport} ${sentBy};branch=${newBranch()}`;

      if (isWeb(wire))
        it('without rport is told no address, whoever it says it is [7118-5.3-01]', async () => {
          const client = await open();
          for (const sentBy of [client.hostPort, 'client.invalid', '192.0.2.200:5060'])
            for (const { params } of await vias(client, via(sentBy)))
              expect(params.has('received')).toBe(false);
        });
      else
        it('without rport has the address if its own name is not that [3261-18.2.1-02]', async () => {
          const client = await open();
          const own = wire.family === 'IPv4' ? client.host : '[0:0::0:0001]';
          const unknown = wire.isProxied ? [client.host] : ['client.invalid', '192.0.2.200'];
          for (const host of [own, ...unknown])
            for (const { params } of await vias(client, via(`${host}:${client.port}`))) {
              const isTrue = host === own && !wire.isProxied;
              expect(params.get('received')).toBe(isTrue ? undefined : seenAs(client).host);
              expect(params.has('rport')).toBe(false);
            }
        });
    });
  });
