/**
 * What comes to the user agent, and the dialogs that it belongs to (RFC 3261 8.2, 12.2.2, 13.3.1.4). BYE, ACK, unknown
 * extensions, strangers in a dialog and what is out of order are dealt with here; the rest waits for the program.
 *
 * A 2xx to an INVITE is repeated from T1 to T2 apart until its ACK is there, also over a stream, for 64 T1; then the
 * call is hung up.
 */
import { parseOptionTags } from '../wire/nameaddr.ts';
import { Call } from './call.ts';
import type { Agenda } from './clock.ts';
import { Dialog, dialogKey, endsSubscription } from './dialog.ts';
import { UserAgentError } from './errors.ts';
import type { Exchanges, HeaderList, ServerExchange } from './exchange.ts';
import type { Incoming } from './incoming.ts';
import { Queue } from './queue.ts';
import { IncomingRequest, type RequestUser } from './request.ts';
import type { Way } from './way.ts';

export const SUPPORTED = 'outbound, path, gruu';
export const ALLOW = 'INVITE, ACK, CANCEL, BYE, OPTIONS, MESSAGE, INFO, UPDATE, SUBSCRIBE, NOTIFY, REFER';
export const FORMS_DIALOG: ReadonlySet<string> = new Set(['INVITE', 'SUBSCRIBE', 'REFER']);
const UNDERSTOOD = new Set(SUPPORTED.split(', '));
/** Requests that may wait for the program. */
const MOST_WAITING = 64;

export interface InboundParts {
  agenda: Agenda;
  exchanges: Exchanges;
  /** the value of our Contact over this flow */
  contact: (way: Way, ob: boolean) => string;
}

/** A 2xx that was sent and not acknowledged. */
interface Unacknowledged {
  acknowledged(): void;
  given(error: UserAgentError): void;
}

export class Inbound implements RequestUser {
  readonly requests = new Queue<IncomingRequest>(MOST_WAITING);
  /** Call-ID and tag of SUBSCRIBEs under way: a NOTIFY may come before the 2xx */
  readonly subscribing = new Set<string>();
  readonly #parts: InboundParts;
  readonly #dialogs = new Map<string, { dialog: Dialog; call: Call | undefined }>();
  /** by dialog and CSeq */
  readonly #unacknowledged = new Map<string, Unacknowledged>();

  constructor(parts: InboundParts) {
    this.#parts = parts;
  }

  dialogParts(way: Way) {
    const { exchanges, contact } = this.#parts;
    return {
      exchanges,
      way,
      contact: contact(way, true),
      common: [['Supported', SUPPORTED]] as HeaderList,
      onEnd: (dialog: Dialog) => {
        const known = this.#dialogs.get(dialog.key);
        this.#dialogs.delete(dialog.key);
        way.left(dialog);
        known?.call?.finish('lost');
      },
    };
  }

  keep(dialog: Dialog, call?: Call): void {
    this.#dialogs.set(dialog.key, { dialog, call });
  }

  stop(): void {
    this.requests.close();
    const error = new UserAgentError('stopped', 'the user agent was stopped');
    for (const waiting of [...this.#unacknowledged.values()]) waiting.given(error);
    for (const { dialog, call } of [...this.#dialogs.values()]) {
      call?.finish('lost');
      dialog.end();
    }
  }

  /** A request that came and is neither an ACK nor a CANCEL. */
  request(exchange: ServerExchange): void {
    const { request } = exchange;
    const unknown = parseOptionTags(request.fields('require')).filter((tag) => !UNDERSTOOD.has(tag));
    if (unknown.length > 0) {
      exchange.respond(420, 'Bad Extension', [['Unsupported', unknown.join(', ')]]);
      return;
    }
    const inside = request.toTag !== '';
    const known = inside
      ? this.#dialogs.get(dialogKey(request.callId, request.toTag, request.fromTag))
      : undefined;
    if (inside && !known && !this.subscribing.has(`${request.callId} ${request.toTag}`)) {
      exchange.respond(481, 'Call/Transaction Does Not Exist');
      return;
    }
    if (known && !known.dialog.takes(request)) {
      exchange.respond(500, 'Server Internal Error');
      return;
    }
    if (known && request.method === 'BYE') {
      exchange.respond(200, 'OK');
      known.call?.finish('remote');
      known.dialog.end();
      return;
    }
    const incoming = new IncomingRequest(exchange, this, known?.dialog, known?.call);
    if (known && !known.call && endsSubscription(request.method, request.header('subscription-state')))
      known.dialog.end();
    if (this.requests.takers > 0 && this.requests.put(incoming)) return;
    incoming.respond(request.method === 'OPTIONS' ? 200 : 480);
  }

  /** An ACK that no transaction took. */
  ack(ack: Incoming): void {
    const key = dialogKey(ack.callId, ack.toTag, ack.fromTag);
    this.#unacknowledged.get(`${key} ${ack.cseq}`)?.acknowledged();
  }

  headersFor({ message, exchange, method, dialog }: IncomingRequest, status: number): HeaderList {
    const list: HeaderList = [['Supported', SUPPORTED]];
    if (method === 'OPTIONS' || status === 405) list.push(['Allow', ALLOW]);
    if (!FORMS_DIALOG.has(method) || status >= 300) return list;
    if (!dialog) for (const value of message.fields('record-route')) list.push(['Record-Route', value]);
    list.push(['Contact', this.#parts.contact(exchange.carrier as Way, false)]); // UA-4.1-06
    return list;
  }

  accepted(request: IncomingRequest): Promise<Call> | undefined {
    const { message, exchange, method } = request;
    if (!FORMS_DIALOG.has(method)) return undefined;
    request.dialog ??= Dialog.ofRequest(message, exchange.tag, this.dialogParts(exchange.carrier as Way));
    if (!request.dialog) return undefined;
    if (method === 'INVITE') request.call ??= new Call(request.dialog, message);
    this.keep(request.dialog, request.call);
    return request.call && method === 'INVITE'
      ? this.#acknowledge(request, request.dialog, request.call)
      : undefined;
  }

  #acknowledge(request: IncomingRequest, dialog: Dialog, call: Call): Promise<Call> {
    const { agenda, exchanges } = this.#parts;
    const { values, longest } = exchanges.timers;
    const until = agenda.now() + longest;
    const key = `${dialog.key} ${request.message.cseq}`;
    return new Promise((resolve, reject) => {
      let interval = values.t1;
      const end = (settle: () => void) => {
        timer?.drop();
        this.#unacknowledged.delete(key);
        settle();
      };
      const timer = agenda.timer((now) => {
        if (now >= until) {
          end(() => reject(new UserAgentError('no-ack', 'the 2xx was not acknowledged')));
          dialog.request('BYE').catch(() => {});
          call.finish('no-ack');
          return;
        }
        request.repeat();
        interval = Math.min(2 * interval, values.t2);
        timer?.set(Math.min(now + interval, until));
      });
      timer?.set(agenda.now() + interval);
      this.#unacknowledged.set(key, {
        acknowledged: () => end(() => resolve(call)),
        given: (error) => end(() => reject(error)),
      });
    });
  }
}
