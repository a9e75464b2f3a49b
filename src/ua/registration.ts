/**
 * The registration of one flow (RFC 5626 4.2, RFC 5627 4, RFC 3608 5): what its REGISTER says, what an answer means,
 * and when the next one is due. No sockets, no clock. It lives as long as its URI is in the set: over flows that fail
 * it keeps reg-id and Call-ID and raises CSeq, so that a binding is replaced and temporary GRUUs stay good.
 *
 * `outbound` in Require of the 2xx is the only sign that outbound rules were used. Where it is missing, refreshes leave
 * the reg-id out, and the first REGISTER over another flow takes the old contact away: nobody else would.
 */
import { randomBytes } from 'node:crypto';
import { headerParam, parseNameAddr, unquote } from '../wire/nameaddr.ts';
import { parseSipUri, uriParam } from '../wire/uri.ts';
import { Via } from '../wire/via.ts';
import type { Incoming } from './incoming.ts';

export interface RegistrationOptions {
  /** as it stands in From and To */
  aor: string;
  /** Request-URI: the domain */
  registrar: string;
  instance: string;
  regId: number;
  /** seconds to ask for */
  expires: number;
  /** ask for GRUUs */
  gruus?: boolean;
  /** insist on outbound by Require (UA-4.2.1-12) */
  require?: boolean;
  /** after a 439 register without outbound (UA-4.2.1-20) */
  fallback?: boolean;
  /** keep the reg-id after a 2xx without `outbound` */
  insist?: boolean;
  /** the next hop answers keep-alives, says the configuration (UA-4.4-03) */
  keepAlives?: boolean;
  random: () => number;
}

export type Outcome =
  /** `expect`: the next hop answers keep-alives; `seconds` of Flow-Timer or keep */
  | { kind: 'registered'; outbound: boolean; expect: boolean; seconds: number | undefined }
  | { kind: 'removed' }
  /** send what `headers` says now, over the same flow */
  | { kind: 'again' }
  /** the flow may stay; `retryAfter` in ms */
  | { kind: 'recoverable'; status: number; retryAfter: number | undefined }
  | { kind: 'refused'; status: number; outage: boolean };

/** 5627 4.1: a transaction may last so long, and the binding has to outlive it. */
const TRANSACTION_S = 32;
const DEFAULT_EXPIRES = 3600;
/** A registrar that grants nothing with a 2xx is asked again after this, and not in a loop. */
const NOTHING_GRANTED_S = 30;

export class Registration {
  readonly options: RegistrationOptions;
  readonly callId = `${randomBytes(12).toString('hex')}`;
  /** URIs for requests of this registration, in order (3608-5-01) */
  serviceRoute: readonly string[] = [];
  publicGruu: string | undefined;
  temporaryGruu: string | undefined;
  /** the last 2xx had `outbound` in Require */
  outbound = false;
  refreshAt = Infinity;
  expiresAt = Number.NEGATIVE_INFINITY;
  readonly #tag = randomBytes(8).toString('hex');
  #cseq = 0;
  /** the Contact URI of the binding without outbound that stands */
  #ordinary: string | undefined;
  #expires: number;
  #asks = true;
  #removing = false;

  constructor(options: RegistrationOptions) {
    this.options = options;
    this.#expires = options.expires;
  }

  /** Does the next REGISTER ask for outbound? */
  get asks(): boolean {
    return this.#asks;
  }

