/**
 * A dialog (RFC 3261 12): tags, sequence numbers, route set and remote target, and the requests inside it. It goes over
 * the flow that it was formed on, also after that flow has been made anew.
 *
 * The remote target follows the Contact of target refresh requests and of their 2xx. A first Route without `lr` is
 * served as a strict router (12.2.1.1).
 */
import { formatNameAddr, parseNameAddr } from '../wire/nameaddr.ts';
import { parseSipUri, uriParam } from '../wire/uri.ts';
import { UserAgentError } from './errors.ts';
import { composeAlone, type Draft, type Exchanges, type HeaderList } from './exchange.ts';
import type { Incoming } from './incoming.ts';
import { type MessageOptions, payloadOf } from './payload.ts';
import { transact } from './transact.ts';
import type { Way } from './way.ts';

export interface DialogParts {
  exchanges: Exchanges;
  way: Way;
  callId: string;
  localTag: string;
  remoteTag: string;
  /** values of From and To with their tags, as our requests have them */
  local: string;
  remote: string;
  localSeq: number;
  remoteSeq: number;
  routes: readonly string[];
  target: string;
  /** Contact of our own: the whole value */
  contact: string;
  /** headers that all requests have: Supported */
  common: HeaderList;
  onEnd: (dialog: Dialog) => void;
}

/** May change the remote target (RFC 3261 12.2, RFC 3311, RFC 6665). */
const REFRESHES = new Set(['INVITE', 'UPDATE', 'SUBSCRIBE', 'NOTIFY']);

export class Dialog {
  readonly callId: string;
  readonly localTag: string;
  readonly remoteTag: string;
  readonly routes: readonly string[];
  /** Request-URI of requests inside the dialog */
  target: string;
  ended = false;
  readonly #parts: DialogParts;
  #localSeq: number;
  #remoteSeq: number;

  constructor(parts: DialogParts) {
    this.callId = parts.callId;
    this.localTag = parts.localTag;
    this.remoteTag = parts.remoteTag;
    this.routes = parts.routes;
    this.target = parts.target;
    this.#parts = parts;
    this.#localSeq = parts.localSeq;
    this.#remoteSeq = parts.remoteSeq;
  }

  /** From a 2xx to our request. Undefined: it has no Contact or no tag, so that nothing can be sent in it. */
  static ofAnswer(
    response: Incoming,
    draft: Draft,
    parts: Pick<DialogParts, 'exchanges' | 'way' | 'contact' | 'common' | 'onEnd'>,
  ): Dialog | undefined {
    const target = targetOf(response);
    if (target === undefined || response.toTag === '') return undefined;
    const from = draft.headers.find(([name]) => name === 'From')?.[1] ?? '';
    return new Dialog({
      ...parts,
      callId: response.callId,
      localTag: response.fromTag,
      remoteTag: response.toTag,
      local: from,
      remote: response.header('to') ?? '',
      localSeq: response.cseq,
      remoteSeq: 0,
      routes: response.list('record-route').reverse(), // 12.1.2
      target,
    });
  }

  /** From a request that is answered 2xx under this tag. */
  static ofRequest(
    request: Incoming,
    localTag: string,
    parts: Pick<DialogParts, 'exchanges' | 'way' | 'contact' | 'common' | 'onEnd'>,
  ): Dialog | undefined {
    const target = targetOf(request);
    if (target === undefined) return undefined;
    return new Dialog({
      ...parts,
      callId: request.callId,
      localTag,
      remoteTag: request.fromTag,
      local: `${request.header('to') ?? ''};tag=${localTag}`,
      remote: request.header('from') ?? '',
      localSeq: 0,
      remoteSeq: request.cseq,
      routes: request.list('record-route'), // 12.1.1
      target,
    });
  }

  get key(): string {
    return dialogKey(this.callId, this.localTag, this.remoteTag);
  }

  get way(): Way {
    return this.#parts.way;
  }

  /** A request inside the dialog. The 2xx to a re-INVITE is acknowledged here. */
  async request(method: string, options: MessageOptions = {}): Promise<Incoming> {
    if (this.ended) throw new UserAgentError('state', 'the dialog has ended');
    const { exchanges, way } = this.#parts;
    const payload = payloadOf(method, options);
    let ack: Buffer | undefined;
    let seq = 0;
    const response = await transact({
      exchanges,
      carrier: way,
      signal: options.signal,
      draft: () => {
        seq = ++this.#localSeq;
        return this.draft(method, seq, payload.headers, payload.body);
      },
      success: (answer) => {
        if (REFRESHES.has(method)) this.target = targetOf(answer) ?? this.target;
        if (method !== 'INVITE' || !way.connection) return;
        ack ??= this.ack(seq);
        if (ack) way.connection.send(ack);
      },
    });
    if (response.status === 481 || response.status === 408) this.end(); // 12.2.1.2
    const state = payload.headers.find(([name]) => name.toLowerCase() === 'subscription-state');
    if (endsSubscription(method, state?.[1])) this.end();
    return response;
  }

  /** The octets of the ACK to the 2xx of an INVITE with this CSeq (13.2.2.4). Undefined: the flow is gone. */
  ack(seq: number): Buffer | undefined {
    const { connection } = this.#parts.way;
    return connection && composeAlone(this.draft('ACK', seq, [], Buffer.alloc(0)), connection);
  }

  draft(method: string, seq: number, headers: HeaderList, body: Buffer): Draft {
    const { local, remote, contact, common } = this.#parts;
    const [first, ...rest] = this.routes;
    const strict = first !== undefined && !isLoose(first);
    const uri = strict ? (parseNameAddr(first)?.uri ?? this.target) : this.target;
    const routes = strict ? [...rest, `<${this.target}>`] : this.routes;
    return {
      method,
      uri,
      headers: [
        ['Max-Forwards', '70'],
        ...routes.map((route): [string, string] => ['Route', route]),
        ['From', local],
        ['To', remote],
        ['Call-ID', this.callId],
        ['CSeq', `${seq} ${method}`],
        ...(REFRESHES.has(method) ? [['Contact', contact] as [string, string]] : []),
        ...(method === 'ACK' ? [] : common),
        ...headers,
      ],
      body,
    };
  }

  /** A request of the peer: false if its CSeq is not above the last one (12.2.2). */
  takes(request: Incoming): boolean {
    if (request.cseq <= this.#remoteSeq) return false;
    this.#remoteSeq = request.cseq;
    if (REFRESHES.has(request.method)) this.target = targetOf(request) ?? this.target;
    return true;
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.#parts.onEnd(this);
  }
}

/** RFC 6665 4.4.1: with this NOTIFY the dialog of a SUBSCRIBE is over. */
export const endsSubscription = (method: string, state: string | undefined): boolean =>
  method === 'NOTIFY' && /^terminated\b/i.test(state ?? '');

export const dialogKey = (callId: string, localTag: string, remoteTag: string): string =>
  `${callId} ${localTag} ${remoteTag}`;

function targetOf(message: Incoming): string | undefined {
  const uri = parseNameAddr(message.list('contact')[0] ?? '')?.uri;
  return uri !== undefined && parseSipUri(uri) ? uri : undefined;
}

function isLoose(route: string): boolean {
  const uri = parseSipUri(parseNameAddr(route)?.uri ?? '');
  return uri === undefined || uriParam(uri, 'lr') !== undefined;
}

/** The value with a tag. */
export const tagged = (uri: string, tag: string, display?: string): string =>
  formatNameAddr({ uri, params: [['tag', tag]], ...(display === undefined ? {} : { display }) });
