/** What becomes of a request when the server that has it refuses, resets, is silent or says 503: RFC 3263 section 4.3. */
import { afterEach, describe, expect, it } from 'vitest';
import { IO } from '../harness/edge.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { unique } from '../harness/sip.ts';
import { ask, nowhere, Site, served } from '../harness/site.ts';

let site: Site | undefined;
const prepare = async () => {
  site = await Site.prepare();
  return site;
};
afterEach(() => site?.close());

describe.each(['MESSAGE', 'INVITE'])('a %s goes to the next server', (method) => {
  it('when the first refuses the connection [3263-4.3-01 3261-16.9-01]', async () => {
    const site = await prepare();
    const second = await site.tcp();
    site.servers('tcp', [
      [await nowhere(), 1],
      [second, 2],
    ]);
    await site.start('sip:core.test');
    await served(await site.client(), second, method);
  });

  it.skipIf(IO === 'core')(
    'when ICMP says that nobody listens there [3263-4.3-01 3261-18.4-01]',
    async () => {
      const site = await prepare();
      const second = await site.udp();
      site.servers('udp', [
        [await nowhere(), 1],
        [second, 2],
      ]);
      await site.start('sip:core.test');
      await served(await site.client(), second, method);
    },
  );

  it('when the first resets the connection in place of an answer [3263-4.3-01 3261-16.9-01]', async () => {
    const site = await prepare();
    const [first, second] = [await site.tcp(), await site.tcp()];
    site.servers('tcp', [
      [first, 1],
      [second, 2],
    ]);
    await site.start('sip:core.test');
    const client = await site.client();
    const callId = ask(client, method);
    await first.next(isRequest(method, callId));
    for (const connection of [...first.connections]) await connection.reset();
    const got = await second.next(isRequest(method, callId));
    second.reply(got, 200, 'OK');
    await client.next(isResponse(200, callId));
  });

  it('when the first answers 503, in a new branch, and hears no more of it [3263-4.3-01]', async () => {
    const site = await prepare();
    const [first, second] = [await site.udp(), await site.udp()];
    site.servers('udp', [
      [first, 1],
      [second, 2],
    ]);
    await site.start('sip:core.test');
    const client = await site.client();
    const callId = ask(client, method);
    const refused = await first.next(isRequest(method, callId));
    first.reply(refused, 503, 'Service Unavailable');
    const got = await second.next(isRequest(method, callId));
    expect(got.message.via[0].branch).not.toBe(refused.message.via[0].branch);
    expect(got.message.via.slice(1)).toEqual(refused.message.via.slice(1));
    expect(got.message.all('Max-Forwards')).toEqual(refused.message.all('Max-Forwards'));
    if (method === 'INVITE') await first.next(isRequest('ACK', callId));
    second.reply(got, 200, 'OK');
    await client.next(isResponse(200, callId));
    expect(client.arrivals.filter(isFinal(callId))).toEqual([]);
    await first.expectNothing();
  });

  it('and when all have refused, the client hears a failure, not the 503 [3263-4.3-01 3261-16.9-01]', async () => {
    const site = await prepare();
    const [first, second] = [await site.udp(), await site.udp()];
    site.servers('udp', [
      [first, 1],
      [second, 2],
    ]);
    await site.start('sip:core.test');
    const client = await site.client();
    const callId = ask(client, method);
    for (const core of [first, second])
      core.reply(await core.next(isRequest(method, callId)), 503, 'Service Unavailable');
    await client.next(isResponse(500, callId));
  });

  it('when the first is silent for twice the answer time [3263-4.3-01]', async () => {
    const site = await prepare();
    const [first, second] = [await site.udp(), await site.udp()];
    site.servers('udp', [
      [first, 1],
      [second, 2],
    ]);
    await site.start('sip:core.test', { clocked: true, settings: { WORKERS: '1' } });
    const client = await site.client();
    const callId = ask(client, method);
    await first.next(isRequest(method, callId));
    await site.server.advance(7_900);
    await second.expectNothing();
    await site.server.advance(150);
    const got = await second.next(isRequest(method, callId));
    second.reply(got, 200, 'OK');
    await client.next(isResponse(200, callId));
    // and the next request is not tried there at all
    first.arrivals.length = 0;
    await site.server.advance(10);
    await served(client, second);
  });
});

describe('after a failover', () => {
  const failedOver = async () => {
    const site = await prepare();
    const [first, second] = [await site.udp(), await site.udp()];
    site.servers('udp', [
      [first, 1],
      [second, 2],
    ]);
    await site.start('sip:core.test');
    const client = await site.client();
    const callId = unique('call-');
    const via = client.via();
    const from = `<sip:u@example.test>;tag=${unique('f')}`;
    const same = { callId, via, from, to: '<sip:bob@example.test>', contact: `<${client.uri('u')};ob>` };
    client.send(client.compose('INVITE', 'sip:bob@example.test', same));
    first.reply(await first.next(isRequest('INVITE', callId)), 503, 'Service Unavailable');
    await first.next(isRequest('ACK', callId));
    const invite = await second.next(isRequest('INVITE', callId));
    return { first, second, client, callId, same, invite };
  };

  it('CANCEL goes to the server that has the INVITE, under its branch [3263-4.3-02]', async () => {
    const { first, second, client, callId, same, invite } = await failedOver();
    second.reply(invite, 180, 'Ringing');
    await client.next(isResponse(180, callId));
    client.send(client.compose('CANCEL', 'sip:bob@example.test', { ...same, via: same.via }));
    const cancel = await second.next(isRequest('CANCEL', callId));
    expect(cancel.message.via[0].branch).toBe(invite.message.via[0].branch);
    second.reply(cancel, 200, 'OK');
    second.reply(invite, 487, 'Request Terminated');
    await client.next(isResponse(487, callId));
    await first.expectNothing();
  });

  it('the ACK to a failure goes to the server that failed [3263-4.3-02]', async () => {
    const { first, second, client, callId, invite } = await failedOver();
    second.reply(invite, 486, 'Busy Here');
    const ack = await second.next(isRequest('ACK', callId));
    expect(ack.message.via[0].branch).toBe(invite.message.via[0].branch);
    await client.next(isResponse(486, callId));
    await first.expectNothing();
  });

  it('a retransmission of the client is absorbed [3263-4.3-02]', async () => {
    const { first, second, client, callId, same, invite } = await failedOver();
    second.reply(invite, 180, 'Ringing');
    await client.next(isResponse(180, callId));
    client.send(client.compose('INVITE', 'sip:bob@example.test', same));
    second.reply(invite, 200, 'OK');
    await client.next(isResponse(200, callId));
    await first.expectNothing();
    await second.expectNothing();
  });
});

describe('without transaction state', () => {
  it('the next request goes to the second server once the first has refused [3263-4.3-01]', async () => {
    const site = await prepare();
    const second = await site.tcp();
    site.servers('tcp', [
      [await nowhere(), 1],
      [second, 2],
    ]);
    await site.start('sip:core.test', { settings: { FORWARDING: 'stateless', WORKERS: '1' } });
    const client = await site.client();
    await client.next(isResponse(500, ask(client)));
    await served(client, second);
  });
});
