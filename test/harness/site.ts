/**
 * An edge whose upstream is a name, with a name server and cores of the test's own. Addresses come first, so that the
 * cores can be there before the server asks about them; everything opened through a site is closed with it.
 */
import { type Agent, TcpCore, UdpAgent } from './agent.ts';
import { DnsStub } from './dns.ts';
import { Holdfast, type HoldfastOptions } from './holdfast.ts';
import { type Arrival, isRequest, isResponse, type Matcher, PATIENCE_MS } from './inbox.ts';
import { freePort, freshHost } from './ports.ts';
import { unique } from './sip.ts';

interface HostPort {
  host: string;
  port: number;
}

export class Site {
  readonly host = freshHost();
  readonly dns: DnsStub;
  server!: Holdfast;
  port = 0;
  private readonly opened: { close(): Promise<unknown> }[] = [];

  private constructor(dns: DnsStub) {
    this.dns = this.keep(dns);
  }

  static async prepare(): Promise<Site> {
    const dns = await DnsStub.open();
    const site = new Site(dns);
    site.port = await freePort(site.host);
    return site;
  }

  private keep<T extends { close(): Promise<unknown> }>(thing: T): T {
    this.opened.push(thing);
    return thing;
  }

  async close(): Promise<void> {
    for (const thing of this.opened.splice(0).reverse()) await thing.close().catch(() => {});
  }

  async udp(options: { port?: number } = {}): Promise<UdpAgent> {
    const host = freshHost();
    const port = options.port ?? (await freePort(host));
    const peer = { host: this.host, port: this.port };
    return this.keep(await UdpAgent.open({ host, port, peer, name: `core ${host}:${port}` }));
  }

  async tcp(): Promise<TcpCore> {
    const host = freshHost();
    return this.keep(await TcpCore.open({ host, port: await freePort(host) }));
  }

  async start(upstream: string, { settings = {}, ...options }: HoldfastOptions = {}): Promise<Holdfast> {
    const { host, port, dns } = this;
    const server = await Holdfast.start({
      ...options,
      host,
      port,
      settings: { UPSTREAM: upstream, DNS: `${dns.host}:${dns.port}`, ...settings },
    });
    this.server = server;
    this.keep({ close: () => server.stop() });
    return server;
  }

  async client(): Promise<Agent> {
    return this.keep(await this.server.udp());
  }

  /** `core.test` as an SRV list of these, each with its priority and weight. */
  servers(
    transport: 'udp' | 'tcp',
    list: [core: HostPort, priority: number, weight?: number][],
    ttl = 300,
  ): this {
    for (const [i, [core, priority, weight = 1]] of list.entries()) {
      this.dns.srv(`_sip._${transport}.core.test`, priority, weight, core.port, `s${i}.test`, ttl);
      this.dns.add('A', `s${i}.test`, core.host, ttl);
    }
    return this;
  }
}

/** A host and port at which nobody listens. */
export async function nowhere(): Promise<HostPort> {
  const host = freshHost();
  return { host, port: await freePort(host) };
}

/** A new request to a foreign domain; its Call-ID. */
export function ask(client: Agent, method = 'MESSAGE'): string {
  const callId = unique('call-');
  const contact = `<${client.uri('u')};ob>`;
  client.send(client.compose(method, 'sip:bob@example.test', { callId, contact }));
  return callId;
}

/** The same, answered 200 by this core. */
export async function served(client: Agent, core: Agent, method = 'MESSAGE'): Promise<Arrival> {
  const callId = ask(client, method);
  const got = await core.next(isRequest(method, callId));
  core.reply(got, 200, 'OK');
  await client.next(isResponse(200, callId));
  return got;
}

/** The core at which it arrives, and what arrived. */
export async function whichever<C extends Agent>(
  cores: readonly C[],
  matcher: Matcher,
): Promise<[C, Arrival]> {
  for (const until = Date.now() + PATIENCE_MS; ; await new Promise((r) => setTimeout(r, 2))) {
    const core = cores.find(({ arrivals }) => arrivals.some(matcher));
    if (core) return [core, await core.next(matcher)];
    if (Date.now() > until) throw new Error(`it came to none of ${cores.map((c) => c.name).join(', ')}`);
  }
}
