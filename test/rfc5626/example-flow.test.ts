/**
 * The call flow of RFC 5626 section 9, with the elements of this project: Dora's phone is our user agent, EA and EB are
 * two edges, HUB is registrar and authoritative proxy; Milo, the caller from elsewhere, is the test. Every message is
 * read between two elements, and what each hop adds, takes and changes is compared whole, header by header. The numbers
 * are those of section 9.
 *
 * What is not as there: our elements say more (Flow-Timer, keep, Date, Max-Breadth, rport). HUB tries the newest flow
 * first, so Dora registers by EB first. EA sends what is for CFG by HUB, its upstream. And HUB records itself in calls to a device with an instance-id (RFC 5627 6.2),
 * so that 29 to 34 go by it.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Dial, dialTcp } from '../../src/ua/connection.ts';
import { numericOnly } from '../../src/ua/locating.ts';
import type { IncomingRequest } from '../../src/ua/request.ts';
import { TCP } from '../../src/wire/via.ts';
import { type Address, TcpAgent, UdpAgent } from '../harness/agent.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { type Arrival, isCrlf, isRequest, isResponse, type Matcher } from '../harness/inbox.ts';
import { Desk, type Phone } from '../harness/phone.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { DOMAIN } from '../harness/registrar.ts';
import { type Header, parseMessage, type SipMessage } from '../harness/sip.ts';
import { changes, fields, type Tap, Wire } from '../harness/tap.ts';

const INSTANCE = 'urn:uuid:6f1d7c52-3b0e-4a7e-9d57-0c2b9e51a4d8';
const DORA = `sip:dora@${DOMAIN}`;
const TOKEN = '[A-Za-z0-9_-]{22,}';
const phoneHost = freshHost();
const wire = new Wire();
const desk = new Desk();

interface Edge {
  name: string;
  server: Holdfast;
  tap: Tap;
}
let hub: Holdfast;
let ea: Edge;
let eb: Edge;
let dora: Phone;
let requests: AsyncIterator<IncomingRequest, undefined>;
let milo: UdpAgent;
let pongs = 0;
const configured = Promise.withResolvers<void>();
const ebUp = Promise.withResolvers<void>();
let located = 0;

const at = ({ tap }: Edge) => `${tap.host}:${tap.port}`;
const uriOf = (edge: Edge) => `sip:${at(edge)};transport=tcp`;
const netmask = (hosts: string[]) => hosts.map((host) => `${host}/32`).join(',');

beforeAll(async () => {
  const listening = async () => {
    const host = freshHost();
    return { host, port: await freePort(host) };
  };
  const common = { WORKERS: '1', MAX_FLOWS: '256' };
  const hubAt = await listening();
  const ways = [await wire.tap('HUB', hubAt, 'EA'), await wire.tap('HUB', hubAt, 'EB')];
  const edgesAt = [await listening(), await listening()];
  const own = netmask([...edgesAt, ...ways].map(({ host }) => host));
  hub = await Holdfast.start({
    ...hubAt,
    settings: { ...common, DOMAINS: DOMAIN, STORE: 'memory:', TRUSTED: own },
  });
  const edge = async (name: string, { host, port }: Address, way: Tap): Promise<Edge> => {
    const tap = await wire.tap(name, { host, port });
    const LISTEN = `udp:${host}:${port},tcp:${host}:${port}/${tap.host}:${tap.port}`;
    const UPSTREAM = `sip:${way.host}:${way.port};transport=tcp`;
    const settings = { ...common, LISTEN, UPSTREAM, TRUSTED: netmask([tap.host]) };
    return { name, tap, server: await Holdfast.start({ host, port, settings }) };
  };
  [ea, eb] = await Promise.all([edge('EA', edgesAt[0], ways[0]), edge('EB', edgesAt[1], ways[1])]);
  const miloHost = freshHost();
  milo = desk.keep(
    await UdpAgent.open({ host: miloHost, port: await freePort(miloHost), peer: hubAt, name: 'Milo' }),
  );
  wire.name(phoneHost, 'Dora');
  wire.name(miloHost, 'Milo');
  wire.name(hubAt.host, 'HUB');

  const counting: Dial = (target, handler, options) =>
    dialTcp(
      target,
      {
        ...handler,
        pong: () => {
          pongs++;
          handler.pong();
        },
      },
      options,
    );
  dora = desk.phone([uriOf(ea), uriOf(eb)], {
    aor: DORA,
    instanceId: INSTANCE,
    localAddress: phoneHost,
    gruu: false,
    dials: { [TCP]: counting },
    locate: async (uri, transports) => {
      if (++located <= 2) {
        await configured.promise; // the two flows; what asks next wants to say something before
        if (uri.host === ea.tap.host) await ebUp.promise;
      }
      return numericOnly(uri, transports);
    },
  });
  requests = dora.agent.requests();
});
afterAll(async () => {
  await desk.close();
  await Promise.all([hub, ea?.server, eb?.server].map((server) => server?.stop()));
  await wire.close();
});

/** The next message of a hop: nothing else may come before it. */
const hop = async (from: string, to: string, matcher?: Matcher): Promise<SipMessage> =>
  (await wire.between(from, to).only(matcher)).message;

