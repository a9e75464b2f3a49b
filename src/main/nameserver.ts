/**
 * One question to one name server (RFC 1035): by UDP from a socket of its own, connected, so that a stranger would
 * have to guess the source port and the id; by TCP where the answer was cut (TC).
 *
 * What comes in is believed only from that server, with that id, and with the question as it was sent, in its letter
 * case too. Anything else is passed over and the wait goes on: it may be forged, and the true answer is on its way.
 * Nothing that a server sends makes it throw. It ends within `timeout` for UDP and once more as long for TCP.
 *
 * No EDNS: an answer above 512 octets costs a TCP connection, and no old server is confused.
 */
import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { type DecodedPacket, decode, encode, RECURSION_DESIRED, type Answer as Section } from 'dns-packet';
import { canonical, type DnsRecord, type RecordType } from '../net/locate.ts';

export interface NameServer {
  /** numeric, without brackets */
  host: string;
  port: number;
}

/** Seconds, as the server gave them. */
export interface Reply {
  status: 'found' | 'absent';
  records: DnsRecord[];
  ttl: number;
}

/** Records read of one answer: what is used of one is far less, and a TCP answer could hold thousands. */
const MAX_RECORDS = 32;
const HEADER = 12;
const NO_ERROR = 0;
const NAME_ERROR = 3;

export interface Exchange {
  /** undefined: no answer, a broken one, or the server's refusal. Does not reject. */
  reply: Promise<Reply | undefined>;
  /** Ends it now, with undefined. */
  abandon(): void;
}

export function ask(server: NameServer, name: string, type: RecordType, timeout: number): Exchange {
  const id = randomInt(0x10000);
  const question = { name, type, class: 'IN' as const };
  const query = encode({ type: 'query', id, flags: RECURSION_DESIRED, questions: [question] });
  const sameQuestion = ({ questions }: DecodedPacket) =>
    questions?.length === 1 &&
    questions[0].name === name &&
    questions[0].type === type &&
    questions[0].class === 'IN';

  let end: () => void = () => {};
  const { promise: reply, resolve } = Promise.withResolvers<Reply | undefined>();
  const settle = (result?: Reply) => {
    end();
    resolve(result);
  };

  const byUdp = () => {
    const socket = createSocket(server.host.includes(':') ? 'udp6' : 'udp4');
    const timer = setTimeout(settle, timeout, undefined);
    end = () => {
      clearTimeout(timer);
      end = () => {};
      socket.close();
    };
    socket.on('error', () => settle()); // connection refused, by ICMP
    socket.on('message', (message) => {
      if (!isReply(message, id)) return;
      if ((message[2] & 0x02) !== 0) {
        end();
        byTcp();
        return;
      }
      const packet = read(message);
      if (packet && sameQuestion(packet)) settle(replyOf(packet, message[3] & 0x0f));
    });
    socket.on('connect', () => socket.send(query));
    socket.connect(server.port, server.host);
  };

  const byTcp = () => {
    const socket = connect({ host: server.host, port: server.port });
    const timer = setTimeout(settle, timeout, undefined);
    end = () => {
      clearTimeout(timer);
      end = () => {};
      socket.destroy();
    };
    let got = Buffer.alloc(0);
    socket.on('error', () => settle());
    socket.on('close', () => settle());
    socket.on('data', (chunk: Buffer) => {
      got = Buffer.concat([got, chunk]); // at most 64 KiB, then the length is reached
      if (got.length < 2 || got.length < 2 + got.readUInt16BE(0)) return;
      const message = got.subarray(2, 2 + got.readUInt16BE(0));
      const packet = isReply(message, id) ? read(message) : undefined;
      settle(packet && sameQuestion(packet) ? replyOf(packet, message[3] & 0x0f) : undefined);
    });
    const length = Buffer.alloc(2);
    length.writeUInt16BE(query.length);
    socket.write(Buffer.concat([length, query]));
  };

  byUdp();
  return { reply, abandon: () => settle() };
}

const isReply = (message: Buffer, id: number): boolean =>
  message.length >= HEADER && message.readUInt16BE(0) === id && (message[2] & 0x80) !== 0;

function read(message: Buffer): DecodedPacket | undefined {
  try {
    return decode(message);
  } catch {
    return undefined;
  }
}

function replyOf({ answers = [], authorities = [] }: DecodedPacket, code: number): Reply | undefined {
  if (code !== NO_ERROR && code !== NAME_ERROR) return undefined; // SERVFAIL, REFUSED: another server may know
  if (code === NO_ERROR && answers.length > 0) {
    const used = answers.slice(0, MAX_RECORDS);
    const records = used.map(recordOf).filter((r) => r !== undefined);
    const ttl = Math.min(...used.map((a) => ('ttl' in a ? (a.ttl ?? 0) : 0)));
    return { status: 'found', records, ttl };
  }
  // RFC 2308 §5: what is not there may be remembered as long as the zone's SOA says
  const soa = authorities.find((a) => a.type === 'SOA');
  const ttl = soa?.type === 'SOA' ? Math.min(soa.ttl ?? 0, soa.data.minimum ?? 0) : 0;
  return { status: 'absent', records: [], ttl };
}

function recordOf(section: Section): DnsRecord | undefined {
  const name = canonical(section.name);
  switch (section.type) {
    case 'A':
    case 'AAAA':
      return { type: section.type, name, data: section.data };
    case 'CNAME':
      return { type: 'CNAME', name, data: canonical(section.data) };
    case 'SRV': {
      const { priority = 0, weight = 0, port, target } = section.data;
      return { type: 'SRV', name, priority, weight, port, target: canonical(target) };
    }
    case 'NAPTR': {
      const { order, preference, flags, services, regexp, replacement } = section.data;
      const to = canonical(replacement);
      return { type: 'NAPTR', name, order, preference, flags, services, regexp, replacement: to };
    }
    default:
      return undefined;
  }
}
