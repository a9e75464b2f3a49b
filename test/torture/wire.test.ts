/**
 * Every message of RFC 4475 and RFC 5118 on the wire: as a datagram and on a stream, to an edge with a
 * core behind it and to a registrar. What each must get stands in the table; after each, the server
 * answers the client that sent it, and another.
 *
 * Many of these messages share a branch and a sent-by, and would be retransmissions of each other, or a
 * Call-ID and an AOR: the server's clock is moved past every transaction and registration before each.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Agent, type TcpAgent, TcpCore, type UdpAgent } from '../harness/agent.ts';
import { startEdge } from '../harness/edge.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { freshHost } from '../harness/ports.ts';
import { type SipMessage, unique } from '../harness/sip.ts';
import { eventually } from '../interop/program.ts';

/** It goes on, and the answer comes back; beside it on an edge: the status that a registrar gives. */
const FORWARDED = 0;
/** No answer, and a connection stays. */
const DROPPED = -1;

/** What comes after the outcome on a stream. */
/** It has not ended: it is forwarded when all the octets have come that it promised. */
const UNFINISHED = 'unfinished';
/** No next message can be found: the connection is closed, behind the answer. */
const CLOSED = 'closed';
/** Octets are left over behind its body, which could begin a message: closed when more shows that they do not. */
const LEFT_OVER = 'left over';
/** The same, and they cannot: closed at once, perhaps before the answer. */
const JUNK_BEHIND = 'junk behind';

type Row = [
  edge: number,
  registrar: number,
  stream?: typeof UNFINISHED | typeof CLOSED | typeof LEFT_OVER | typeof JUNK_BEHIND,
];

const RFC4475: Record<string, Row> = {
  // 3.1.1: valid
  'wsinv.dat': [403, 480], // its Route leads a stranger to another host; the registrar is that host
  'intmeth.dat': [FORWARDED, 480],
  'esc01.dat': [FORWARDED, 480],
  'escnull.dat': [FORWARDED, 200],
  'esc02.dat': [FORWARDED, 404], // an unknown method, and a Request-URI without a user
  'lwsdisp.dat': [FORWARDED, 480],
  'longreq.dat': [FORWARDED, 480],
  'dblreq.dat': [FORWARDED, 200, JUNK_BEHIND], // with a second request on a stream
  'semiuri.dat': [FORWARDED, 480],
  'transports.dat': [FORWARDED, 480],
  'mpart01.dat': [403, FORWARDED], // as the first; a registrar forwards for those on its own host
  'unreason.dat': [DROPPED, DROPPED], // responses to nothing that was sent
  'noreason.dat': [DROPPED, DROPPED],
  // 3.1.2: invalid
  'badinv01.dat': [400, 400],
  'clerr.dat': [400, 400, UNFINISHED],
  'ncl.dat': [400, 400, CLOSED],
  'scalar02.dat': [400, 400],
  'scalarlg.dat': [DROPPED, DROPPED],
  // RFC 3261 16.3: what a proxy does not need "should be ignored and remain unchanged"
  'quotbal.dat': [FORWARDED, 480],
  'ltgtruri.dat': [400, 400],
  'lwsruri.dat': [400, 400],
  'lwsstart.dat': [400, 400],
  'trws.dat': [400, 400],
  'escruri.dat': [400, 400],
  'baddate.dat': [FORWARDED, 480],
  'regbadct.dat': [FORWARDED, 400],
  'badaspec.dat': [FORWARDED, 480],
  'baddn.dat': [FORWARDED, 480],
  'badvers.dat': [505, 505],
  'mismatch01.dat': [400, 400],
  'mismatch02.dat': [400, 400],
  'bigcode.dat': [DROPPED, DROPPED],
  // 3.2: transaction layer
  'badbranch.dat': [FORWARDED, 480],
  // 3.3: application layer
  'insuf.dat': [400, 400],
  'unkscm.dat': [416, 416],
  'novelsc.dat': [416, 416],
  'unksm2.dat': [FORWARDED, 400],
  'bext01.dat': [420, 420],
  'invut.dat': [FORWARDED, 480],
  'regaut01.dat': [FORWARDED, 200],
  'multi01.dat': [400, 400],
  'mcl01.dat': [400, 400, CLOSED],
  'bcast.dat': [DROPPED, DROPPED],
  'zeromf.dat': [200, 200],
  'cparam01.dat': [FORWARDED, 200],
  'cparam02.dat': [FORWARDED, 200],
  'regescrt.dat': [FORWARDED, 200],
  'sdp01.dat': [FORWARDED, 480],
  // 3.4: backward compatibility: on a stream, Content-Length is not optional
  'inv2543.dat': [FORWARDED, 480, CLOSED],
};

