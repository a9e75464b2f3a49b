/** Requests from the core down a flow: RFC 5626 section 5.3.1. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TcpAgent, TcpCore } from '../harness/agent.ts';
import { type Edge, startEdge, type Transport } from '../harness/edge.ts';
import { registerFlow, sendDown } from '../harness/flows.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { freshHost } from '../harness/ports.ts';
import { parseNameAddr, unique } from '../harness/sip.ts';

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge();
});
afterAll(() => edge?.close());

const BOTH: Transport[] = ['UDP', 'TCP'];
const withoutOb = (path: string) => path.replace(/;ob(?=[;>])/, '');

describe.each(BOTH)('a request whose Route names a flow over %s', (transport) => {
  it('goes over that flow without its Route, whatever host the Request-URI names [EP-5.3.1-03 EP-5.3-01]', async () => {
    const client = await edge.client(transport);
    const flow = await registerFlow(client, edge.core);
    for (const uri of [
      'sip:u@192.0.2.77:5099',
      'sip:u@nowhere.invalid;transport=tcp',
      'sip:u@[2001:db8::9]',
    ]) {
      const callId = sendDown(edge.core, flow, 'MESSAGE', { uri, body: 'hello' });
      const got = await client.next(isRequest('MESSAGE', callId));
      expect(got.message.uri).toBe(uri);
      expect(got.message.header('Route')).toBeUndefined();
      expect(got.message.body.toString()).toBe('hello');
      client.reply(got, 200, 'OK');
      await edge.core.next(isResponse(200, callId));
    }
  });

  it('keeps the Route values behind the token [EP-5.3.1-03]', async () => {
    const client = await edge.client(transport);
    const flow = await registerFlow(client, edge.core);
    const callId = sendDown(edge.core, flow, 'MESSAGE', {
      route: [flow.path, '<sip:further.example.test;lr>'],
    });
    const got = await client.next(isRequest('MESSAGE', callId));
    expect(got.message.all('Route')).toEqual(['<sip:further.example.test;lr>']);
  });

  it('and that forms a dialog gets the token as Record-Route, without ob [EP-5.3.1-01]', async () => {
    const client = await edge.client(transport);
    const flow = await registerFlow(client, edge.core);
    for (const method of ['INVITE', 'SUBSCRIBE']) {
      const callId = sendDown(edge.core, flow, method, {
        headers: method === 'SUBSCRIBE' ? [['Event', 'presence']] : [],
      });
      const got = await client.next(isRequest(method, callId));
      const routes = got.message.all('Record-Route').map(parseNameAddr);
      expect(routes.length).toBeGreaterThanOrEqual(1);
      for (const route of routes) {
        expect(route.user).toBe(flow.token);
        expect(route.uriParams.has('lr')).toBe(true);
        expect(route.uriParams.has('ob')).toBe(false);
      }
      client.reply(got, 486, 'Busy Here');
      await edge.core.next(isResponse(486, callId));
    }
  });

  it('later in the dialog, by that Record-Route, reaches the client too [EP-5.3.1-02 EP-5.3.1-01]', async () => {
    const client = await edge.client(transport);
    const flow = await registerFlow(client, edge.core);
    const callId = sendDown(edge.core, flow, 'INVITE', {});
    const invite = await client.next(isRequest('INVITE', callId));
    client.reply(invite, 200, 'OK', [['Contact', `<${client.uri('u')};ob>`]]);
    const ok = (await edge.core.next(isResponse(200, callId))).message;
    // the caller's route set is the Record-Route of the 200 in reverse
    const route = ok.all('Record-Route').reverse();
    expect(route.length).toBeGreaterThanOrEqual(1);
    for (const method of ['ACK', 'BYE']) {
      sendDown(edge.core, flow, method, { callId, route, uri: `${client.uri('u')};ob` });
      const got = await client.next(isRequest(method, callId));
      expect(got.message.header('Route')).toBeUndefined();
    }
  });

  it('without ob in the Route is delivered without more ado [EP-5.3.1-02]', async () => {
    const client = await edge.client(transport);
    const flow = await registerFlow(client, edge.core);
    const callId = sendDown(edge.core, flow, 'BYE', { route: [withoutOb(flow.path)] });
    const got = await client.next(isRequest('BYE', callId));
    expect(got.message.header('Route')).toBeUndefined();
    client.reply(got, 481, 'Call/Transaction Does Not Exist');
    await edge.core.next(isResponse(481, callId));
  });

  it('from the client itself is outgoing, from anyone else incoming [EP-5.3-02]', async () => {
    const client = await edge.client(transport);
    const flow = await registerFlow(client, edge.core);
    const callId = unique('call-');
    client.send(client.compose('OPTIONS', edge.core.uri('core'), { callId, route: [flow.path] }));
    const up = await edge.core.next(isRequest('OPTIONS', callId));
    expect(up.message.header('Route')).toBeUndefined();
    edge.core.reply(up, 200, 'OK');
    await client.only(isResponse(200, callId));
    await client.only(isRequest('MESSAGE', sendDown(edge.core, flow, 'MESSAGE')));
  });

  it('with a tampered token is refused with 403, and nothing reaches the client [EP-5.3.1-04 SE-12-01]', async () => {
    const client = await edge.client(transport);
    const flow = await registerFlow(client, edge.core);
    const at = flow.token.length >> 1;
    const forged = flow.token.slice(0, at) + (flow.token[at] === 'x' ? 'y' : 'x') + flow.token.slice(at + 1);
    const callId = sendDown(edge.core, flow, 'INVITE', { route: [flow.path.replace(flow.token, forged)] });
    expect((await edge.core.next(isFinal(callId))).message.status).toBe(403);
    await client.only(isRequest('MESSAGE', sendDown(edge.core, flow, 'MESSAGE')));
  });

  it('with a text that is no token at all is refused with 403 [EP-5.3.1-08 SE-12-01]', async () => {
    const client = await edge.client(transport);
    const flow = await registerFlow(client, edge.core);
    const texts = ['x', 'alice', 'AAAA', '=', '+/+/', '%00%ff%0d%0a', 'A'.repeat(1000), flow.token.slice(1)];
    texts.push(`${flow.token}A`, flow.token.slice(0, -1), flow.token.repeat(2), flow.token.toLowerCase());
    for (const text of texts) {
      const callId = sendDown(edge.core, flow, 'MESSAGE', { route: [flow.path.replace(flow.token, text)] });
      expect(`${text} ${(await edge.core.next(isFinal(callId))).message.status}`).toBe(`${text} 403`);
    }
    await client.only(isRequest('MESSAGE', sendDown(edge.core, flow, 'MESSAGE')));
  });

  it('that is an ACK with a bad token is dropped without an answer [EP-5.3.1-07]', async () => {
    const client = await edge.client(transport);
    const flow = await registerFlow(client, edge.core);
    const route = [flow.path.replace(flow.token, `${flow.token}x`)];
    const ack = sendDown(edge.core, flow, 'ACK', { route });
    const callId = sendDown(edge.core, flow, 'MESSAGE', { route });
    await edge.core.next(isResponse(403, callId));
    expect(edge.core.arrivals.filter(isResponse(undefined, ack))).toEqual([]);
    await client.only(isRequest('MESSAGE', sendDown(edge.core, flow, 'MESSAGE')));
  });
});

describe('a request for a connection that is gone', () => {
  it.each(['FIN', 'RST'])(
    'after a %s is answered 430 at once, and nobody connects to the Contact [EP-5.3.1-05 GR-11.5-01]',
    async (end) => {
      const host = freshHost();
      const listener = edge.keep(await TcpCore.open({ host }));
      const client = await TcpAgent.connect({ peer: edge.server.address, localHost: host });
      const contactUri = `sip:u@${host}:${listener.port};transport=tcp`;
      const flow = await registerFlow(client, edge.core, { contactUri });
      if (end === 'FIN') await client.close();
      else await client.reset();
      const callId = sendDown(edge.core, flow, 'INVITE');
      expect((await edge.core.next(isFinal(callId))).message.status).toBe(430);
      expect(listener.connections).toHaveLength(0);
    },
  );

  it('that is an ACK is dropped without an answer [EP-5.3.1-07]', async () => {
    const client = (await edge.client('TCP')) as TcpAgent;
    const flow = await registerFlow(client, edge.core);
    await client.close();
    const ack = sendDown(edge.core, flow, 'ACK');
    const callId = sendDown(edge.core, flow, 'MESSAGE');
    await edge.core.next(isResponse(430, callId));
    expect(edge.core.arrivals.filter(isResponse(undefined, ack))).toEqual([]);
  });

  it('does not disturb the other flows of the same host [EP-5.3.1-05]', async () => {
    const host = freshHost();
    const gone = await TcpAgent.connect({ peer: edge.server.address, localHost: host });
    const stays = await edge.client('TCP', { host });
    const dead = await registerFlow(gone, edge.core);
    const alive = await registerFlow(stays, edge.core);
    await gone.close();
    await edge.core.next(isResponse(430, sendDown(edge.core, dead, 'MESSAGE')));
    await stays.only(isRequest('MESSAGE', sendDown(edge.core, alive, 'MESSAGE')));
  });
});

describe('a Route that names the edge without a token', () => {
  it('is removed and the request goes its normal way [EP-5.3-01]', async () => {
    const client = await edge.client('UDP');
    const callId = unique('call-');
    const route = [`<sip:${edge.hostPort};lr>`];
    client.send(client.compose('OPTIONS', 'sip:example.test', { callId, route }));
    const got = await edge.core.next(isRequest('OPTIONS', callId));
    expect(got.message.header('Route')).toBeUndefined();
    expect(got.message.uri).toBe('sip:example.test');
  });
});
