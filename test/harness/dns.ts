/**
 * A name server for tests: authoritative for the records it is given, on one UDP and one TCP port of a loopback
 * host. It writes down every question, and a test may put its own octets, several or none in place of an answer.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { createServer, type Server, type Socket as TcpSocket } from 'node:net';
import { type Answer, decode, encode, type Packet } from 'dns-packet';
import { freePort, freshHost } from './ports.ts';

export interface Asked {
  name: string;
  type: string;
  over: 'udp' | 'tcp';
  id: number;
  sourcePort: number;
}

/** What goes back: octets as they are, none, or undefined for the ordinary answer. */
export type Script = (
  asked: Asked,
  ordinary: Packet,
) => (Buffer | Packet)[] | undefined | Promise<(Buffer | Packet)[] | undefined>;

const NAME_ERROR = 3;
const TRUNCATED = 1 << 9;

export class DnsStub {
  readonly host = freshHost();
  port = 0;
  readonly asked: Asked[] = [];
  script: Script | undefined;
  /** minimum of the zone's SOA, which goes with every negative answer; undefined: no SOA */
  negativeTtl: number | undefined = 30;
  readonly #records = new Map<string, Answer[]>();
  readonly #names = new Set<string>();
  readonly #connections = new Set<TcpSocket>();
  #udp: Socket | undefined;
  #tcp: Server | undefined;

  static async open(): Promise<DnsStub> {
    const stub = new DnsStub();
    stub.port = await freePort(stub.host);
    await stub.#listen();
    return stub;
  }

  get server(): { host: string; port: number } {
    return { host: this.host, port: this.port };
  }

  /** Names and types asked so far, as "TYPE name". */
  get questions(): string[] {
    return this.asked.map(({ type, name }) => `${type} ${name}`);
  }

  add(type: 'A' | 'AAAA' | 'CNAME' | 'SRV' | 'NAPTR', name: string, data: unknown, ttl = 300): this {
    const key = `${type} ${name}`;
    this.#records.set(key, [...(this.#records.get(key) ?? []), { type, name, ttl, data } as Answer]);
    this.#names.add(name);
    return this;
  }

  srv(name: string, priority: number, weight: number, port: number, target: string, ttl = 300): this {
    return this.add('SRV', name, { priority, weight, port, target }, ttl);
  }

  naptr(name: string, order: number, preference: number, services: string, replacement: string): this {
    return this.add('NAPTR', name, { order, preference, flags: 's', services, regexp: '', replacement });
  }

  remove(type: string, name: string): void {
    this.#records.delete(`${type} ${name}`);
  }

  async close(): Promise<void> {
    for (const connection of this.#connections) connection.destroy();
    await new Promise<void>((resolve) => (this.#udp ? this.#udp.close(() => resolve()) : resolve()));
    await new Promise<void>((resolve) => (this.#tcp ? this.#tcp.close(() => resolve()) : resolve()));
    this.#udp = this.#tcp = undefined;
  }

  async #listen(): Promise<void> {
    const udp = createSocket('udp4');
    udp.on('message', (message, from) => this.#datagram(udp, message, from));
    const tcp = createServer((connection) => this.#connection(connection));
    await new Promise<void>((resolve) => udp.bind(this.port, this.host, resolve));
    await new Promise<void>((resolve) => tcp.listen(this.port, this.host, resolve));
    this.#udp = udp;
    this.#tcp = tcp;
  }

  async #datagram(udp: Socket, message: Buffer, from: RemoteInfo): Promise<void> {
    for (const octets of await this.#answer(message, 'udp', from.port)) {
      const cut = octets.length > 512 ? this.#cut(message) : octets;
      if (this.#udp === udp) udp.send(cut, from.port, from.address);
    }
  }

  #connection(connection: TcpSocket): void {
    this.#connections.add(connection);
    connection.on('error', () => {});
    connection.on('close', () => this.#connections.delete(connection));
    let got = Buffer.alloc(0);
    connection.on('data', async (chunk: Buffer) => {
      got = Buffer.concat([got, chunk]);
      if (got.length < 2 || got.length < 2 + got.readUInt16BE(0)) return;
      const message = got.subarray(2);
      for (const octets of await this.#answer(message, 'tcp', connection.remotePort ?? 0)) {
        const length = Buffer.alloc(2);
        length.writeUInt16BE(octets.length);
        connection.write(Buffer.concat([length, octets]));
      }
    });
  }

  async #answer(message: Buffer, over: 'udp' | 'tcp', sourcePort: number): Promise<Buffer[]> {
    const { id = 0, questions = [] } = decode(message);
    const [{ name, type }] = questions;
    const asked: Asked = { name, type, over, id, sourcePort };
    this.asked.push(asked);
    const ordinary = this.#ordinary(id, name, type);
    const replies = (await this.script?.(asked, ordinary)) ?? [ordinary];
    return replies.map((reply) => (Buffer.isBuffer(reply) ? reply : encode(reply)));
  }

  /** The records, with the aliases on the way there, as a recursive server gives them. */
  #ordinary(id: number, name: string, type: string): Packet {
    const answers: Answer[] = [];
    let at = name;
    for (let links = 0; links < 16; links++) {
      const own = this.#records.get(`${type} ${at}`);
      if (own) {
        answers.push(...own);
        break;
      }
      const alias = this.#records.get(`CNAME ${at}`);
      if (!alias) break;
      answers.push(...alias);
      at = (alias[0] as { data: string }).data;
    }
    const questions = [{ name, type: type as 'A' }];
    const flags = answers.length > 0 || this.#names.has(at) ? 0 : NAME_ERROR;
    const soa: Answer[] =
      answers.length > 0 || this.negativeTtl === undefined
        ? []
        : [
            {
              type: 'SOA',
              name: 'example',
              ttl: 3600,
              data: { mname: 'ns.example', rname: 'root.example', minimum: this.negativeTtl },
            },
          ];
    return { type: 'response', id, flags, questions, answers, authorities: soa };
  }

  #cut(message: Buffer): Buffer {
    const { id = 0, questions = [] } = decode(message);
    return encode({ type: 'response', id, flags: TRUNCATED, questions });
  }
}