const RFC5118: Record<string, Row> = {
  'ipv6-good.dat': [FORWARDED, 200],
  'ipv6-bad.dat': [400, 400],
  'port-ambiguous.dat': [FORWARDED, 200],
  'port-unambiguous.dat': [FORWARDED, 502], // a port that is not ours, on a host that no listener of ours can reach
  'via-received-param-with-delim.dat': [FORWARDED, 404], // no user
  'via-received-param-no-delim.dat': [FORWARDED, 200], // OPTIONS for the server itself
  'ipv6-in-sdp.dat': [FORWARDED, 480, LEFT_OVER],
  'mult-ip-in-header.dat': [FORWARDED, 480],
  'mult-ip-in-sdp.dat': [FORWARDED, 480, JUNK_BEHIND],
  'ipv4-mapped-ipv6.dat': [FORWARDED, 480, LEFT_OVER],
  'ipv6-bug-abnf-3-colons.dat': [FORWARDED, 404], // tolerated, but no address that anybody has registered
  'ipv6-correct-abnf-2-colons.dat': [FORWARDED, 480],
};

/** What the answer to some of them has to say. */
const SAYS: Record<string, RegExp> = {
  'bext01.dat': /^Unsupported: noProxiesSupportThis, norDoAnyProxiesSupportThis\r$/m,
  // a parameter of the header, one of the URI, and a header of the URI
  'cparam01.dat': /^Contact: <sip:\+19725552222@gw1\.example\.net>;.*unknownparam/m,
  'cparam02.dat': /^Contact: <sip:\+19725552222@gw1\.example\.net;unknownparam>;/m,
  'regescrt.dat': /^Contact: <sip:user@example\.com\?Route=%3Csip:sip\.example\.com%3E>;/m,
};

/** Every host that a Request-URI or a Route of them names, and that is none of an IPv4 address. */
const DOMAINS = [
  ...['example.com', 'example.org', 'example.net', 'host.example.net', 'company.com'],
  ...['registrar.example.com', 'chair-dnrc.example.com', 'services.example.com'],
  ...['[2001:db8::10]', '[2001:db8::10:5070]', '[2001:db8::192.0.2.1]', '[2001:db8:::192.0.2.1]'],
];

const folder = new URL('./', import.meta.url);

function read(name: string): Buffer {
  const bytes = readFileSync(new URL(name, folder));
  // The archive of RFC 4475 has this one without its last line end: it would never end.
  return name.endsWith('/baddn.dat') ? Buffer.concat([bytes, Buffer.from('\r\n')]) : bytes;
}

/** Header fields whole, with their folds, in order. */
const fields = (head: string): string[] => head.split(/\r\n(?![ \t])/).slice(1);

const CHANGES = /^(via|v|max-forwards|route|content-length|l)\s*:/i;

/** The request went on octet for octet, but for what a proxy writes. */
function expectUntouched(sent: Buffer, forwarded: Buffer): void {
  const [before, after] = [sent.toString('latin1'), forwarded.toString('latin1')];
  const ends = [before.indexOf('\r\n\r\n'), after.indexOf('\r\n\r\n')];
  const kept = fields(before.slice(0, ends[0])).filter((f) => !CHANGES.test(f));
  const found = fields(after.slice(0, ends[1])).filter((f) => kept.includes(f));
  expect(found).toEqual(kept);
  const length = /^(?:content-length|l)\s*:\s*(\d+)/im.exec(before.slice(0, ends[0]))?.[1];
  const from = ends[0] + 4;
  expect(after.slice(ends[1] + 4)).toBe(
    before.slice(from, length === undefined ? undefined : from + Number(length)),
  );
}

/** Where a datagram's answer goes: the port of the top Via. */
const viaPort = (text: string): number =>
  Number(/^(?:via|v)\s*:[^;]*?:(\d{4,5})\s*[;,\r]/im.exec(text)?.[1] ?? 5060);

