/**
 * The user agent: a SIP endpoint that stays registered over every flow of its outbound-proxy-set (RFC 5626 section 4),
 * sends requests and hands over those that come. It runs in the caller's thread, on the same grammar, framing and
 * transaction machines as the server; sockets are Node's (connection.ts).
 *
 * What it promises: `start` settles with the first registration and from then on flows are replaced without a word
 * from the program, by the waits of Appendix A. A request goes over the first flow that is up. Bodies are the
 * program's: it makes no offer and plays no media. It throws UserAgentError alone; an event's listener that throws is
 * the program's own fault.
 *
 * Costs some 60 KB a user agent with two flows, Node's own objects included, where there are thousands; one timer of the
 * clock, no thread.
 */

import { randomBytes } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { parseSipUri } from '../wire/uri.ts';
import { Call } from './call.ts';
import { Agenda, type Timer } from './clock.ts';
import { Dialog, tagged } from './dialog.ts';
import { UserAgentError } from './errors.ts';
import { type Draft, Exchanges, type HeaderList } from './exchange.ts';
import { type FlowCause, OutboundFlow } from './flow.ts';
import { FlowSet } from './flowset.ts';
import { loadIdentity } from './identity.ts';
import { ALLOW, FORMS_DIALOG, Inbound, SUPPORTED } from './inbound.ts';
import type { Incoming } from './incoming.ts';
import { checkOptions, type Settings, type UserAgentOptions } from './options.ts';
import { type MessageOptions, payloadOf } from './payload.ts';
import { keepOf } from './registration.ts';
import type { IncomingRequest } from './request.ts';
import { transact } from './transact.ts';
import { LooseFlow, type Way } from './way.ts';

/** What has become of one flow of the set. */
export type FlowChange =
  | {
      /** registered, or refreshed */
      state: 'registered';
      /** false: the registrar or a proxy on the way does not do RFC 5626 */
      outbound: boolean;
    }
  | {
      /** `lost`: it was registered. `failed`: it could not be formed */
      state: 'lost' | 'failed';
      cause: FlowCause;
      /** ms from now to the next attempt */
      retryIn: number;
    }
  /** a refresh was refused for now; the flow stays */
  | { state: 'deferred'; status: number; retryIn: number };

/** `uri`: the proxy, as configured. */
export type FlowEvent = { uri: string; regId: number } & FlowChange;

/** A keep-alive on a flow with a registration. One that stays without an answer ends the flow: event `flow`. */
export interface KeepAliveEvent {
  uri: string;
  regId: number;
  state: 'sent' | 'answered';
}

export type UserAgentEventMap = {
  flow: [event: FlowEvent];
  keepAlive: [event: KeepAliveEvent];
};

export interface InviteOptions extends MessageOptions {
  /** 101 to 199 */
  provisional?: (response: Incoming) => void;
}

export class UserAgent extends EventEmitter<UserAgentEventMap> {
  readonly instance: string;
  readonly #settings: Settings;
  readonly #agenda: Agenda;
  readonly #exchanges: Exchanges;
  readonly #set: FlowSet;
  readonly #flows: readonly OutboundFlow[];
  readonly #retry: Timer;
  readonly #inbound: Inbound;
  readonly #firstUp = Promise.withResolvers<void>();
  #loose: Promise<LooseFlow | undefined> | undefined;
  readonly #end = new AbortController();
  #state: 'new' | 'started' | 'stopped' = 'new';
  #stopped: Promise<void> | undefined;

