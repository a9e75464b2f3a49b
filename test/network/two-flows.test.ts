/**
 * A device with two flows through two edges, and a core behind them: whatever kills the flow or the edge
 * that is tried first, without a word to anyone, a call reaches the device by the other one, and its
 * caller hears nothing of it. Real processes and real time; the edges' answer time is one second.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Address, type Agent, TcpAgent, UdpAgent } from '../harness/agent.ts';
import { composeRegister, newInstance } from '../harness/flows.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { isFinal, isRequest } from '../harness/inbox.ts';
import { aorOf, Call } from '../harness/places.ts';
import { freshHost } from '../harness/ports.ts';
import { bound, boundBecomes, DOMAIN } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';
import { Relay, type Transport } from './relay.ts';

const TRANSPORTS: Transport[] = ['UDP', 'TCP'];
const METHODS = ['INVITE', 'MESSAGE'];

/** One core, two edges before it, a caller, and all that a test opens. */
class Net {
  core!: Holdfast;
  /** the edge of the flow that is tried first, and the other one */
  first!: Holdfast;
  second!: Holdfast;
  caller!: Agent;
  readonly #closing: (() => Promise<unknown>)[] = [];

  static async start(coreTransport: Transport): Promise<Net> {
    const net = new Net();
    const hosts = [freshHost(), freshHost()];
    const common = { WORKERS: '1', FLOW_ANSWER_S: '1', MAX_FLOWS: '256' };
    // an edge's connections come from the address that the kernel chooses
    const trusted = [...hosts, '127.0.0.1'].map((host) => `${host}/32`).join(',');
    net.core = await net.#server({
      settings: { ...common, DOMAINS: DOMAIN, STORE: 'memory:', TRUSTED: trusted },
    });
    const { host, port } = net.core;
    const upstream = `sip:${host}:${port};transport=${coreTransport.toLowerCase()}`;
    const edge = (host: string) => net.#server({ host, settings: { ...common, UPSTREAM: upstream } });
    [net.first, net.second] = await Promise.all(hosts.map(edge));
    net.caller = net.keep(await net.core.udp());
    return net;
  }

  async #server(options: Parameters<typeof Holdfast.start>[0]): Promise<Holdfast> {
    const server = await Holdfast.start(options);
    this.#closing.push(() => server.stop());
    return server;
  }

  keep<T extends { close(): Promise<unknown> }>(it: T): T {
    this.#closing.push(() => it.close().catch(() => {}));
    return it;
  }

  async open(transport: Transport, peer: Address): Promise<Agent> {
    const localHost = freshHost();
    return this.keep(
      transport === 'UDP'
        ? await UdpAgent.open({ host: localHost, peer, name: 'UDP flow' })
        : await TcpAgent.connect({ peer, localHost, name: 'TCP flow' }),
    );
  }

  async relay(transport: Transport, to: Address): Promise<Relay> {
    return this.keep(await Relay.open(transport, to));
  }

  async relayProcess(transport: Transport, to: Address): Promise<{ child: ChildProcess; address: Address }> {
    const child = fork(new URL('./relay-process.ts', import.meta.url), [], { execArgv: [] });
    this.#closing.push(async () => {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    });
    child.send({ transport, to });
    const [address] = (await once(child, 'message')) as [Address];
    return { child, address };
  }

  async close(): Promise<void> {
    await Promise.all(this.#closing.map((close) => close()));
  }
}

/** The flow with reg-id 2 is registered last, so it is tried first. */
class Device {
  readonly user = unique('u');
  readonly aor = aorOf(this.user);
  readonly #instance = newInstance();

  async register(agent: Agent, regId: number): Promise<void> {
    const { callId, bytes } = composeRegister(agent, {
      domain: DOMAIN,
      user: this.user,
      instance: this.#instance,
      regId,
    });
    agent.send(bytes);
    const { message } = await agent.next(isFinal(callId));
    expect(message.startLine).toBe('SIP/2.0 200 OK');
    expect(message.all('Require')).toEqual(['outbound']);
    expect(message.all('Contact')).toHaveLength(regId);
  }
}

interface Scene {
  net: Net;
  transport: Transport;
  method: string;
  device: Device;
  /** what stands between the first flow and its edge, if anything does */
  peer: Address;
  /** the first flow, once it is open */
  flow: Agent;
}

/** How the first flow dies: what must stand in its way beforehand, and what is then done to it. */
interface Death {
  name: string;
  over: Transport[];
  prepare?: (scene: Scene) => Promise<Address>;
  strike: (scene: Scene) => Promise<void> | void;
  /** the edge says 430, so the binding goes */
  unbinds: boolean;
}

const stopped = new WeakMap<Device, ChildProcess>();
const relays = new WeakMap<Device, Relay>();