describe.each(['edge', 'registrar'] as const)('%s', (role) => {
  describe.each(['UDP', 'TCP'] as const)('over %s', (transport) => {
    let server: Holdfast;
    let core: UdpAgent | undefined;
    let other: Agent;
    let open: Agent[] = [];
    let close: () => Promise<void>;

    beforeAll(async () => {
      if (role === 'edge') {
        const edge = await startEdge({ clocked: true, settings: { WORKERS: '1' } });
        ({ server, core } = edge);
        close = () => edge.close();
      } else {
        server = await Holdfast.start({
          clocked: true,
          settings: { DOMAINS: DOMAINS.join(','), STORE: 'memory:', WORKERS: '1' },
        });
        close = () => server.stop();
      }
      other = await server.udp({ name: 'another client' });
    });
    afterAll(async () => {
      await other?.close();
      await close?.();
    });

    beforeEach(async () => {
      // twice: a transaction that times out has a final state that lasts, too
      for (const ms of [40_000, 7_300_000]) {
        await server.advance(ms);
        await other.probe(); // timers run behind the input of a turn, and before its output
      }
      core?.clear();
      other.clear();
    });
    afterEach(async () => {
      for (const agent of open) await agent.close();
      open = [];
    });

    async function client(host: string, port = 5060): Promise<Agent> {
      const agent =
        transport === 'UDP' ? await server.udp({ host, port }) : await server.tcp({ localHost: host });
      open.push(agent);
      return agent;
    }

    async function answersOptions(agent: Agent): Promise<void> {
      const callId = unique('options-');
      agent.send(agent.compose('OPTIONS', `sip:${server.host}:${server.port}`, { callId }));
      await agent.next(isResponse(200, callId));
    }

    /** The request has been forwarded to `to`; it is answered, and the answer finds its way. */
    async function answered(bytes: Buffer, phone: Agent, to: Agent): Promise<SipMessage> {
      const got = await to.next(isRequest());
      expectUntouched(bytes, got.bytes);
      to.reply(got, 200, 'OK');
      const { message } = await phone.only(isFinal());
      expect(message.status).toBe(200);
      expect(message.via.map(({ host }) => host)).not.toContain(server.host);
      return got.message;
    }

    /** It is answered by the server itself, and goes nowhere. */
    async function refused(status: number, phone: Agent, says = /^/): Promise<void> {
      const { message } = await phone.only(isFinal());
      expect(message.status).toBe(status);
      expect(message.toString()).toMatch(says);
      if (message.header('To') !== undefined) expect(message.header('To')).toMatch(/;\s*tag\s*=/);
      await core?.expectNothing();
    }

    it.each([
      ...Object.entries(RFC4475).map(([name, row]) => [`rfc4475/${name}`, row] as const),
      ...Object.entries(RFC5118).map(([name, row]) => [`rfc5118/${name}`, row] as const),
    ])('%s', async (name, [edge, registrar, more]) => {
      const outcome = role === 'edge' ? edge : registrar;
      const stream = transport === 'TCP' ? more : undefined;
      const bytes = read(name);
      const host = freshHost();
      let phone = await client(host, viaPort(bytes.toString('latin1')));
      // mpart01 has a Route to 127.0.0.1:5080, which a registrar follows for a client of its own host; it is long: by TCP
      const next = outcome === FORWARDED ? (core ?? (await neighbour())) : undefined;
      phone.send(bytes);

      if (stream === UNFINISHED) await unfinished(bytes, phone);
      else if (stream === JUNK_BEHIND) await whole(bytes);
      else if (stream === CLOSED) await refused(400, phone);
      else if (next) await answered(bytes, phone, next);
      else if (outcome !== DROPPED) await refused(outcome, phone, SAYS[name.slice(8)]);
      else {
        await phone.expectNothing();
        await core?.expectNothing();
      }

      if (stream === LEFT_OVER) phone.send(Buffer.from('OPTIONS sip:example.com SIP/2.0\r\n\r\n'));
      if (stream !== undefined && stream !== UNFINISHED) {
        await (phone as TcpAgent).closed;
        phone = await client(host);
      }
      await answersOptions(phone);
      await answersOptions(other);
    });

    async function neighbour(): Promise<Agent> {
      const agent = await eventually(() => TcpCore.open({ host: '127.0.0.1', port: 5080 }));
      open.push(agent);
      return agent;
    }

    async function unfinished(bytes: Buffer, phone: Agent): Promise<void> {
      // a ping is part of the body that is still to come
      const ping = Buffer.from('\r\n\r\n');
      phone.send(ping);
      await core?.expectNothing();
      expect(phone.arrivals).toEqual([]);
      const text = bytes.toString('latin1');
      const whole = text.indexOf('\r\n\r\n') + 4 + Number(/Content-Length: (\d+)/.exec(text)?.[1]);
      const rest = Buffer.alloc(whole - bytes.length - ping.length, 'x');
      phone.send(rest);
      const all = Buffer.concat([bytes, ping, rest]);
      if (core) await answered(all, phone, core);
      else await refused(480, phone);
    }

    /** Each of the messages in it was forwarded. */
    async function whole(bytes: Buffer): Promise<void> {
      if (!core) return; // there the store may answer when the connection is gone
      const second = Math.max(0, bytes.indexOf('\r\nINVITE '));
      if (second > 0) expectUntouched(bytes, (await core.next(isRequest('REGISTER'))).bytes);
      const last = second > 0 ? bytes.subarray(second + 2) : bytes;
      expectUntouched(last, (await core.next(isRequest('INVITE'))).bytes);
    }
  });

  it('are all here', () => {
    for (const [rfc, rows] of [
      ['rfc4475', RFC4475],
      ['rfc5118', RFC5118],
    ] as const)
      expect(readdirSync(new URL(rfc, folder)).sort()).toEqual(Object.keys(rows).sort());
  });
});
