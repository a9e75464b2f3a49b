/**
 * SIPp calls itself through Holdfast: an edge with SIPp as its core, and a registrar whose AOR SIPp answers
 * for. With SIPp's own scenarios and no loss every call is good. Over a path that loses datagrams on both
 * sides every call goes on for as long as its timers do: nobody is told anything that the far end did not
 * say, a call that fails has run out of retransmissions (and a BYE then gets no answer, RFC 4320 4.2). When
 * the last timer has run, nothing is left of any of them.
 *
 * SIPp's own scenarios cannot be used with loss: its callee aborts a call whose INVITE comes again and
 * forgets a call 4 s after BYE, its caller aborts a call when 100 comes for BYE. See the two files here.
 */
import { describe, expect, it } from 'vitest';
import { type Address, UdpAgent } from '../harness/agent.ts';
import { composeRegister } from '../harness/flows.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { parseMessage } from '../harness/sip.ts';
import { find } from './program.ts';
import { Relay } from './relay.ts';
import { Sipp, type SippScenario, type SippStatistics } from './sipp.ts';
import { Timed } from './timed.ts';

type Role = 'edge' | 'registrar';

async function address(): Promise<Address> {
  const host = freshHost();
  return { host, port: await freePort(host) };
}

const uri = ({ host, port }: Address) => `sip:service@${host}:${port}`;

/** Server, both programs, and a relay before each of them. */
class Line {
  readonly server: Timed;
  readonly relays: Relay[];
  readonly caller: Address;
  readonly callee: Address;
  readonly #programs: Sipp[] = [];

  private constructor(server: Timed, relays: Relay[], caller: Address, callee: Address) {
    this.server = server;
    this.relays = relays;
    this.caller = caller;
    this.callee = callee;
  }

  static async start(role: Role, loss: number, seed: number): Promise<Line> {
    const [caller, callee, at] = [await address(), await address(), await address()];
    const open = (program: Address, n: number) => Relay.open({ program, server: at, loss, seed: seed + n });
    const relays = [await open(caller, 0), await open(callee, 1)];
    const upstream = `${uri(relays[1].front).replace('service@', '')};transport=udp`;
    const settings: Record<string, string> =
      role === 'edge' ? { UPSTREAM: upstream } : { DOMAINS: at.host, STORE: 'memory:', FLOW_ANSWER_S: '30' };
    const server = await Timed.start(settings, at);
    const line = new Line(server, relays, caller, callee);
    try {
      if (role === 'registrar') await line.#register();
    } catch (error) {
      await line.stop();
      throw error;
    }
    return line;
  }

  /** The front of the callee's relay is the phone: calls come down its flow. */
  async #register(): Promise<void> {
    const [, relay] = this.relays;
    const { host, port } = relay.front;
    const phone = await UdpAgent.open({ host: freshHost() });
    const { bytes } = composeRegister(phone, {
      domain: this.server.address.host,
      user: 'service',
      contactUri: uri(relay.front),
      via: `SIP/2.0/UDP ${host}:${port};branch=z9hG4bK-registration`,
    });
    await phone.close();
    expect(parseMessage(await relay.ask(bytes))?.status).toBe(200);
  }

  /** SIPp on both sides with its own scenarios; resolves when all calls are over. */
  async calls(calls: number, rate: number, seconds: number): Promise<void> {
    const [callee, caller] = await this.#both('uas', 'uac', calls, rate, seconds);
    const codes = await Promise.all([caller.ended, callee.ended]);
    expect(codes, this.story).toEqual([0, 0]);
    for (const { statistics } of [caller, callee]) expect(statistics.SuccessfulCall).toBe(calls);
  }

  /** With those that bear loss; resolves with the caller's and callee's statistics after all calls, or that long. */
  async callsWithLoss(calls: number, rate: number, seconds: number): Promise<SippStatistics[]> {
    const [callee, caller] = await this.#both('sipp-callee.xml', 'sipp-caller.xml', calls, rate, seconds);
    const late = new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
    await Promise.race([caller.ended, late]);
    return [caller.statistics, callee.statistics];
  }

  async #both(
    answering: SippScenario,
    calling: SippScenario,
    calls: number,
    rate: number,
    seconds: number,
  ): Promise<Sipp[]> {
    const callee = await Sipp.start({ scenario: answering, at: this.callee, calls, seconds: 2 * seconds });
    this.#programs.push(callee);
    const caller = await Sipp.start({
      ...{ scenario: calling, at: this.caller, calls, rate, seconds: 2 * seconds },
      to: this.server.address,
      through: this.relays[0].back,
    });
    this.#programs.push(caller);
    return [callee, caller];
  }

  /** Transactions, contexts, kept messages and flows are as before the first call. */
  async restored(): Promise<void> {
    const { now: then } = await this.server.use();
    await this.server.useBecomes(then, ({ shards }) => shards.some((s) => s.transactions > 0 && s.cells > 0));
    // a call that still sends again would begin a new transaction once its old one is over
    for (const program of this.#programs) await program.stop();
    // once for what is in progress, once for its final state, and past Timer C and every registration
    for (const ms of [40_000, 40_000, 200_000, 7_300_000]) {
      const { now } = await this.server.use(ms);
      await this.server.useBecomes(now, () => true);
    }
    const { now } = await this.server.use();
    await this.server.useBecomes(
      now,
      ({ flows, shards }) =>
        flows === 0 && shards.every((s) => s.transactions === 0 && s.contexts === 0 && s.cells === 0),
    );
  }

  get story(): string {
    return this.#programs.map((program) => program.story).join('\n');
  }

  async stop(): Promise<void> {
    for (const program of this.#programs) await program.stop();
    for (const relay of this.relays) await relay.close();
    await this.server.stop();
  }
}

/** What a caller or callee must not meet. */
const WRONG = [
  ...['FailedCannotSendMessage', 'FailedUnexpectedMessage', 'FailedCallRejected', 'FailedTimeoutOnRecv'],
  ...['FailedRegexpDoesntMatch', 'OutOfCallMsgs'],
];

const CALLS = 60;

describe.skipIf(!find('sipp')).each<Role>(['edge', 'registrar'])(
  'SIPp through a Holdfast %s',
  { concurrent: true, timeout: 60_000 },
  (role) => {
    it('500 calls without loss: every one is good, and nothing is left', async () => {
      const line = await Line.start(role, 0, 1);
      try {
        await line.calls(500, 100, 30);
        await line.restored();
      } finally {
        await line.stop();
      }
    });

    it('60 calls at 30 % loss each way on both sides: none is told a thing that is not so, and nothing is left', async () => {
      const line = await Line.start(role, 0.3, 5626);
      try {
        const [caller, callee] = await line.callsWithLoss(CALLS, 20, 24);
        for (const relay of line.relays) expect(relay.lost).toBeGreaterThan(0.2);
        for (const name of WRONG)
          expect([name, caller[name], callee[name]], line.story).toEqual([name, 0, 0]);
        // the rest sends again: what is still open after so many seconds is within its timers
        expect(caller.SuccessfulCall + caller.CurrentCall + caller.FailedMaxUDPRetrans).toBe(CALLS);
        expect(caller.SuccessfulCall, line.story).toBeGreaterThan(0.9 * CALLS);
        const { counters } = await line.server.use();
        expect(counters.retransmissionsIn).toBeGreaterThan(0);
        expect(counters.retransmissionsOut).toBeGreaterThan(CALLS);
        await line.restored();
      } finally {
        await line.stop();
      }
    });
  },
);
