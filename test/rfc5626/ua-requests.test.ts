/** What the user agent's requests look like, over which flow they go, and what answers do to it: RFC 5626 4.3. */
import { afterEach, describe, expect, it } from 'vitest';
import { Endpoint } from '../../src/net/endpoint.ts';
import { isFinal, isRequest } from '../harness/inbox.ts';
import { answering, Desk, grant, proxyUri, registered } from '../harness/phone.ts';
import { compose, newBranch, parseNameAddr, response } from '../harness/sip.ts';

const desk = new Desk();
afterEach(() => desk.close());

const BOB = 'sip:bob@example.test';

describe('a request of the user agent', () => {
  it.each(['INVITE', 'SUBSCRIBE', 'OPTIONS', 'MESSAGE'])(
    '%s has outbound and path in Supported, and goes over the registered flow through the proxy [UA-4.3-01 UA-4.3-03 3327-5.1-01 UA-4.2.1-14]',
    async (method) => {
      const edge = await desk.tcp();
      const phone = desk.phone([edge]);
      const first = await registered(phone, edge);
      const answer =
        method === 'INVITE'
          ? phone.agent.invite(BOB).catch(() => {})
          : phone.agent.request(method, BOB, { headers: [['Event', 'presence']] });
      const got = await edge.next(isRequest(method));
      expect(got.from).toEqual(first.from);
      expect(edge.connections).toHaveLength(1);
      expect(got.message.all('Supported')).toEqual(['outbound', 'path', 'gruu']);
      expect(got.message.all('Route')).toEqual([`<${proxyUri(edge)};lr>`]);
      expect(got.message.uri).toBe(BOB);
      edge.reply(got, 404, 'Not Found');
      await answer;
    },
  );

  it('that forms a dialog has ob in its Contact, and no reg-id; others have no Contact [UA-4.3-07 UA-4.3-08 GR-11.3-01]', async () => {
    const edge = await desk.udp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    const calling = phone.agent.invite(BOB).catch(() => {});
    const invite = await edge.next(isRequest('INVITE'));
    const contact = parseNameAddr(invite.message.header('Contact') ?? '');
    expect(contact.uriParams.has('ob')).toBe(true);
    expect(contact.params.has('reg-id')).toBe(false);
    expect(contact.params.get('+sip.instance')).toBe(`"<${phone.agent.instance}>"`);
    expect([contact.host, contact.port]).toEqual([invite.from.host, invite.from.port]);
    edge.reply(invite, 486, 'Busy Here');
    await calling;
    const answer = phone.agent.request('MESSAGE', BOB);
    const message = await edge.next(isRequest('MESSAGE'));
    expect(message.message.header('Contact')).toBeUndefined();
    edge.reply(message, 200, 'OK');
    await answer;
  });

  it('hides the device where that is asked for: no instance-id, the temporary GRUU [UA-4.1-07]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge], { anonymous: true });
    await registered(phone, edge, {
      params: ';pub-gruu="sip:dora@example.test;gr=x";temp-gruu="sip:t.1@example.test;gr"',
    });
    const calling = phone.agent.invite(BOB).catch(() => {});
    const got = await edge.next(isRequest('INVITE'));
    expect(got.message.header('Contact')).toBe('<sip:t.1@example.test;gr;ob>');
    edge.reply(got, 486, 'Busy Here');
    await calling;
  });

  it('while no flow is up goes over a new one, with ob also before any registration [UA-4.3-05 UA-4.3-08]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    phone.start();
    edge.reply(await edge.next(isRequest('REGISTER')), 403, 'Forbidden');
    await phone.event('failed');
    const answer = phone.agent.request('SUBSCRIBE', BOB, { headers: [['Event', 'ua-profile']] });
    const got = await edge.next(isRequest('SUBSCRIBE'));
    expect(parseNameAddr(got.message.header('Contact') ?? '').uriParams.has('ob')).toBe(true);
    edge.reply(got, 200, 'OK', [['Contact', '<sip:notifier@example.test>']]);
    const { status, dialog } = await answer;
    expect([status, dialog?.target]).toEqual([200, 'sip:notifier@example.test']);
  });

  it('goes to the address that SRV gave for the proxy, by the transport it gave [UA-4.3-02 UA-3.3-01]', async () => {
    const edge = await desk.tcp();
    const asked: string[] = [];
    const phone = desk.phone(['sip:proxy.test'], {
      locate: async (uri) => {
        asked.push(uri.host);
        const address = Endpoint.parse(edge.host, edge.port) as Endpoint;
        return {
          targets: [{ transport: 2, host: 'edge.test', address, priority: 0, weight: 0 }],
          failure: '',
          ttl: 1,
        };
      },
    });
    await registered(phone, edge);
    const answer = phone.agent.request('OPTIONS', BOB);
    edge.reply(await edge.next(isRequest('OPTIONS')), 200, 'OK');
    expect((await answer).status).toBe(200);
    expect(asked).toEqual(['proxy.test']);
  });

  it('that is challenged comes again with the same Call-ID, From and To, and the next CSeq [3261-22-05]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge], { password: 'secret' });
    await registered(phone, edge);
    const answer = phone.agent.request('MESSAGE', BOB, { body: 'hi' });
    const first = await edge.next(isRequest('MESSAGE'));
    edge.reply(first, 407, 'Proxy Authentication Required', [
      ['Proxy-Authenticate', 'Digest realm="example.test", nonce="n1", algorithm=SHA-256, qop="auth"'],
    ]);
    const second = await edge.next(isRequest('MESSAGE'));
    for (const name of ['Call-ID', 'From', 'To'])
      expect(second.message.header(name)).toBe(first.message.header(name));
    expect(second.message.cseq.number).toBe(first.message.cseq.number + 1);
    expect(second.message.via[0].branch).not.toBe(first.message.via[0].branch);
    expect(second.message.header('Proxy-Authorization')).toMatch(/^Digest username="dora", .*nonce="n1"/);
    edge.reply(second, 200, 'OK');
    expect((await answer).status).toBe(200);
  });

  it('takes no response whose branch is not exactly its own', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    const answer = phone.agent.request('MESSAGE', BOB);
    const got = await edge.next(isRequest('MESSAGE'));
    const good = response(got.message, 200, 'OK').toString('latin1');
    const forged = good.replace(/(branch=[^;]*)[0-9a-f]/, (_all, start: string) => `${start}x`);
    edge.send(Buffer.from(forged.replace(' 200 OK', ' 403 Forbidden'), 'latin1'));
    edge.send(
      Buffer.from(good.replace(/(\r\nVia: [^\r]*)/, '$1, SIP/2.0/TCP other.test;branch=z9hG4bKo'), 'latin1'),
    );
    edge.send(Buffer.from(good, 'latin1'));
    expect((await answer).headers.filter(([name]) => name === 'via')).toHaveLength(1);
    expect((await answer).status).toBe(200);
  });

  it('refused again with the same challenge is given up with that response', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge], { password: 'secret' });
    await registered(phone, edge);
    const answer = phone.agent.request('MESSAGE', BOB);
    for (let n = 0; n < 2; n++)
      edge.reply(await edge.next(isRequest('MESSAGE')), 407, 'Proxy Authentication Required', [
        ['Proxy-Authenticate', `Digest realm="example.test", nonce="n${n}", qop="auth"`],
      ]);
    expect((await answer).status).toBe(407);
  });

  it('is repeated over UDP at the times of RFC 3261, and rejected with a code when nobody answers', async () => {
    const edge = answering(await desk.udp());
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    edge.keepRetransmissions = true;
    const answer = phone.agent.request('MESSAGE', BOB);
    const failed = expect(answer).rejects.toMatchObject({ code: 'timeout' });
    await edge.next(isRequest('MESSAGE'));
    await phone.advance(31.9);
    expect(edge.arrivals.filter(isRequest('MESSAGE'))).toHaveLength(10);
    await phone.advance(0.2);
    await failed;
  });

  it('that was on its way when the flow broke is rejected with a code', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    const answer = phone.agent.request('MESSAGE', BOB);
    const failed = expect(answer).rejects.toMatchObject({ code: 'transport' });
    await edge.next(isRequest('MESSAGE'));
    await edge.connections[0].reset();
    await failed;
  });

  it.each([
    ['a header with a line end', 'MESSAGE', BOB, { headers: [['X', 'a\r\nVia: b']] }],
    ['a header that is ours', 'MESSAGE', BOB, { headers: [['Call-ID', 'mine']] }],
    ['a method that is no token', 'ME SSAGE', BOB, {}],
    ['a URI that is none', 'MESSAGE', 'sip:a b', {}],
  ] as const)('with %s is refused before anything is sent', async (_what, method, uri, options) => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    await expect(phone.agent.request(method, uri, options as object)).rejects.toMatchObject({
      code: 'option',
    });
    expect(edge.arrivals).toEqual([]);
  });
});

