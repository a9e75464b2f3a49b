/**
 * A port for each shard towards the core: what the core sends about a flow comes to the shard that has it, and a busy
 * core does not keep one shard alone at work.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Agent, UdpAgent } from '../harness/agent.ts';
import { type Flow, registerFlow } from '../harness/flows.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { parseNameAddr, unique } from '../harness/sip.ts';
import { IO } from './watched.ts';

const WORKERS = 2;

let server: Holdfast;
let core: UdpAgent;
let ports: number[];
const phones: Agent[] = [];

beforeEach(async () => {
  const host = freshHost();
  const port = await freePort(host);
  const first = await freePort(host);
  ports = [first, first + 1];
  core = await UdpAgent.open({ host: freshHost(), peer: { host, port }, name: 'core' });
  server = await Holdfast.start({
    host,
    port,
    settings: {
      UPSTREAM: `sip:${core.hostPort}`,
      WORKERS: String(WORKERS),
      CORE_PORTS: `${ports[0]}-${ports[1]}`,
    },
  });
});
afterEach(async () => {
  for (const phone of phones.splice(0)) await phone.close().catch(() => {});
  await core.close();
  await server.stop();
});

async function connected(): Promise<{ phone: Agent; flow: Flow }> {
  const phone = await server.tcp();
  phones.push(phone);
  return { phone, flow: await registerFlow(phone, core) };
}

const portOf = (uri: string): number => Number(/:(\d+)/.exec(parseNameAddr(uri).uri)?.[1]);

describe('a port towards the core for each shard', () => {
  it('stands in Path and Via of the flows of its shard; requests and answers come and go by it, in dialogs too', async () => {
    const seen = new Set<number>();
    for (let i = 0; i < WORKERS * 2; i++) {
      const { phone, flow } = await connected();
      const { message, from } = flow.forwarded;
      const port = portOf(flow.path);
      seen.add(port);
      expect(ports).toContain(port);
      expect(from.port).toBe(port);
      expect(message.all('Via')[0]).toContain(`:${port};`);

      const callId = unique('down-');
      const invite = core.compose('INVITE', flow.contactUri, {
        callId,
        route: [flow.path],
        from: '<sip:c@example.test>;tag=1',
        contact: `<${core.uri('c')}>`,
      });
      core.send(invite, { host: server.address.host, port });
      const got = await phone.next(isRequest('INVITE', callId));
      const route = got.message.all('Record-Route').at(-1) as string; // nearest to the core
      phone.reply(got, 200, 'OK', [['Contact', `<${flow.contactUri}>`]]);
      const ok = await core.next(isResponse(200, callId));
      expect(ok.from.port).toBe(port);
      expect(portOf(route)).toBe(port);
    }
    if (IO === 'ffi') expect([...seen].sort()).toEqual(ports); // else the kernel says who accepts
  });

  it('is no border: what comes to another is served as well', async () => {
    const { phone, flow } = await connected();
    for (const port of [...ports, server.address.port]) {
      const callId = unique('other-');
      core.send(core.compose('MESSAGE', flow.contactUri, { callId, route: [flow.path] }), {
        host: server.address.host,
        port,
      });
      phone.reply(await phone.next(isRequest('MESSAGE', callId)), 200, 'OK');
      expect((await core.next(isFinal(callId))).message.status).toBe(200);
    }
  });
});