  /** Of the next REGISTER, a new one or the same once more (3261-22-05). `contact`: the URI of this flow. */
  headers(contact: string, removing = false): [string, string][] {
    const { aor, instance, regId, require = false, gruus = true } = this.options;
    this.#removing = removing;
    this.#cseq++;
    const outbound = this.#asks ? `;reg-id=${regId}` : '';
    const stale = this.#ordinary !== undefined && this.#ordinary !== contact;
    return [
      ['From', `<${aor}>;tag=${this.#tag}`],
      ['To', `<${aor}>`],
      ['Call-ID', this.callId],
      ['CSeq', `${this.#cseq} REGISTER`],
      ['Contact', `<${contact}>;+sip.instance="<${instance}>"${outbound}`], // UA-4.1-08
      // 4.2.1: nothing but the UA removes a contact of an earlier flow where reg-ids are not known
      ...(stale ? [['Contact', `<${this.#ordinary}>;expires=0`] as [string, string]] : []),
      ['Expires', `${removing ? 0 : this.#expires}`],
      ['Supported', `path${this.#asks ? ', outbound' : ''}${gruus ? ', gruu' : ''}`],
      ...(require && this.#asks ? [['Require', 'outbound'] as [string, string]] : []),
    ];
  }

  /** What a final answer means; challenges are the caller's. */
  outcome(response: Incoming, now: number, contact: string): Outcome {
    const { status } = response;
    if (status < 300) return this.#removing ? this.#removed() : this.#registered(response, now, contact);
    if (status === 423) {
      const least = response.seconds('min-expires');
      if (least === undefined || least <= this.#expires) return { kind: 'refused', status, outage: true };
      this.#expires = least;
      return { kind: 'again' };
    }
    if (status === 439 && this.#asks) {
      if (!this.options.fallback) return { kind: 'refused', status, outage: false };
      this.#asks = false;
      return { kind: 'again' };
    }
    const retryAfter = retryAfterOf(response);
    // 4.2.2: what may pass by itself does not tear the flow down
    if (status === 408 || status === 480 || status === 486 || status >= 500)
      return { kind: 'recoverable', status, retryAfter };
    return { kind: 'refused', status, outage: true };
  }

  /** The flow that it went over is gone; the binding, if there is one, is to be replaced. A new flow asks again. */
  lost(): void {
    this.refreshAt = Infinity;
    this.outbound = false;
    this.#asks = true;
  }

  #removed(): Outcome {
    this.lost();
    this.expiresAt = Number.NEGATIVE_INFINITY;
    return { kind: 'removed' };
  }

  #registered(response: Incoming, now: number, contact: string): Outcome {
    const { random, keepAlives = false, insist = false } = this.options;
    this.outbound = this.#asks && response.hasTag('require', 'outbound'); // UA-4.2.1-15
    if (!this.outbound && !insist) this.#asks = false; // UA-4.2.1-16
    this.#ordinary = this.outbound ? undefined : contact;
    const own = this.#own(response, contact);
    const expires =
      seconds(own && headerParam(own, 'expires')) ?? response.seconds('expires') ?? DEFAULT_EXPIRES;
    this.expiresAt = now + expires * 1000;
    // 5627-4.2-02, and a little earlier at random, so that a crowd that came together spreads
    const latest =
      expires > 2 * TRANSACTION_S
        ? Math.min(expires - TRANSACTION_S, expires * 0.9)
        : expires / 2 || NOTHING_GRANTED_S;
    this.refreshAt = now + latest * 1000 * (0.9 + 0.1 * random());
    this.serviceRoute = response.list('service-route');
    this.publicGruu = gruu(own, 'pub-gruu');
    this.temporaryGruu = gruu(own, 'temp-gruu');
    const keep = keepOf(response);
    const timer = response.seconds('flow-timer');
    return {
      kind: 'registered',
      outbound: this.outbound,
      expect: this.outbound || keepAlives || keep !== undefined || pathHasOb(response),
      seconds: keep || timer ? Math.min(keep || Infinity, timer || Infinity) : undefined,
    };
  }

  /** The parameters of our own Contact among those of the answer. */
  #own(response: Incoming, contact: string) {
    const { instance, regId } = this.options;
    const bindings = response.list('contact').map(parseNameAddr);
    const ours = bindings.find((binding) => {
      if (!binding) return false;
      const named = unquote(headerParam(binding.params, '+sip.instance') ?? '')?.toLowerCase();
      const id = headerParam(binding.params, 'reg-id');
      return named === `<${instance.toLowerCase()}>` && (id === undefined || Number(id) === regId);
    });
    return (ours ?? bindings.find((binding) => binding?.uri === contact))?.params;
  }
}

const seconds = (text: string | undefined): number | undefined =>
  text !== undefined && /^\d+$/.test(text) ? Math.min(Number(text), 2 ** 31) : undefined;

function gruu(params: Parameters<typeof headerParam>[0] | undefined, name: string): string | undefined {
  const uri = unquote((params && headerParam(params, name)) ?? '');
  return uri !== undefined && parseSipUri(uri) ? uri : undefined;
}

/** In ms; the comment and the duration of RFC 3261 20.33 are passed over. */
function retryAfterOf(response: Incoming): number | undefined {
  const value = seconds(/^\d+/.exec(response.header('retry-after') ?? '')?.[0]);
  return value === undefined ? undefined : value * 1000;
}

/** ST-8-09: the first edge proxy keeps flows. */
function pathHasOb(response: Incoming): boolean {
  return response.list('path').some((value) => {
    const uri = parseSipUri(parseNameAddr(value)?.uri ?? '');
    return uri !== undefined && uriParam(uri, 'ob') !== undefined;
  });
}

const via = new Via();

/** The value of `keep` in the topmost Via (RFC 6223 4.3): what the next hop says of itself. */
export function keepOf(response: Incoming): number | undefined {
  const bytes = Buffer.from(`${response.header('via') ?? ''}\0`, 'latin1');
  if (!via.parse(bytes, 0, bytes.length - 1) || via.keepAt < 0) return undefined;
  return seconds(bytes.toString('latin1', via.keepAt, via.keepEnd).replace(/^\s*=\s*/, ''));
}