describe('a request that comes', () => {
  /** A request of the edge down the flow. */
  const down = (method: string, headers: [string, string][] = [], toTag = '') =>
    compose(`${method} sip:dora@example.test SIP/2.0`, [
      ['Via', `SIP/2.0/TCP 192.0.2.1:5060;branch=${newBranch()};rport`],
      ['Max-Forwards', '70'],
      ['From', '<sip:bob@example.test>;tag=b'],
      ['To', `<sip:dora@example.test>${toTag && `;tag=${toTag}`}`],
      ['Call-ID', newBranch()],
      ['CSeq', `7 ${method}`],
      ['Contact', '<sip:bob@192.0.2.7>'],
      ...headers,
    ]);

  it('is given to whoever iterates, in order, and answered as he says, with received and rport', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    const requests = phone.agent.requests();
    edge.send(Buffer.concat([down('MESSAGE'), down('INFO')]));
    const [one, two] = [await requests.next(), await requests.next()];
    expect([one.value?.method, two.value?.method]).toEqual(['MESSAGE', 'INFO']);
    two.value?.respond(488);
    const { message } = await edge.next(isFinal());
    expect(message.startLine).toBe('SIP/2.0 488 Not Acceptable Here');
    expect(message.via[0].params.get('received')).toBe(edge.host);
    expect(message.via[0].params.get('rport')).toBe(`${edge.port}`);
    one.value?.respond(200);
    expect((await edge.next(isFinal())).message.status).toBe(200);
    expect(() => one.value?.respond(200)).toThrow(expect.objectContaining({ code: 'state' }));
    const rest = requests.next();
    await phone.agent.stop({ remove: false });
    expect(await rest).toEqual({ done: true, value: undefined });
  });

  it('finds OPTIONS answered and everything else unavailable while nobody iterates', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    edge.send(down('OPTIONS'));
    const options = await edge.next(isFinal());
    expect(options.message.status).toBe(200);
    expect(options.message.all('Supported')).toEqual(['outbound', 'path', 'gruu']);
    expect(options.message.all('Allow')).toContain('MESSAGE');
    edge.send(down('MESSAGE'));
    expect((await edge.next(isFinal())).message.status).toBe(480);
  });

  it('for a dialog that is not there, or with an extension that is not known, is refused by the agent', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    phone.agent.requests();
    edge.send(down('INFO', [], 'unknown'));
    expect((await edge.next(isFinal())).message.status).toBe(481);
    edge.send(down('OPTIONS', [['Require', 'outbound, 100rel, foo']]));
    const { message } = await edge.next(isFinal());
    expect(message.status).toBe(420);
    expect(message.all('Unsupported')).toEqual(['100rel', 'foo']);
  });

  it('a second time by another way, while the first is there, is a loop', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    phone.agent.requests();
    const first = down('MESSAGE').toString('latin1');
    edge.send(Buffer.from(first, 'latin1'));
    edge.send(Buffer.from(first.replace(/branch=[^;]+/, 'branch=z9hG4bKother'), 'latin1'));
    expect((await edge.next(isFinal())).message.status).toBe(482);
  });

  it('that nothing can be made of is answered 400, or ends the stream; the agent goes on', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    edge.send(
      Buffer.from(down('OPTIONS').toString('latin1').replace('CSeq: 7 OPTIONS', 'CSeq: x'), 'latin1'),
    );
    expect((await edge.next(isFinal())).message.status).toBe(400);
    edge.send(Buffer.from('\0\0\0\0'));
    expect(await phone.event('lost')).toMatchObject({ cause: 'malformed' });
  });

  it('is answered with the instance-id in Contact where it forms a dialog [UA-4.1-06]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    const requests = phone.agent.requests();
    edge.send(down('SUBSCRIBE', [['Record-Route', '<sip:r1.test;lr>, <sip:r2.test;lr>']]));
    const { value: request } = await requests.next();
    request?.respond(200, 'OK', { headers: [['Expires', '60']] });
    const { message } = await edge.next(isFinal());
    expect(parseNameAddr(message.header('Contact') ?? '').params.get('+sip.instance')).toBe(
      `"<${phone.agent.instance}>"`,
    );
    expect(message.all('Record-Route')).toEqual(['<sip:r1.test;lr>', '<sip:r2.test;lr>']);
    const notified = request?.dialog?.request('NOTIFY', {
      headers: [
        ['Event', 'presence'],
        ['Subscription-State', 'active'],
      ],
    });
    const notify = await edge.next(isRequest('NOTIFY'));
    expect(notify.message.uri).toBe('sip:bob@192.0.2.7');
    expect(notify.message.all('Route')).toEqual(['<sip:r1.test;lr>', '<sip:r2.test;lr>']);
    expect(notify.message.header('To')).toBe('<sip:bob@example.test>;tag=b');
    edge.reply(notify, 200, 'OK');
    expect((await notified)?.status).toBe(200);
  });
});