const branchOf = (message: SipMessage) => message.via[0].params.get('branch') as string;
const ownVia = (address: string, transport = 'TCP') =>
  expect.stringMatching(
    new RegExp(`^SIP/2\\.0/${transport} ${address.replaceAll('.', '\\.')};(rport;)?branch=z9hG4bK\\S+$`),
  );
/** What came with this Via, as the next element passes it on. */
const received = (via: string, host: string, port?: number) => {
  const [sentBy, ...params] = via.split(';');
  const rest = params.map((param) => (param === 'rport' ? `rport=${port}` : param));
  return [sentBy, `received=${host}`, ...rest].join(';');
};
/** The same with the Via of an edge, which names its tap. HUB's names where its connections leave from. */
const receivedFrom = (via: string) => {
  const edge = [ea, eb].find((one) => via.includes(` ${at(one)};`));
  return edge ? received(via, edge.server.host) : via;
};
/** Of a response, what a proxy does to it. */
const viaTaken = (before: SipMessage) => ({ via: [before.all('Via'), before.all('Via').slice(1)] });
const hubAddress = () => `${hub.host}:${hub.port}`;
/** Where HUB has recorded itself, with the token of the caller's flow. */
const hubRoute = (transport: string) =>
  expect.stringMatching(`^<sip:${TOKEN}@${hubAddress()}${transport};lr>$`);
const contactAt = (port: number) => `sip:dora@${phoneHost}:${port};transport=tcp`;
const binding = (port: number, regId: number) =>
  `<${contactAt(port)}>;+sip.instance="<${INSTANCE}>";reg-id=${regId}`;

interface Registered {
  port: number;
  path: string;
  request: SipMessage;
}