const FLOW_DEATHS: Death[] = [
  { name: 'a client that neither reads nor answers', over: TRANSPORTS, strike: () => {}, unbinds: true },
  {
    name: 'a middlebox that swallows all octets both ways',
    over: TRANSPORTS,
    prepare: async ({ net, transport, device, peer }) => {
      const relay = await net.relay(transport, peer);
      relays.set(device, relay);
      return relay.address;
    },
    strike: ({ device }) => {
      (relays.get(device) as Relay).swallows = true;
    },
    unbinds: true,
  },
  {
    name: 'a peer process that is stopped (SIGSTOP)',
    over: TRANSPORTS,
    prepare: async ({ net, transport, device, peer }) => {
      const { child, address } = await net.relayProcess(transport, peer);
      stopped.set(device, child);
      return address;
    },
    strike: ({ device }) => {
      stopped.get(device)?.kill('SIGSTOP');
    },
    unbinds: true,
  },
  {
    name: 'a connection that is reset',
    over: ['TCP'],
    strike: ({ flow }) => (flow as TcpAgent).reset(),
    unbinds: true,
  },
  {
    name: 'a connection that is reset when the request has come',
    over: ['TCP'],
    strike: ({ flow, method }) => {
      flow.next(isRequest(method)).then(
        () => (flow as TcpAgent).reset(),
        () => {},
      );
    },
    unbinds: true,
  },
  { name: 'a UDP socket that is closed', over: ['UDP'], strike: ({ flow }) => flow.close(), unbinds: true },
];

/** Registers both flows, strikes the first, and shows that the request reaches the device by the second. */
async function play(net: Net, death: Death, transport: Transport, method: string): Promise<void> {
  const device = new Device();
  const second = await net.open(transport, net.second.address);
  await device.register(second, 1);
  const scene: Scene = { net, transport, method, device, peer: net.first.address, flow: second };
  if (death.prepare) scene.peer = await death.prepare(scene);
  scene.flow = await net.open(transport, scene.peer);
  await device.register(scene.flow, 2);
  await death.strike(scene);
  await arrives(net, device, method, second);
  if (death.unbinds)
    await boundBecomes(net.caller, device.aor, (contacts) => contacts.map((c) => c.regId).join() === '1');
  else expect(await bound(net.caller, device.aor)).toHaveLength(2);
}

/** The caller's request comes by this flow and is answered; the caller sees one 200 and nothing else. */
async function arrives({ caller }: Net, device: Device, method: string, by: Agent): Promise<void> {
  const call = new Call(caller, device.aor, method);
  const got = await by.next(isRequest(method, call.callId));
  by.reply(got, 200, 'OK', method === 'INVITE' ? [['Contact', `<${by.uri(device.user)};ob>`]] : []);
  expect((await call.final()).startLine).toBe('SIP/2.0 200 OK');
  await caller.probe();
  expect(call.rest().filter((m) => m.status > 100)).toEqual([]);
}

const combinations = (over: Transport[]) =>
  over.flatMap((transport) => METHODS.map((method) => ({ transport, method })));

describe.each(TRANSPORTS)('with the core over %s', (coreTransport) => {
  let net: Net;
  beforeAll(async () => {
    net = await Net.start(coreTransport);
  });
  afterAll(() => net?.close());

  it.each(FLOW_DEATHS.map((death) => [death.name, death] as const))(
    '%s: INVITE and MESSAGE come by the other flow [AP-7-02 AP-7-04 AP-7-11 3261-16.9-01]',
    async (_name, death) => {
      await Promise.all(
        combinations(death.over).map(({ transport, method }) => play(net, death, transport, method)),
      );
    },
    15_000,
  );

  // the edge stays dead, so these come last
  it.each([
    ['stopped', 'SIGSTOP'],
    ['killed', 'SIGKILL'],
  ] as const)(
    'an edge that is %s: INVITE and MESSAGE come by the other flow [AP-7-04 3263-4.3-01]',
    async (_name, signal) => {
      if (signal === 'SIGKILL') process.kill(net.first.pid, 'SIGCONT');
      const plays = combinations(TRANSPORTS).map(async ({ transport, method }) => {
        const device = new Device();
        const second = await net.open(transport, net.second.address);
        await device.register(second, 1);
        await device.register(await net.open(transport, net.first.address), 2);
        return { device, second, method };
      });
      const devices = await Promise.all(plays);
      if (signal === 'SIGKILL') await net.first.kill('SIGKILL');
      else process.kill(net.first.pid, signal);
      await Promise.all(devices.map(({ device, second, method }) => arrives(net, device, method, second)));
      for (const { device } of devices) expect(await bound(net.caller, device.aor)).toHaveLength(2);
    },
    15_000,
  );
});