describe('a NOTIFY', () => {
  it('that overtakes the 2xx of its SUBSCRIBE is given out, later ones have the dialog, and the last one ends it', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    const requests = phone.agent.requests();
    const answer = phone.agent.request('SUBSCRIBE', BOB, { headers: [['Event', 'presence']] });
    const got = await edge.next(isRequest('SUBSCRIBE'));
    const notify = (cseq: number, state = 'active') =>
      compose(`NOTIFY ${parseNameAddr(got.message.header('Contact') ?? '').uri} SIP/2.0`, [
        ['Via', `SIP/2.0/TCP 192.0.2.1:5060;branch=${newBranch()}`],
        ['Max-Forwards', '70'],
        ['From', `<${BOB}>;tag=n`],
        ['To', got.message.header('From') ?? ''],
        ['Call-ID', got.message.callId],
        ['CSeq', `${cseq} NOTIFY`],
        ['Contact', '<sip:notifier@example.test>'],
        ['Event', 'presence'],
        ['Subscription-State', state],
      ]);
    edge.send(notify(1));
    const early = (await requests.next()).value;
    expect([early?.method, early?.dialog]).toEqual(['NOTIFY', undefined]);
    early?.respond(200);
    await edge.next(isFinal());
    const to = `<${BOB}>;tag=n`;
    edge.send(
      compose('SIP/2.0 200 OK', [
        ['Via', got.message.header('Via') ?? ''],
        ['From', got.message.header('From') ?? ''],
        ['To', to],
        ['Call-ID', got.message.callId],
        ['CSeq', got.message.header('CSeq') ?? ''],
        ['Contact', '<sip:notifier@example.test>'],
      ]),
    );
    const { dialog } = await answer;
    edge.send(notify(2));
    const late = (await requests.next()).value;
    expect(late?.dialog).toBe(dialog);
    late?.respond(200);
    await edge.next(isFinal());
    expect(dialog?.ended).toBe(false);
    edge.send(notify(3, 'terminated;reason=timeout'));
    (await requests.next()).value?.respond(200);
    expect((await edge.next(isFinal())).message.status).toBe(200);
    expect(dialog?.ended).toBe(true);
    edge.send(notify(4));
    expect((await edge.next(isFinal())).message.status).toBe(481);
  });
});

describe('options', () => {
  it.each([
    ['instanceId', { instanceId: 'urn:foo:1' }],
    ['proxies', { proxies: [] }],
    ['proxies', { proxies: ['sip:a.test', 'sip:a.test'] }],
    ['proxies', { proxies: ['http://a.test'] }],
    ['aor', { aor: 'dora' }],
    ['dataDir', { dataDir: undefined }],
    ['expires', { expires: 0 }],
    ['pingSeconds', { pingSeconds: 0 }],
    ['backoff.most', { backoff: { most: -1 } }],
  ])('with a bad %s are refused by name [UA-4.1-05]', async (name, options) => {
    const edge = await desk.tcp();
    expect(() => desk.phone([edge], options as object)).toThrow(
      expect.objectContaining({ code: 'option', message: expect.stringMatching(`^${name} is `) }),
    );
  });

  it('start is refused by its signal, while the agent goes on trying', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    const controller = new AbortController();
    const started = phone.agent.start({ signal: controller.signal });
    const got = await edge.next(isRequest('REGISTER'));
    controller.abort();
    await expect(started).rejects.toMatchObject({ code: 'aborted' });
    grant(edge, got);
    await phone.event('registered');
  });
});
