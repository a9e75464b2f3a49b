/**
 * What the generator sends of its own: texts in which `FFFFFFFF` stands for the number of the flow and `TTTTTTTT` for
 * that of the transaction, in hexadecimal. To send one is a copy and a few dozen octets written over it.
 *
 * The Call-ID is a kind, the flow and the transaction (`r0000002a.00000107@...`), and is all that is read of a
 * message to know which one it belongs to. Clients write themselves as behind a NAT: what they say about their own
 * address is none that the server sees.
 */
import type { Transport } from './options.ts';

export const KIND_REGISTER = 114; // r
export const KIND_DOWNSTREAM = 100; // d
export const DOMAIN = 'load.example';
/** what both numbers are 8 digits of, at these places behind `Call-ID: ` */
export const FLOW_AT = 1;
export const TRANSACTION_AT = 10;
export const IDENTITY = 'FFFFFFFF.TTTTTTTT';

const HEX = Buffer.from('0123456789abcdef', 'latin1');

function writeHex(memory: Buffer, at: number, n: number): void {
  for (let i = 7; i >= 0; i--) {
    memory[at + i] = HEX[n & 15];
    n >>>= 4;
  }
}

function placesOf(text: string, mark: string): number[] {
  const places: number[] = [];
  for (let at = text.indexOf(mark); at >= 0; at = text.indexOf(mark, at + 8)) places.push(at);
  return places;
}

export class Template {
  readonly #bytes: Buffer;
  readonly #flows: number[];
  readonly #transactions: number[];

  constructor(text: string) {
    this.#bytes = Buffer.from(text, 'latin1');
    this.#flows = placesOf(text, 'FFFFFFFF');
    this.#transactions = placesOf(text, 'TTTTTTTT');
  }

  /** Writes it at `at` and returns where it ends. */
  write(memory: Buffer, at: number, flow: number, transaction: number): number {
    memory.set(this.#bytes, at);
    for (const place of this.#flows) writeHex(memory, at + place, flow);
    for (const place of this.#transactions) writeHex(memory, at + place, transaction);
    return at + this.#bytes.length;
  }
}

const web = (transport: Transport): boolean => transport === 'ws' || transport === 'wss';
const NAT_HOST = '10.0.0.1:5060';

/** Host and parameters of a client's Contact. */
function contact(transport: Transport): string {
  if (web(transport)) return 'uFFFFFFFF.invalid;transport=ws';
  return transport === 'udp' ? NAT_HOST : `${NAT_HOST};transport=${transport}`;
}

const lines = (...all: string[]): string => all.map((line) => `${line}\r\n`).join('');

/** `run`: a word of this run alone, or a server would take its requests for those of the run before, sent again. */
export const register = (transport: Transport, run: string): Template =>
  new Template(
    lines(
      `REGISTER sip:${DOMAIN} SIP/2.0`,
      `Via: SIP/2.0/${transport.toUpperCase()} ${web(transport) ? 'uFFFFFFFF.invalid' : NAT_HOST};branch=z9hG4bK${run}.r${IDENTITY};rport`,
      'Max-Forwards: 70',
      `From: <sip:uFFFFFFFF@${DOMAIN}>;tag=TTTTTTTT`,
      `To: <sip:uFFFFFFFF@${DOMAIN}>`,
      `Call-ID: r${IDENTITY}@${run}.load`,
      'CSeq: 1 REGISTER',
      `Contact: <sip:uFFFFFFFF@${contact(transport)}>;reg-id=1;+sip.instance="<urn:uuid:00000000-0000-1000-8000-0000FFFFFFFF>"`,
      'Supported: path, outbound',
      'Expires: 3600',
      'User-Agent: load',
      'Content-Length: 0',
      '',
    ),
  );

/** A MESSAGE down a flow: what stands before and after the value of its Route. */
export function downstream(
  transport: Transport,
  run: string,
  core: { transport: string; host: string; port: number },
) {
  const body = 'hello, world';
  return {
    before: new Template(
      `${lines(
        `MESSAGE sip:uFFFFFFFF@${contact(transport)} SIP/2.0`,
        `Via: SIP/2.0/${core.transport.toUpperCase()} ${core.host}:${core.port};branch=z9hG4bK${run}.d${IDENTITY};rport`,
        'Max-Forwards: 69',
      )}Route: `,
    ),
    after: new Template(
      `\r\n${lines(
        `From: <sip:core@${DOMAIN}>;tag=TTTTTTTT`,
        `To: <sip:uFFFFFFFF@${DOMAIN}>`,
        `Call-ID: d${IDENTITY}@${run}.load`,
        'CSeq: 1 MESSAGE',
        'Content-Type: text/plain',
        `Content-Length: ${body.length}`,
        '',
      )}${body}`,
    ),
  };
}

/** A Binding request (RFC 5389 6): the transaction id is the flow, the transaction and a constant. */
export function writeBinding(memory: Buffer, at: number, flow: number, transaction: number): number {
  memory.writeUInt32BE(0x00010000, at);
  memory.writeUInt32BE(0x2112a442, at + 4);
  memory.writeUInt32BE(flow, at + 8);
  memory.writeUInt32BE(transaction, at + 12);
  memory.writeUInt32BE(0x6c6f6164, at + 16);
  return at + 20;
}