  constructor(options: UserAgentOptions) {
    super();
    const settings = checkOptions(options);
    const { dataDir, aor, proxies, instanceId, random, backoff, flows } = settings;
    const identity =
      dataDir === undefined
        ? { instance: instanceId as string, regIds: proxies.map((_, i) => i + 1) }
        : loadIdentity(dataDir, aor, proxies, instanceId);
    this.instance = identity.instance;
    this.#settings = settings;
    this.#agenda = new Agenda(settings.clock);
    this.#exchanges = new Exchanges({
      agenda: this.#agenda,
      timers: settings.timers,
      onRequest: (exchange) => this.#inbound.request(exchange),
      onAck: (ack) => this.#inbound.ack(ack),
    });
    this.#inbound = new Inbound({
      agenda: this.#agenda,
      exchanges: this.#exchanges,
      contact: (way, ob) => this.#contact(way, ob),
    });
    const members = proxies.map((uri, i) => ({ uri, regId: identity.regIds[i] }));
    this.#set = new FlowSet(members, { random, times: backoff, most: flows });
    const parts = {
      settings,
      agenda: this.#agenda,
      exchanges: this.#exchanges,
      instance: identity.instance,
    };
    this.#flows = this.#set.members.map(
      (member) =>
        new OutboundFlow(member, {
          ...parts,
          user: {
            keepAlive: ({ member: { uri, regId } }, state) => this.emit('keepAlive', { uri, regId, state }),
            registered: (flow, { outbound, expect }) => {
              if (this.#state !== 'started') return;
              this.#set.registered(member, expect, this.#agenda.now());
              this.#firstUp.resolve();
              this.#tell(flow, { state: 'registered', outbound });
            },
            heard: () => this.#set.heard(member),
            deferred: (flow, status, retryAfter) => {
              const now = this.#agenda.now();
              const left = flow.registration.expiresAt - now;
              const at = this.#set.deferred(member, now, left, retryAfter);
              this.#tell(flow, { state: 'deferred', status, retryIn: at - now });
              return at;
            },
            gone: (flow, cause, { was, retryAfter, outage }) => {
              if (this.#state !== 'started') return;
              const now = this.#agenda.now();
              const at =
                was && typeof cause !== 'object'
                  ? this.#set.lost(member, now)
                  : this.#set.attemptFailed(member, now, {
                      ...(retryAfter === undefined ? {} : { retryAfter }),
                      ...(outage === undefined ? {} : { outage }),
                    });
              this.#tell(flow, { state: was ? 'lost' : 'failed', cause, retryIn: at - now });
              this.#retry.set(this.#set.nextDue());
            },
          },
        }),
    );
    this.#retry = this.#agenda.timer(() => this.#attempt()) as Timer;
  }

  /**
   * Registers through the whole set. Settles when the first flow is registered; the others, and every retry, go on by
   * themselves. With `signal` the wait can be given up: it rejects and the agent goes on trying, until `stop`.
   */
  start({ signal }: { signal?: AbortSignal } = {}): Promise<void> {
    if (this.#state === 'stopped') throw new UserAgentError('stopped', 'a user agent starts once');
    if (this.#state === 'new') {
      this.#state = 'started';
      this.#attempt();
    }
    if (!signal) return this.#firstUp.promise;
    return new Promise((resolve, reject) => {
      const aborted = () => reject(new UserAgentError('aborted', 'not registered so far'));
      if (signal.aborted) aborted();
      signal.addEventListener('abort', aborted, { once: true });
      this.#firstUp.promise.then(resolve, reject);
    });
  }

  /**
   * Takes the bindings away and closes all flows. What is under way fails with code `transport`. Another call waits for
   * the same end; with `remove: false` it does not let that wait for any proxy.
   */
  stop({ remove = true }: { remove?: boolean } = {}): Promise<void> {
    this.#stopped ??= this.#stop(remove);
    if (!remove) for (const flow of this.#flows) flow.close();
    return this.#stopped;
  }

  async #stop(remove: boolean): Promise<void> {
    const started = this.#state === 'started';
    this.#state = 'stopped';
    this.#retry.drop();
    this.#firstUp.promise.catch(() => {});
    this.#firstUp.reject(new UserAgentError('stopped', 'stopped before a flow was registered'));
    if (started && remove) await Promise.all(this.#flows.map((flow) => flow.remove()));
    for (const flow of this.#flows) flow.close();
    this.#end.abort();
    this.#inbound.stop();
    this.#agenda.stop();
  }

  /** The flows with a registration that has not run out, in the order of the set. */
  get flows(): readonly { uri: string; regId: number; outbound: boolean; publicGruu: string | undefined }[] {
    const now = this.#agenda.now();
    const bound = this.#up().filter(({ registration }) => registration.expiresAt > now);
    return bound.map(({ member: { uri, regId }, registration: { outbound, publicGruu } }) => ({
      uri,
      regId,
      outbound,
      publicGruu,
    }));
  }

  /** The device has another address: every flow is made anew at once, and not when its keep-alive has failed. */
  networkChanged(): void {
    if (this.#state !== 'started') return;
    for (const flow of this.#flows) {
      if (flow.state === 'registered')
        this.#tell(flow, { state: 'lost', cause: 'network-changed', retryIn: 0 });
      flow.close();
    }
    this.#loose?.then(
      (loose) => loose?.close(),
      () => {},
    );
    this.#loose = undefined;
    this.#set.restart(this.#agenda.now());
    this.#attempt();
  }

  /**
   * The requests that come, in order. Without an iteration OPTIONS is answered 200 and everything else 480; BYE, CANCEL
   * and ACK are the agent's.
   */
  requests(): AsyncIterableIterator<IncomingRequest, undefined> {
    return this.#inbound.requests.items();
  }

  /**
   * A request outside of any dialog, and its final response, whatever that is. The 2xx to a SUBSCRIBE or REFER has the
   * dialog. A REGISTER made here is another device's (third party): it carries neither instance-id nor reg-id.
   */
  async request(method: string, uri: string, options: MessageOptions = {}): Promise<Incoming> {
    const payload = payloadOf(method, options);
    const way = await this.#way();
    const make = this.#drafts(method, uri, way, payload);
    const waits = `${make.callId} ${make.tag}`;
    if (method === 'SUBSCRIBE') this.#inbound.subscribing.add(waits);
    let last: Draft | undefined;
    try {
      const response = await transact({
        exchanges: this.#exchanges,
        carrier: way,
        signal: options.signal,
        keep: way.asksKeep && FORMS_DIALOG.has(method),
        draft: () => {
          last = make.next();
          return last;
        },
      });
      if (FORMS_DIALOG.has(method) && response.status < 300 && last) {
        const dialog = Dialog.ofAnswer(response, last, this.#inbound.dialogParts(way));
        if (dialog) this.#inbound.keep(dialog);
        if (dialog) way.joined(dialog, keepOf(response));
        response.dialog = dialog;
      }
      return response;
    } finally {
      this.#inbound.subscribing.delete(waits);
    }
  }

  /**
   * Calls. Resolves with the call when it is answered (and acknowledged); rejects with code `refused` and the response
   * for any other answer, `aborted` after the signal. A 2xx of a second branch is acknowledged and hung up (13.2.2.4).
   */
  async invite(uri: string, options: InviteOptions = {}): Promise<Call> {
    const payload = payloadOf('INVITE', options);
    const way = await this.#way();
    const make = this.#drafts('INVITE', uri, way, payload);
    const branches = new Map<string, { call: Call; ack: Buffer | undefined }>();
    let last!: Draft;
    const response = await transact({
      exchanges: this.#exchanges,
      carrier: way,
      signal: options.signal,
      provisional: options.provisional,
      keep: way.asksKeep,
      draft: () => {
        last = make.next();
        return last;
      },
      success: (answer) => {
        const known = branches.get(answer.toTag);
        if (known) {
          if (known.ack) way.connection?.send(known.ack);
          return;
        }
        const dialog = Dialog.ofAnswer(answer, last, this.#inbound.dialogParts(way));
        if (!dialog) return;
        const call = new Call(dialog, answer);
        const ack = dialog.ack(answer.cseq);
        if (ack) way.connection?.send(ack);
        branches.set(answer.toTag, { call, ack });
        this.#inbound.keep(dialog, call);
        way.joined(dialog, keepOf(answer));
        if (branches.size > 1 || options.signal?.aborted) void call.bye().catch(() => {});
      },
    });
    if (response.status >= 300)
      throw new UserAgentError('refused', `${response.status} ${response.reason}`, response);
    const call = branches.get(response.toTag)?.call;
    if (!call) throw new UserAgentError('refused', 'the 2xx has no Contact', response);
    if (options.signal?.aborted) throw new UserAgentError('aborted', 'aborted by its signal');
    return call;
  }

  /** Takes away every binding of the AOR, other devices' too (RFC 3261 10.2.2). */
  unregisterAll(): Promise<Incoming> {
    return this.request('REGISTER', this.#settings.registrar, {
      headers: [
        ['Contact', '*'], // UA-4.2.3-02
        ['Expires', '0'],
      ],
    });
  }

  #tell(flow: OutboundFlow, change: FlowChange): void {
    const { uri, regId } = flow.member;
    this.emit('flow', { uri, regId, ...change });
  }

  #up(): OutboundFlow[] {
    return this.#flows.filter(({ state, connection }) => state === 'registered' && connection);
  }

  #attempt(): void {
    if (this.#state !== 'started') return; // a listener may have stopped it
    for (const member of this.#set.due(this.#agenda.now()))
      this.#flows.find((flow) => flow.member === member)?.attempt();
    this.#retry.set(this.#set.nextDue());
  }

  /** The flow for a request outside of any dialog: one that is registered, else one that is made for it. */
  async #way(): Promise<Way> {
    if (this.#state !== 'started') throw new UserAgentError('stopped', 'the user agent does not run');
    const [flow] = this.#up();
    if (flow) return flow;
    this.#loose ??= this.#openLoose();
    const loose = await this.#loose;
    if (!loose?.connection) throw new UserAgentError('no-flow', 'none of the proxies can be reached');
    return loose;
  }

  #openLoose(): Promise<LooseFlow | undefined> {
    const over = () => {
      if (this.#loose === opening) this.#loose = undefined;
    };
    const opening = LooseFlow.open(this.#settings, this.#agenda, this.#exchanges, over, this.#end.signal);
    opening.then((loose) => loose ?? over(), over);
    return opening;
  }

  #drafts(method: string, uri: string, way: Way, { headers, body }: { headers: HeaderList; body: Buffer }) {
    if (!parseSipUri(uri) && !/^tel:[+\d]/.test(uri)) throw new UserAgentError('option', `URI ${uri}`);
    const { aor, displayName } = this.#settings;
    const tag = randomBytes(8).toString('hex');
    const callId = randomBytes(12).toString('hex');
    const registering = method === 'REGISTER';
    const contact: HeaderList = FORMS_DIALOG.has(method) ? [['Contact', this.#contact(way, true)]] : [];
    let seq = 0;
    const next = (): Draft => ({
      method,
      uri,
      headers: [
        ['Max-Forwards', '70'],
        ...way.route.map((route): [string, string] => ['Route', route]),
        ['From', tagged(aor, tag, displayName)],
        ['To', `<${registering ? aor : uri}>`],
        ['Call-ID', callId],
        ['CSeq', `${++seq} ${method}`],
        ...contact,
        ['Supported', registering ? 'path' : SUPPORTED], // UA-4.3-01, 3327-5.1-01
        ...(FORMS_DIALOG.has(method) ? [['Allow', ALLOW] as [string, string]] : []),
        ...headers,
      ],
      body,
    });
    return { callId, tag, next };
  }

  /** The value of our Contact, with `ob` where it is to bring the dialog back over this flow. */
  #contact(way: Way, ob: boolean): string {
    const { anonymous } = this.#settings;
    const { publicGruu, temporaryGruu } = (way as Partial<OutboundFlow>).registration ?? {};
    const gruu = anonymous ? temporaryGruu : publicGruu;
    const uri = `${gruu ?? way.contact}${ob ? ';ob' : ''}`; // UA-4.3-07, 5627-4.4-01
    return `<${uri}>${anonymous ? '' : `;+sip.instance="<${this.instance}>"`}`;
  }
}
