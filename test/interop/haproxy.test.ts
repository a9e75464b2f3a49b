/**
 * HAProxy in front, in TCP mode, with both versions of the PROXY protocol: the edge knows the client behind it by
 * his own address, and calls come down his flow by its token.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TcpAgent } from '../harness/agent.ts';
import { type Edge, startEdge } from '../harness/edge.ts';
import { type Flow, registerFlow, sendDown } from '../harness/flows.ts';
import { isRequest, isResponse } from '../harness/inbox.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { unique } from '../harness/sip.ts';
import { eventually, find, folderFor, Program } from './program.ts';

/** Where HAProxy connects from: what the edge is told to believe, and an address that it is not. */
const TRUSTED = freshHost();
const STRANGE = freshHost();

describe.skipIf(!find('haproxy'))('HAProxy in front of the edge', () => {
  const host = freshHost();
  const ports: Record<string, number> = {};
  let edge: Edge;
  let haproxy: Program;
  const clients: TcpAgent[] = [];

  beforeAll(async () => {
    edge = await startEdge({ settings: { TRUSTED } });
    const to = `${edge.server.host}:${edge.server.port}`;
    const ways = {
      'send-proxy': `send-proxy source ${TRUSTED}`,
      'send-proxy-v2': `send-proxy-v2 source ${TRUSTED} check inter 50ms check-send-proxy`,
      'proxy-v2-options': `send-proxy-v2 proxy-v2-options unique-id,crc32c source ${TRUSTED}`,
      strange: `send-proxy-v2 source ${STRANGE}`,
    };
    const text = [
      'global\n  log stdout format raw local0',
      'defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h',
    ];
    for (const [name, server] of Object.entries(ways)) {
      ports[name] = await freePort(host);
      text.push(
        `listen ${name}\n  bind ${host}:${ports[name]}\n  unique-id-format %ci.%cp\n  server edge ${to} ${server}`,
      );
    }
    const folder = await folderFor('haproxy');
    const config = join(folder, 'haproxy.cfg');
    await writeFile(config, `${text.join('\n')}\n`);
    haproxy = new Program('haproxy', folder, ['-db', '-f', config]);
    await eventually(async () => (await through('strange')).close()).catch((error) => {
      throw new Error(`HAProxy did not start: ${error}\n${haproxy.output}`);
    });
  });
  afterAll(async () => {
    for (const client of clients) await client.close();
    await haproxy?.stop();
    await edge?.close();
  });

  async function through(way: string): Promise<TcpAgent> {
    const client = await TcpAgent.connect({ peer: { host, port: ports[way] }, localHost: freshHost() });
    clients.push(client);
    return client;
  }

  async function called(client: TcpAgent, flow: Flow): Promise<void> {
    const callId = sendDown(edge.core, flow, 'MESSAGE');
    client.reply(await client.next(isRequest('MESSAGE', callId)), 200, 'OK');
    await edge.core.next(isResponse(200, callId));
  }

  describe.each(['send-proxy', 'send-proxy-v2', 'proxy-v2-options'])('with %s', (way) => {
    it('a client registers under his own address and is called by his token', async () => {
      const client = await through(way);
      await client.probe();
      const via = client.via(';rport').replace(client.host, 'client.invalid');
      const flow = await registerFlow(client, edge.core, { via });
      const forwarded = flow.forwarded.message.fields('Via').at(-1);
      expect(forwarded).toContain(`;received=${client.host}`);
      expect(forwarded).toContain(`;rport=${client.port}`);
      expect((await edge.server.logged((l) => l.aor === flow.aor)).peer).toBe(client.hostPort);
      await called(client, flow);
      const callId = unique('call-');
      client.send(client.compose('OPTIONS', 'sip:example.test', { callId, route: [flow.path] }));
      edge.core.reply(await edge.core.next(isRequest('OPTIONS', callId)), 200, 'OK');
      await client.next(isResponse(200, callId));
      await client.close();
      const end = await edge.server.logged((l) => l.event === 'flow-ended' && l.peer === client.hostPort);
      expect(end.cause).toBe('peer-closed');
    });

    it('is not trusted because the balancer is', async () => {
      const client = await through(way);
      const flow = await registerFlow(client, edge.core, { headers: [['Path', '<sip:192.0.2.66;lr>']] });
      expect(flow.forwarded.message.all('Path')).toHaveLength(1);
    });
  });

  it('two clients behind it have two flows', async () => {
    const [a, b] = [await through('send-proxy-v2'), await through('send-proxy-v2')];
    const flows = [await registerFlow(a, edge.core), await registerFlow(b, edge.core)];
    expect(flows[0].token).not.toBe(flows[1].token);
    await called(b, flows[1]);
    await called(a, flows[0]);
  });

  it('its health checks are served: it has not marked the edge as down', () => {
    expect(haproxy.output).not.toMatch(/is DOWN/);
    expect(
      edge.server.logs.filter((l) => l.event === 'proxy-refused' && l.cause === 'proxy-malformed'),
    ).toEqual([]);
  });

  it('from an address that is not trusted it is closed, with a cause', async () => {
    const client = await through('strange');
    client.send(client.compose('OPTIONS', 'sip:example.test'));
    await client.closed;
    const note = await edge.server.logged(
      (l) => l.event === 'proxy-refused' && String(l.peer).startsWith(`${STRANGE}:`),
    );
    expect(note.cause).toBe('proxy-untrusted');
  });
});
