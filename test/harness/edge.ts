/**
 * The set-up of nearly every edge test: Holdfast as a pure edge on one loopback host, a core played
 * by the test behind it, and as many clients as the test asks for, each on a host of its own.
 * Everything opened through it is closed with it.
 */
import { type Agent, TcpCore, UdpAgent } from './agent.ts';
import { Holdfast, type HoldfastOptions } from './holdfast.ts';
import { freePort, freshHost } from './ports.ts';

export type Transport = 'UDP' | 'TCP';

/** The backend that this test run asks for; tests of what only raw sockets can do look at it. */
export const IO = process.env.HOLDFAST_IO ?? 'auto';

export class Edge<Core extends Agent = UdpAgent> {
  readonly server: Holdfast;
  readonly core: Core;
  private readonly agents: Agent[];

  constructor(server: Holdfast, core: Core) {
    this.server = server;
    this.core = core;
    this.agents = [core];
  }

  /** A client of the edge on a host of its own, over the given transport. */
  async client(transport: Transport = 'UDP', options: { host?: string; port?: number } = {}): Promise<Agent> {
    const { host, port } = options;
    const agent =
      transport === 'UDP'
        ? await this.server.udp({ name: 'UDP client', ...options })
        : await this.server.tcp({
            name: 'TCP client',
            ...(host === undefined ? {} : { localHost: host }),
            ...(port === undefined ? {} : { localPort: port }),
          });
    return this.keep(agent);
  }

  /** Closes this agent together with the edge. */
  keep<A extends Agent>(agent: A): A {
    this.agents.push(agent);
    return agent;
  }

  get hostPort(): string {
    return `${this.server.host}:${this.server.port}`;
  }

  async close(): Promise<void> {
    for (const agent of this.agents) await agent.close().catch(() => {});
    await this.server.stop();
  }
}

type EdgeOptions = HoldfastOptions & { core?: { host: string; port: number } };

/** An edge whose core is reached over UDP. */
export async function startEdge(options: EdgeOptions = {}): Promise<Edge> {
  const host = options.host ?? freshHost();
  const port = options.port ?? (await freePort(host));
  const coreHost = options.core?.host ?? freshHost();
  const corePort = options.core?.port ?? (await freePort(coreHost));
  const core = await UdpAgent.open({ host: coreHost, port: corePort, peer: { host, port }, name: 'core' });
  const settings = { UPSTREAM: `sip:${core.hostPort};transport=udp`, ...options.settings };
  return new Edge(await startOr(core, { ...options, host, port, settings }), core);
}

/** An edge whose core is reached over TCP. */
export async function startEdgeOverTcp(options: EdgeOptions = {}): Promise<Edge<TcpCore>> {
  const coreHost = options.core?.host ?? freshHost();
  const core = await TcpCore.open({ host: coreHost, port: options.core?.port ?? (await freePort(coreHost)) });
  const settings = { UPSTREAM: `sip:${core.hostPort};transport=tcp`, ...options.settings };
  return new Edge(await startOr(core, { ...options, settings }), core);
}

/** The server, or its failure with the core closed. */
async function startOr(core: Agent, options: HoldfastOptions): Promise<Holdfast> {
  try {
    return await Holdfast.start(options);
  } catch (error) {
    await core.close();
    throw error;
  }
}
