/**
 * A request that came, for the program to answer, in whatever order and time it likes: `respond`, or `accept` for an
 * INVITE that becomes a call. A 2xx to INVITE is repeated until its ACK is there, from T1 to T2 apart, for 64 T1 (RFC
 * 3261 13.3.1.4); without one the call is hung up and `accept` rejects. `signal` tells of a CANCEL.
 */
import { STATUS_CODES } from 'node:http';
import type { Call } from './call.ts';
import type { Dialog } from './dialog.ts';
import { UserAgentError } from './errors.ts';
import type { HeaderList, ServerExchange } from './exchange.ts';
import type { Incoming } from './incoming.ts';
import { type MessageOptions, payloadOf } from './payload.ts';

export type ResponseOptions = Omit<MessageOptions, 'signal'>;

export interface RequestUser {
  /** headers that the agent adds to a response of this status */
  headersFor(request: IncomingRequest, status: number): HeaderList;
  /** A 2xx has been sent that forms a dialog, or accepts an INVITE within one. */
  accepted(request: IncomingRequest): Promise<Call> | undefined;
}

const REASONS: Record<number, string> = {
  180: 'Ringing',
  181: 'Call Is Being Forwarded',
  182: 'Queued',
  183: 'Session Progress',
  300: 'Multiple Choices',
  380: 'Alternative Service',
  420: 'Bad Extension',
  480: 'Temporarily Unavailable',
  481: 'Call/Transaction Does Not Exist',
  486: 'Busy Here',
  487: 'Request Terminated',
  488: 'Not Acceptable Here',
  489: 'Bad Event',
  500: 'Server Internal Error',
  600: 'Busy Everywhere',
  603: 'Decline',
  604: 'Does Not Exist Anywhere',
  606: 'Not Acceptable',
};

export const reasonOf = (status: number): string => REASONS[status] ?? STATUS_CODES[status] ?? 'Unknown';

export class IncomingRequest {
  readonly message: Incoming;
  /** that it came in; of one that forms a dialog, after its 2xx */
  dialog: Dialog | undefined;
  /** with `dialog`: the call that it belongs to */
  call: Call | undefined;
  /** aborted when the caller cancels: what is answered then goes nowhere */
  readonly signal: AbortSignal;
  readonly exchange: ServerExchange;
  readonly #user: RequestUser;
  readonly #cancel = new AbortController();
  /** the last response, for the repetition of a 2xx to INVITE */
  octets: { status: number; reason: string; headers: HeaderList; body: Buffer } | undefined;
  #answered = false;

  constructor(exchange: ServerExchange, user: RequestUser, dialog?: Dialog, call?: Call) {
    this.exchange = exchange;
    this.message = exchange.request;
    this.dialog = dialog;
    this.call = call;
    this.#user = user;
    this.signal = this.#cancel.signal;
    exchange.onCancel = () => this.#cancel.abort();
  }

  get method(): string {
    return this.message.method;
  }

  get uri(): string {
    return this.message.uri;
  }

  /** The body as UTF-8. */
  get text(): string {
    return this.message.text;
  }

  header(name: string): string | undefined {
    return this.message.header(name);
  }

  /**
   * Provisional ones as often as wanted, a final one once; a second one throws with code `state`. False: nobody waits
   * for it any more, because it was cancelled or the program took too long.
   */
  respond(status: number, reason = reasonOf(status), options: ResponseOptions = {}): boolean {
    const sent = this.#respond(status, reason, options);
    if (sent) this.#after(status)?.catch(() => {}); // the call's end tells of a missing ACK
    return sent;
  }

  /** 200 to an INVITE. Resolves with the call when the ACK has come. */
  accept(options: ResponseOptions = {}): Promise<Call> {
    if (this.method !== 'INVITE') throw new UserAgentError('state', `${this.method} is no INVITE`);
    if (!this.#respond(200, 'OK', options))
      return Promise.reject(new UserAgentError('aborted', 'the caller has given up'));
    return this.#after(200) ?? Promise.reject(new UserAgentError('state', 'the INVITE has no Contact'));
  }

  #after(status: number): Promise<Call> | undefined {
    return status >= 200 && status < 300 ? this.#user.accepted(this) : undefined;
  }

  #respond(status: number, reason: string, options: ResponseOptions): boolean {
    if (!Number.isInteger(status) || status < 101 || status > 699)
      throw new UserAgentError('option', `status ${status}`);
    if (this.#answered) throw new UserAgentError('state', 'it has its final response');
    const { headers, body } = payloadOf(this.method, options);
    const all: HeaderList = [...this.#user.headersFor(this, status), ...headers];
    const plain = /[\r\n\0]/.test(reason) ? reasonOf(status) : reason;
    this.#answered = status >= 200;
    if (this.signal.aborted || !this.exchange.respond(status, plain, all, body)) return false;
    this.octets = { status, reason: plain, headers: all, body };
    return true;
  }

  /** Sends the 2xx again. */
  repeat(): void {
    const { octets } = this;
    if (octets) this.exchange.respond(octets.status, octets.reason, octets.headers, octets.body);
  }
}
