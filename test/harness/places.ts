/**
 * What the tests of the authoritative proxy have in common: an AOR with places (flows of devices, straight
 * to the registrar or through an edge that the test plays), and a call from outside that can be
 * acknowledged and cancelled.
 *
 * An edge here only writes its Path into a REGISTER and gets what the proxy sends to it: no flow is
 * behind it, the test answers in its name.
 */
import type { Agent, UdpAgent } from './agent.ts';
import { newInstance } from './flows.ts';
import { type Arrival, isFinal, isRequest, isResponse } from './inbox.ts';
import { DOMAIN, type Registered, Registrar, register, type Store, type Transport } from './registrar.ts';
import { type Header, newBranch, OMIT, type SipMessage, unique } from './sip.ts';

/** Trusted edges stand in this network, phones and callers do not. */
export const EDGES = '127.254.0.0/16';
let edges = 0;

export async function startSite(
  store: Store,
  options: { clocked?: boolean; settings?: Record<string, string> } = {},
): Promise<Site> {
  const settings = { TRUSTED: EDGES, WORKERS: '1', ...options.settings };
  return new Site(await Registrar.start(store, { ...options, settings }));
}

export interface PlaceOptions {
  user: string;
  instance?: string;
  regId?: number;
  q?: string;
  over?: Transport | 'edge';
  /** the edge, where it is an old one */
  edge?: Agent;
}

/** Somewhere an AOR can be reached. */
export interface Place extends Registered {
  agent: Agent;
  user: string;
  /** what stands in Route when a request comes to it, undefined for a flow of the registrar's own */
  path: string | undefined;
}

export class Site {
  readonly registrar: Registrar;

  constructor(registrar: Registrar) {
    this.registrar = registrar;
  }

  caller(transport: Transport = 'UDP'): Promise<Agent> {
    return this.registrar.client(transport);
  }

  /** An edge on a host of the trusted network. */
  async edge(): Promise<UdpAgent> {
    edges = (edges % 60_000) + 1;
    const host = `127.254.${process.pid % 200}.${1 + (edges % 250)}`;
    return this.registrar.keep(await this.registrar.server.udp({ host, name: `edge ${edges}` }));
  }

  async place({ user, instance, regId = 1, q, over = 'UDP', edge }: PlaceOptions): Promise<Place> {
    const agent = over === 'edge' ? (edge ?? (await this.edge())) : await this.registrar.client(over);
    const uri = over === 'edge' ? `sip:${user}@192.0.2.44:5070` : agent.uri(user);
    const contact = `<${uri};p=${unique('p')}>;+sip.instance="<${instance ?? newInstance()}>";reg-id=${regId}${q ? `;q=${q}` : ''}`;
    const path = over === 'edge' ? `<${agent.uri(unique('token'))};lr;ob>` : undefined;
    const registered = await register(agent, {
      user,
      contact,
      ...(path === undefined
        ? {}
        : {
            via: agent.via(),
            moreVia: [`SIP/2.0/UDP 192.0.2.44;branch=${newBranch()}`],
            headers: [['Path', path]],
          }),
    });
    if (registered.answer.status !== 200) throw new Error(`REGISTER: ${registered.answer.startLine}`);
    return { ...registered, agent, user, path };
  }

  /** Several flows of one device, reg-id 1 first: so the last is the one that is tried first. */
  async device(user: string, over: (Transport | 'edge')[], q?: string): Promise<Place[]> {
    const instance = newInstance();
    const places: Place[] = [];
    for (const [i, one] of over.entries())
      places.push(
        await this.place({ user, instance, regId: i + 1, over: one, ...(q === undefined ? {} : { q }) }),
      );
    return places;
  }

  close(): Promise<void> {
    return this.registrar.close();
  }
}

export const aorOf = (user: string) => `sip:${user}@${DOMAIN}`;

/** A request of a caller and what belongs to it. */
export class Call {
  readonly callId = unique('call-');
  readonly method: string;
  readonly #caller: Agent;
  readonly #uri: string;
  readonly #via: string;
  readonly #from = `<sip:caller@example.test>;tag=${unique('f')}`;
  readonly bytes: Buffer;

  constructor(caller: Agent, uri: string, method = 'INVITE', headers: Header[] = []) {
    this.method = method;
    this.#caller = caller;
    this.#uri = uri;
    this.#via = caller.via();
    const contact = method === 'INVITE' ? `<${caller.uri('caller')}>` : OMIT;
    this.bytes = caller.compose(method, uri, { ...this.#same, contact, headers });
    caller.send(this.bytes);
  }

  get #same() {
    return { via: this.#via, from: this.#from, callId: this.callId };
  }

  /** Waits for a final response; acknowledges a failure of an INVITE. */
  async final(): Promise<SipMessage> {
    const { message } = await this.#caller.next((a) => isFinal(this.callId)(a) && !isCancels(a));
    if (this.method === 'INVITE' && message.status >= 300)
      this.#caller.send(
        this.#caller.compose('ACK', this.#uri, { ...this.#same, to: message.header('To') as string }),
      );
    return message;
  }

  async status(): Promise<number> {
    return (await this.final()).status;
  }

  provisional(status: number): Promise<Arrival> {
    return this.#caller.next(isResponse(status, this.callId));
  }

  /** CANCEL, and its 200. */
  async cancel(): Promise<void> {
    this.#caller.send(this.#caller.compose('CANCEL', this.#uri, this.#same));
    const got = await this.#caller.next((a) => isCancels(a) && a.message.callId === this.callId);
    if (got.message.status !== 200) throw new Error(`CANCEL: ${got.message.startLine}`);
  }

  /** The request at this place. */
  at(place: Place): Promise<Arrival> {
    return place.agent.next(isRequest(this.method, this.callId));
  }

  /** It has not come to this place, and will not. */
  async notAt(place: Place): Promise<void> {
    await place.agent.probe();
    await place.agent.probe();
    const got = place.agent.arrivals.find(isRequest(this.method, this.callId));
    if (got) throw new Error(`${place.agent.name} should not have received\n${got.message}`);
  }

  /** What else of this call has come to the caller and was not looked at. */
  rest(): SipMessage[] {
    return this.#caller.arrivals.map((a) => a.message).filter((m) => m.callId === this.callId);
  }
}

const isCancels = (a: Arrival) => a.message.cseq.method === 'CANCEL';

export const REASONS: Record<number, string> = {
  180: 'Ringing',
  183: 'Session Progress',
  200: 'OK',
  302: 'Moved Temporarily',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  407: 'Proxy Authentication Required',
  408: 'Request Timeout',
  415: 'Unsupported Media Type',
  420: 'Bad Extension',
  430: 'Flow Failed',
  480: 'Temporarily Unavailable',
  484: 'Address Incomplete',
  486: 'Busy Here',
  487: 'Request Terminated',
  500: 'Server Internal Error',
  503: 'Service Unavailable',
  600: 'Busy Everywhere',
  603: 'Decline',
};

/** The place answers, as a phone or in the name of one. */
export function reply(place: Place, to: Arrival, status: number, headers: Header[] = []): Buffer {
  const contact: Header[] =
    status < 300 && status > 100 ? [['Contact', `<${place.agent.uri(place.user)}>`]] : [];
  return place.agent.reply(to, status, REASONS[status] ?? 'Whatever', [...contact, ...headers]);
}