/** Four messages of a registration by this edge (9 to 12), `known`: the bindings that are there besides. */
async function registration(
  edge: Edge,
  regId: number,
  cseq: number,
  known: Registered[],
): Promise<Registered> {
  const { name } = edge;
  const sent = await hop('Dora', name, isRequest('REGISTER'));
  const port = sent.via[0].port as number;
  const [via] = sent.all('Via');
  expect(fields(sent)).toEqual({
    start: [`REGISTER sip:${DOMAIN} SIP/2.0`],
    via: [`SIP/2.0/TCP ${phoneHost}:${port};branch=${branchOf(sent)};rport;keep`],
    'max-forwards': ['70'],
    route: [`<${uriOf(edge)};lr>`],
    from: [expect.stringMatching(`^<${DORA}>;tag=\\w+$`)],
    to: [`<${DORA}>`],
    'call-id': [sent.callId],
    cseq: [`${cseq} REGISTER`],
    contact: [binding(port, regId)],
    expires: ['3600'],
    supported: ['path', 'outbound'],
    'content-length': ['0'],
    body: [''],
  });

  const passed = await hop(name, 'HUB', isRequest('REGISTER'));
  const [path] = passed.all('Path');
  const fromDora = received(via, phoneHost, port);
  expect(changes(sent, passed)).toEqual({
    via: [[via], [ownVia(at(edge)), fromDora]],
    'max-forwards': [['70'], ['69']],
    route: [[`<${uriOf(edge)};lr>`], []],
    path: [[], [expect.stringMatching(`^<sip:${TOKEN}@${at(edge)};transport=tcp;lr;ob>$`)]],
  });

  const answer = await hop('HUB', name, isResponse(200, sent.callId));
  const all = [...known, { port, regId }] as { port: number; regId: number }[];
  expect(fields(answer)).toEqual({
    start: ['SIP/2.0 200 OK'],
    via: [receivedFrom(passed.all('Via')[0]), fromDora],
    from: sent.all('From'),
    to: [expect.stringMatching(`^<${DORA}>;tag=\\w+$`)],
    'call-id': [sent.callId],
    cseq: [`${cseq} REGISTER`],
    contact: expect.arrayContaining(
      all.map((one) =>
        expect.stringMatching(`^${escaped(binding(one.port, one.regId))};expires=3[56]\\d\\d$`),
      ),
    ),
    path: [path],
    supported: ['path', 'outbound'],
    require: ['outbound'],
    date: answer.all('Date'),
    'content-length': ['0'],
    body: [''],
  });
  expect(answer.all('Contact')).toHaveLength(all.length);

  const last = await hop(name, 'Dora', isResponse(200, sent.callId));
  expect(changes(answer, last)).toEqual({
    via: [answer.all('Via'), [fromDora.replace(/;keep$/, ';keep=120')]],
    'flow-timer': [[], ['120']],
  });
  return { port, path, request: sent };
}

const escaped = (text: string) => text.replace(/[.+?()[\]\\*^$|]/g, '\\$&');

const flows: Record<'a' | 'b' | 'again', Registered> = {} as never;

