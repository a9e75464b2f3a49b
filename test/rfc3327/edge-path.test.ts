/** Path as a proxy has to handle it: RFC 3327 sections 4 and 5.2. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { type Edge, startEdge } from '../harness/edge.ts';
import { composeRegister, registerFlow } from '../harness/flows.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { freshHost } from '../harness/ports.ts';
import { parseNameAddr, unique } from '../harness/sip.ts';

let edge: Edge;
let strict: Edge;
let balancer: string;

beforeAll(async () => {
  balancer = freshHost();
  edge = await startEdge({ settings: { TRUSTED: `${balancer}/32` } });
  strict = await startEdge({ settings: { PATH: 'strict' } });
});
afterAll(async () => {
  await edge?.close();
  await strict?.close();
});

describe('an edge that puts itself into Path', () => {
  it('stands in front of the values that a trusted neighbour sent, whose order stays [3327-5.2-01]', async () => {
    const neighbour = await edge.client('UDP', { host: balancer });
    const earlier = ['<sip:p2.example.test;lr>', '<sip:tok@p1.example.test;lr;ob>'];
    for (const headers of [[['Path', earlier.join(', ')]], earlier.map((value) => ['Path', value])] as [
      string,
      string,
    ][][]) {
      const { bytes, callId } = composeRegister(neighbour, { headers });
      neighbour.send(bytes);
      const got = await edge.core.next(isRequest('REGISTER', callId));
      const values = got.message.all('Path');
      expect(values.slice(-2)).toEqual(earlier);
      expect(`${parseNameAddr(values[0]).host}:${parseNameAddr(values[0]).port}`).toBe(edge.hostPort);
      edge.core.reply(got, 200, 'OK');
      await neighbour.next(isResponse(200, callId));
    }
  });

  it('writes a name-addr with lr [3327-4-01]', async () => {
    const flow = await registerFlow(await edge.client(), edge.core);
    expect(flow.path).toMatch(/^<sips?:[^<>]*;lr[;>]/);
  });

  it('adds path to Supported where the client lacks it, so that the registrar stores it [EP-5.1-11]', async () => {
    for (const supported of ['outbound', 'gruu']) {
      const flow = await registerFlow(await edge.client(), edge.core, { supported, requireOutbound: false });
      expect(flow.forwarded.message.all('Supported')).toContain('path');
      expect(flow.forwarded.message.all('Supported')).toContain(supported);
      expect(parseNameAddr(flow.path).uriParams.has('lr')).toBe(true);
    }
  });

  it('says path once where the client said it already [EP-5.1-11]', async () => {
    const flow = await registerFlow(await edge.client(), edge.core);
    expect(flow.forwarded.message.all('Supported').filter((tag) => tag === 'path')).toHaveLength(1);
  });

  it('leaves Path in the response as the registrar wrote it [3327-5.2-05]', async () => {
    const client = await edge.client();
    const { bytes, callId } = composeRegister(client);
    client.send(bytes);
    const got = await edge.core.next(isRequest('REGISTER', callId));
    const written = [
      '<sip:x@elsewhere.test;lr>,<sip:y@p1.test;lr;ob>',
      '<sip:z@[2001:db8::1]:5070;lr>;p="a,b"',
    ];
    edge.core.reply(
      got,
      200,
      'OK',
      written.map((value): [string, string] => ['Path', value]),
    );
    const ok = (await client.next(isResponse(200, callId))).message;
    expect(ok.fields('Path')).toEqual(written);
  });

  it('passes Path in other requests on unchanged, and adds none [3327-4-02]', async () => {
    const client = await edge.client();
    for (const method of ['MESSAGE', 'OPTIONS', 'INVITE']) {
      const callId = unique('call-');
      const value = '<sip:odd@192.0.2.1;lr>';
      const contact = `<${client.uri('u')};ob>`;
      client.send(
        client.compose(method, 'sip:example.test', { callId, contact, headers: [['Path', value]] }),
      );
      const got = await edge.core.next(isRequest(method, callId));
      expect(got.message.fields('Path')).toEqual([value]);
      edge.core.reply(got, 404, 'Not Found');
      await client.next(isFinal(callId));
    }
  });
});

describe('an edge set to follow RFC 3327 by the letter', () => {
  const register = async (client: Agent, supported: string) => {
    const { bytes, callId } = composeRegister(client, { supported });
    client.send(bytes);
    return callId;
  };

  it('answers 421 with Require: path to a client without it, and forwards nothing [3327-5.2-04 3327-5.2-02 EP-5.1-11]', async () => {
    const client = await strict.client();
    const refused = await register(client, 'outbound');
    const answer = (await client.next(isFinal(refused))).message;
    expect(answer.status).toBe(421);
    expect(answer.all('Require')).toEqual(['path']);
    const accepted = await register(client, 'path, outbound');
    await strict.core.only(isRequest('REGISTER', accepted));
  });

  it('adds Path and Require: path for a client that lists it, in any letter case and in the short form [3327-5.2-02 3327-5.2-03]', async () => {
    for (const name of ['Supported', 'k', 'SUPPORTED']) {
      const client = await strict.client();
      const { bytes, callId } = composeRegister(client);
      client.send(Buffer.from(bytes.toString('latin1').replace('Supported:', `${name}:`), 'latin1'));
      const got = await strict.core.next(isRequest('REGISTER', callId));
      expect(got.message.all('Path')).toHaveLength(1);
      expect(got.message.all('Require')).toEqual(['path']);
    }
  });
});
