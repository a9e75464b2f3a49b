/**
 * The set-up of the TLS tests: a registrar of `example.test` with a tls listener beside UDP and TCP, an
 * authority of the test's own, and phones that connect by node:tls or by the openssl program.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { ConnectionOptions } from 'node:tls';
import { type Address, TcpAgent, UdpAgent } from '../harness/agent.ts';
import { Authority, type Issued } from '../harness/certificates.ts';
import type { LogLine } from '../harness/holdfast.ts';
import { isFinal, isRequest } from '../harness/inbox.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { call, type Registered, register } from '../harness/registrar.ts';
import { pause, Watched } from '../network/watched.ts';

export { type Issued, pause };

export const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;
export type Version = (typeof VERSIONS)[number];
export const only = (version: Version): ConnectionOptions => ({ minVersion: version, maxVersion: version });

export interface SecuredOptions {
  /** subjectAltNames of each certificate; the first is the default */
  names?: string[][];
  settings?: Record<string, string>;
}

export class SecuredServer {
  readonly server: Watched;
  readonly authority: Authority;
  readonly certificates: Issued[];
  /** of the tls listener */
  readonly address: Address;
  readonly #agents: { close(): Promise<unknown> }[] = [];

  private constructor(server: Watched, authority: Authority, certificates: Issued[], address: Address) {
    this.server = server;
    this.authority = authority;
    this.certificates = certificates;
    this.address = address;
  }

  static async start({
    names = [['DNS:edge.test']],
    settings = {},
  }: SecuredOptions = {}): Promise<SecuredServer> {
    const authority = new Authority();
    const certificates = names.map((each) => authority.issue(each, { cn: each[0] }));
    const host = freshHost();
    const [plain, secured] = [await freePort(host), await freePort(host)];
    const server = await Watched.start({
      settings: {
        LISTEN: `udp:${host}:${plain},tcp:${host}:${plain},tls:${host}:${secured}`,
        TLS_CERT: certificates.map(({ cert }) => cert).join(','),
        TLS_KEY: certificates.map(({ key }) => key).join(','),
        DOMAINS: 'example.test',
        STORE: 'memory:',
        LOG: 'info',
        ...(settings.TLS_CLIENT && { TLS_CA: authority.ca }),
        ...settings,
      },
    });
    server.address.host = host;
    server.address.port = plain;
    return new SecuredServer(server, authority, certificates, { host, port: secured });
  }

  /** A phone's connection. Rejects with the error of the handshake. */
  async phone(options: ConnectionOptions = {}): Promise<TcpAgent> {
    return this.keep(await TcpAgent.connectTls(this.options(options)));
  }

  options(options: ConnectionOptions = {}) {
    const { address, authority } = this;
    return {
      peer: address,
      localHost: freshHost(),
      ca: authority.trusted,
      servername: 'edge.test',
      ...options,
    };
  }

  async caller(): Promise<UdpAgent> {
    return this.keep(await UdpAgent.open({ host: freshHost(), peer: this.server.address, name: 'caller' }));
  }

  keep<A extends { close(): Promise<unknown> }>(agent: A): A {
    this.#agents.push(agent);
    return agent;
  }

  get logs(): LogLine[] {
    const lines = this.server.output.join('').split('\n');
    return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as LogLine);
  }

  /** The first log line of this event that fits, now or later. */
  async logged(event: string, fits: (line: LogLine) => boolean = () => true): Promise<LogLine> {
    for (let i = 0; i < 400; i++) {
      const line = this.logs.find((l) => l.event === event && fits(l));
      if (line) return line;
      await pause(20);
    }
    throw new Error(`no log line ${event}:\n${this.server.output.slice(-10).join('')}`);
  }

  async count(counter: string): Promise<number> {
    return (await this.server.state()).counters[counter];
  }

  async close(): Promise<void> {
    for (const agent of this.#agents) await agent.close().catch(() => {});
    await this.server.stop();
    this.authority.remove();
  }
}

/** Registers, and is called over the flow. */
export async function serves(phone: TcpAgent, caller: UdpAgent): Promise<Registered> {
  const registered = await register(phone);
  if (registered.answer.status !== 200) throw new Error(`REGISTER is answered ${registered.answer.status}`);
  await reaches(caller, phone, registered.aor);
  return registered;
}

/** A MESSAGE to the AOR comes to this phone, and its answer comes back. */
export async function reaches(caller: UdpAgent, phone: TcpAgent, aor: string): Promise<void> {
  const callId = call(caller, aor);
  phone.reply(await phone.next(isRequest('MESSAGE', callId)), 200, 'OK');
  const { status } = (await caller.next(isFinal(callId))).message;
  if (status !== 200) throw new Error(`the call is answered ${status}`);
}

/** What `openssl s_client` makes of a server, until it ends by itself or `input` is through. */
export class SClient {
  readonly #child: ChildProcessWithoutNullStreams;
  output = '';
  readonly ended: Promise<number | null>;

  constructor({ host, port }: Address, ...args: string[]) {
    this.#child = spawn('openssl', ['s_client', '-connect', `${host}:${port}`, ...args]);
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream.on('data', (chunk: Buffer) => {
        this.output += chunk.toString('latin1');
      });
    this.#child.stdin.on('error', () => {});
    this.ended = once(this.#child, 'close').then(([code]) => code as number | null);
  }

  write(text: string): void {
    this.#child.stdin.write(text);
  }

  async says(pattern: RegExp): Promise<void> {
    for (let i = 0; !pattern.test(this.output); i++) {
      if (i === 400) throw new Error(`openssl does not say ${pattern}:\n${this.output}`);
      await pause(20);
    }
  }

  async close(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended;
  }
}