describe('the example of RFC 5626 section 9', () => {
  it('1 to 8: before any registration Dora asks CFG for her configuration, over a flow that brings the NOTIFY back [UA-4.3-05 UA-4.3-08]', async () => {
    const cfg = desk.keep(
      await UdpAgent.open({ host: freshHost(), peer: { host: hub.host, port: hub.port }, name: 'CFG' }),
    );
    wire.name(cfg.host, 'CFG');
    dora.start();
    const target = cfg.uri('device');
    const asked = dora.agent.request('SUBSCRIBE', target, {
      headers: [
        ['Event', 'ua-profile;profile-type=device'],
        ['Expires', '0'],
      ],
    });
    const sent = await hop('Dora', 'EA'); // 1
    const port = sent.via[0].port as number;
    const [via] = sent.all('Via');
    expect(fields(sent)).toEqual({
      start: [`SUBSCRIBE ${target} SIP/2.0`],
      via: [`SIP/2.0/TCP ${phoneHost}:${port};branch=${branchOf(sent)};rport;keep`],
      'max-forwards': ['70'],
      route: [`<${uriOf(ea)};lr>`],
      from: [expect.stringMatching(`^<${DORA}>;tag=\\w+$`)],
      to: [`<${target}>`],
      'call-id': [sent.callId],
      cseq: ['1 SUBSCRIBE'],
      contact: [`<${contactAt(port)};ob>;+sip.instance="<${INSTANCE}>"`],
      supported: ['outbound', 'path', 'gruu'],
      allow: sent.all('Allow'),
      event: ['ua-profile;profile-type=device'],
      expires: ['0'],
      'content-length': ['0'],
      body: [''],
    });
    const fromDora = received(via, phoneHost, port);
    const passed = await hop('EA', 'HUB'); // 2
    const [route] = passed.all('Record-Route');
    expect(changes(sent, passed)).toEqual({
      via: [[via], [ownVia(at(ea)), fromDora]],
      'max-forwards': [['70'], ['69']],
      route: [[`<${uriOf(ea)};lr>`], []],
      'record-route': [[], [expect.stringMatching(`^<sip:${TOKEN}@${at(ea)};transport=tcp;lr>$`)]],
    });
    const came = await cfg.only(isRequest('SUBSCRIBE'));
    expect(came.message.all('Record-Route')).toEqual([route]);
    const headers: Header[] = [
      ['Contact', `<${target}>`],
      ['Expires', '0'],
    ];
    const ok = parseMessage(cfg.reply(came, 200, 'OK', headers)) as SipMessage; // 3
    await hop('HUB', 'EA');
    const back = await hop('EA', 'Dora'); // 4
    expect(changes(ok, back)).toEqual({
      via: [ok.all('Via'), [fromDora.replace(/;keep$/, ';keep=120')]],
    });
    expect((await asked).status).toBe(200);

    const line = desk.keep(
      await TcpAgent.connect({ peer: { host: ea.tap.host, port: ea.tap.port }, localHost: cfg.host }),
    );
    line.send(
      line.compose('NOTIFY', `${contactAt(port)};ob`, {
        from: ok.header('To') as string,
        to: sent.header('From') as string,
        callId: sent.callId,
        route: [route],
        contact: `<${target}>`,
        headers: [
          ['Event', 'ua-profile;profile-type=device'],
          ['Subscription-State', 'terminated;reason=timeout'],
          ['Content-Type', 'message/external-body; access-type="URL"; URL="http://cfg.example.net/dora"'],
        ],
      }),
    );
    const notify = await hop('CFG', 'EA'); // 5
    const down = await hop('EA', 'Dora'); // 6
    const fromCfg = received(notify.all('Via')[0], line.host, line.port);
    expect(changes(notify, down)).toEqual({
      via: [notify.all('Via'), [ownVia(at(ea)), fromCfg]],
      'max-forwards': [['70'], ['69']],
      route: [[route], []],
    });
    const { value: incoming } = await requests.next();
    expect(incoming?.header('content-type')).toMatch(/^message\/external-body/);
    incoming?.respond(200);
    const done = await hop('Dora', 'EA'); // 7
    expect([done.startLine, done.all('Via')]).toEqual(['SIP/2.0 200 OK', down.all('Via')]);
    expect(changes(done, (await line.only()).message)).toEqual(viaTaken(done)); // 8
    await hop('EA', 'CFG');
    expect(wire.rest()).toEqual({});
  });

  it('9 to 16: Dora registers by both edges, each with a Path and a reg-id of its own [UA-4.2.1-05 UA-4.2.1-07 UA-4.2.1-13 EP-5.1-03 EP-5.1-08 RG-6-18]', async () => {
    configured.resolve();
    await dora.event('registered');
    flows.b = await registration(eb, 2, 1, []);
    ebUp.resolve();
    await dora.event('registered');
    flows.a = await registration(ea, 1, 1, [{ ...flows.b, regId: 2 } as Registered]);
    expect(flows.a.request.callId).not.toBe(flows.b.request.callId);
    expect(flows.a.port).not.toBe(flows.b.port);
    expect(wire.rest()).toEqual({});
  });

  it('17 to 20: CR LF CR LF after 96 s by Flow-Timer, CR LF back, on each flow [UA-4.4.1-01]', async () => {
    await dora.advance(95.9);
    expect(wire.rest()).toEqual({});
    await dora.advance(0.2);
    while (pongs < 2) await new Promise(setImmediate);
    for (const { name } of [ea, eb]) {
      for (let half = 0; half < 2; half++) await wire.between('Dora', name).only(isCrlf);
      await wire.between(name, 'Dora').only(isCrlf);
    }
    expect(wire.rest()).toEqual({});
  });

  it('21 to 34: EA has been restarted, Dora does not know it; Milo calls, and is put through by EB [EP-5.3.1-01 EP-5.3.1-05 AP-7-02 AP-7-05]', async () => {
    wire.stranded.add(phoneHost);
    await ea.server.kill('SIGKILL');
    await ea.server.launch();

    const invite = milo.compose('INVITE', DORA, {
      from: '<sip:milo@other.example>;tag=m1',
      callId: 'call-in-9',
      contact: `<${milo.uri('milo')}>`,
      headers: [['Content-Type', 'application/sdp']],
      body: 'offer',
    });
    milo.send(invite);
    const sent = parseMessage(invite) as SipMessage; // 21
    const fromMilo = received(sent.all('Via')[0], milo.host, milo.port);

    const toEa = await hop('HUB', 'EA'); // 22
    expect(changes(sent, toEa)).toEqual({
      start: [[`INVITE ${DORA} SIP/2.0`], [`INVITE ${contactAt(flows.a.port)} SIP/2.0`]],
      via: [sent.all('Via'), [ownVia(hubAddress()), fromMilo]],
      'max-forwards': [['70'], ['69']],
      route: [[], [flows.a.path]],
      'record-route': [[], [hubRoute(';transport=tcp'), hubRoute('')]],
      'max-breadth': [[], ['60']],
    });
    const hubRoutes = toEa.all('Record-Route');

    const failed = await hop('EA', 'HUB'); // 23
    expect(fields(failed)).toEqual({
      start: ['SIP/2.0 430 Flow Failed'],
      via: [receivedFrom(toEa.all('Via')[0]), fromMilo],
      from: sent.all('From'),
      to: [expect.stringMatching(`^<${DORA}>;tag=\\w+$`)],
      'call-id': ['call-in-9'],
      cseq: ['1 INVITE'],
      'content-length': ['0'],
      body: [''],
    });
    const noted = await hop('HUB', 'EA');
    expect(fields(noted)).toEqual({
      start: [`ACK ${contactAt(flows.a.port)} SIP/2.0`],
      via: [toEa.all('Via')[0]],
      route: [flows.a.path],
      'max-forwards': ['70'],
      from: sent.all('From'),
      to: failed.all('To'),
      'call-id': ['call-in-9'],
      cseq: ['1 ACK'],
      'content-length': ['0'],
      body: [''],
    });

    const toEb = await hop('HUB', 'EB'); // 24
    expect(changes(toEa, toEb)).toEqual({
      start: [[toEa.startLine], [`INVITE ${contactAt(flows.b.port)} SIP/2.0`]],
      via: [toEa.all('Via'), [ownVia(hubAddress()), fromMilo]],
      route: [[flows.a.path], [flows.b.path]],
    });
    expect(branchOf(toEb)).not.toBe(branchOf(toEa));

    const recordRoute = flows.b.path.replace(';ob>', '>');
    const toDora = await hop('EB', 'Dora'); // 25
    expect(changes(toEb, toDora)).toEqual({
      via: [toEb.all('Via'), [ownVia(at(eb)), receivedFrom(toEb.all('Via')[0]), fromMilo]],
      'max-forwards': [['69'], ['68']],
      route: [[flows.b.path], []],
      'record-route': [hubRoutes, [recordRoute, ...hubRoutes]],
    });

    const { value: incoming } = await requests.next();
    expect(incoming?.text).toBe('offer');
    const accepted = incoming?.accept({ body: 'answer' });
    const fromDora = await hop('Dora', 'EB'); // 26
    expect(fields(fromDora)).toEqual({
      start: ['SIP/2.0 200 OK'],
      via: toDora.all('Via'),
      from: sent.all('From'),
      to: [expect.stringMatching(`^<${DORA}>;tag=\\w+$`)],
      'call-id': ['call-in-9'],
      cseq: ['1 INVITE'],
      supported: ['outbound', 'path', 'gruu'],
      'record-route': [recordRoute, ...hubRoutes],
      contact: [`<${contactAt(flows.b.port)}>;+sip.instance="<${INSTANCE}>"`],
      'content-type': ['application/sdp'],
      'content-length': ['6'],
      body: ['answer'],
    });
    const fromEb = await hop('EB', 'HUB'); // 27
    expect(changes(fromDora, fromEb)).toEqual(viaTaken(fromDora));
    const answer = (await milo.only(isResponse(200))).message; // 28
    expect(changes(fromEb, answer)).toEqual(viaTaken(fromEb));

    const routes = answer.all('Record-Route').reverse();
    const send = (method: string, cseq: number): SipMessage => {
      const request = milo.compose(method, contactAt(flows.b.port), {
        from: '<sip:milo@other.example>;tag=m1',
        to: answer.header('To') as string,
        callId: 'call-in-9',
        cseq,
        route: routes,
      });
      milo.send(request);
      return parseMessage(request) as SipMessage;
    };
    /** By HUB, which has recorded itself, and EB down the flow. */
    const inside = async (request: SipMessage): Promise<SipMessage> => {
      const { method } = request;
      const [via] = request.all('Via');
      const passed = await hop('HUB', 'EB', isRequest(method));
      const stamped = received(via, milo.host, milo.port);
      expect(changes(request, passed)).toEqual({
        via: [[via], [ownVia(hubAddress()), stamped]],
        'max-forwards': [['70'], ['69']],
        route: [routes, [recordRoute]],
      });
      const down = await hop('EB', 'Dora', isRequest(method));
      expect(changes(passed, down)).toEqual({
        via: [passed.all('Via'), [ownVia(at(eb)), receivedFrom(passed.all('Via')[0]), stamped]],
        'max-forwards': [['69'], ['68']],
        route: [[recordRoute], []],
      });
      return down;
    };
    await inside(send('ACK', 1)); // 29, 30
    const call = await accepted;
    const byeDown = await inside(send('BYE', 2)); // 31, 32
    expect(await call?.ended).toBe('remote');
    const done = await hop('Dora', 'EB'); // 33
    expect([done.startLine, done.all('Via'), done.header('CSeq')]).toEqual([
      'SIP/2.0 200 OK',
      byeDown.all('Via'),
      '2 BYE',
    ]);
    const passedUp = await hop('EB', 'HUB');
    expect(changes(done, passedUp)).toEqual(viaTaken(done));
    const over = (await milo.only(isResponse(200))).message; // 34
    expect(changes(passedUp, over)).toEqual(viaTaken(passedUp));
    expect(wire.rest()).toEqual({});
  });

  it('35 to 41: no pong on one flow, and it is registered anew under its reg-id, with another token [UA-4.4.1-06 UA-4.4-05 UA-4.5-01 RG-6-16]', async () => {
    await dora.advance(96.1);
    while (pongs < 3) await new Promise(setImmediate);
    await dora.advance(9.7);
    expect(dora.events).toEqual([]);
    wire.stranded.clear();
    await dora.advance(0.4);
    expect(await dora.event('lost')).toMatchObject({ regId: 1, cause: 'no-pong', retryIn: 0 });
    await dora.advance(0.02);
    expect(await dora.event('registered')).toMatchObject({ regId: 1 });
    for (const { name } of [ea, eb])
      for (let half = 0; half < 2; half++) await wire.between('Dora', name).only(isCrlf);
    await wire.between('EB', 'Dora').only(isCrlf);
    flows.again = await registration(ea, 1, 2, [{ ...flows.b, regId: 2 } as Registered]);
    expect(flows.again.path).not.toBe(flows.a.path);
    const [before, after] = [flows.a.request, flows.again.request];
    expect(changes(before, after)).toEqual({
      via: [before.all('Via'), after.all('Via')],
      cseq: [['1 REGISTER'], ['2 REGISTER']],
      contact: [[binding(flows.a.port, 1)], [binding(flows.again.port, 1)]],
    });
    expect(wire.rest()).toEqual({});
  });

  it('42 to 53: Dora calls Milo over the new flow and hangs up [UA-4.3-07 EP-5.3.2-03]', async () => {
    const target = milo.uri('milo');
    const calling = dora.agent.invite(target, { body: 'offer' });
    const invite = await hop('Dora', 'EA'); // 42
    const [via] = invite.all('Via');
    const { port } = flows.again;
    expect(fields(invite)).toEqual({
      start: [`INVITE ${target} SIP/2.0`],
      via: [`SIP/2.0/TCP ${phoneHost}:${port};branch=${branchOf(invite)};rport`],
      'max-forwards': ['70'],
      route: [`<${uriOf(ea)};lr>`],
      from: [expect.stringMatching(`^<${DORA}>;tag=\\w+$`)],
      to: [`<${target}>`],
      'call-id': [invite.callId],
      cseq: ['1 INVITE'],
      contact: [`<${contactAt(port)};ob>;+sip.instance="<${INSTANCE}>"`],
      supported: ['outbound', 'path', 'gruu'],
      allow: invite.all('Allow'),
      'content-type': ['application/sdp'],
      'content-length': ['5'],
      body: ['offer'],
    });
    const recordRoute = flows.again.path.replace(';ob>', '>');
    const passed = await hop('EA', 'HUB'); // 43
    const fromDora = received(via, phoneHost, port);
    expect(changes(invite, passed)).toEqual({
      via: [[via], [ownVia(at(ea)), fromDora]],
      'max-forwards': [['70'], ['69']],
      route: [[`<${uriOf(ea)};lr>`], []],
      'record-route': [[], [recordRoute]],
    });
    const came = await milo.only(isRequest('INVITE')); // 44
    expect(changes(passed, came.message)).toEqual({
      via: [passed.all('Via'), [ownVia(hubAddress(), 'UDP'), receivedFrom(passed.all('Via')[0]), fromDora]],
      'max-forwards': [['69'], ['68']],
    });

    const headers: Header[] = [['Contact', `<${target}>`]];
    const ok = parseMessage(milo.reply(came, 200, 'OK', headers, 'answer')) as SipMessage; // 45
    const toEa = await hop('HUB', 'EA'); // 46
    expect(changes(ok, toEa)).toEqual(viaTaken(ok));
    const toDora = await hop('EA', 'Dora'); // 47
    expect(changes(toEa, toDora)).toEqual(viaTaken(toEa));
    const call = await calling;

    const downTo = async (method: string, cseq: number): Promise<Arrival> => {
      const sent = await hop('Dora', 'EA');
      expect([sent.startLine, sent.all('Route'), sent.all('To'), sent.header('CSeq')]).toEqual([
        `${method} ${target} SIP/2.0`,
        [recordRoute],
        toDora.all('To'),
        `${cseq} ${method}`,
      ]);
      const got = await milo.only(isRequest(method));
      expect(got.from).toEqual({ host: ea.server.host, port: ea.server.port }); // by the Request-URI
      expect(changes(sent, got.message)).toEqual({
        via: [
          sent.all('Via'),
          [
            ownVia(`${ea.server.host}:${ea.server.port}`, 'UDP'),
            received(sent.all('Via')[0], phoneHost, port),
          ],
        ],
        'max-forwards': [['70'], ['69']],
        route: [[recordRoute], []],
      });
      return got;
    };
    await downTo('ACK', 1); // 48, 49
    const hungUp = call.bye();
    const bye = await downTo('BYE', 2); // 50, 51
    const over = parseMessage(milo.reply(bye, 200, 'OK')) as SipMessage; // 52
    const last = await hop('EA', 'Dora'); // 53
    expect(changes(over, last)).toEqual(viaTaken(over));
    expect((await hungUp).status).toBe(200);
    expect(wire.rest()).toEqual({});
  });
});
