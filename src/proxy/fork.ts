/**
 * A request to an address-of-record in several places: the response context of RFC 3261 16.7 with the
 * flows of RFC 5626 section 7. Targets of one q in parallel, one flow of a device at a time. A flow that
 * answers 430 or 408, or nothing, or cannot be reached, is replaced by the next flow of that device
 * (AP-7-02, AP-7-04); any other final response settles the device (AP-7-03). A 430 never goes up (AP-7-11).
 *
 * The first 2xx ends it: the other places are cancelled. A 2xx to INVITE goes up whenever it comes.
 * RFC 5393 5.3: no more places are pending at once than Max-Breadth allows.
 */

import { ascii, equalsNoCase, latin1 } from '../wire/chars.ts';
import type { Message } from '../wire/lexer.ts';
import { INVITE } from '../wire/names.ts';
import type { Answers } from './answer.ts';
import { best, type Collected, otherChallenges } from './collect.ts';
import { BUSY, type Exchange, SENT } from './exchange.ts';
import type { Parked, Parking } from './parked.ts';
import type { Place, Target } from './targets.ts';
import { type Context, type ProxyTransactions, TOO_LARGE } from './transactions.ts';

const WWW = ascii('www-authenticate');
const PROXY = ascii('proxy-authenticate');
const RETRY_AFTER = ['Retry-After: 5'];

export interface ForkParts<P extends Place> {
  exchange: Exchange;
  transactions: ProxyTransactions;
  parking: Parking;
  answers: Answers;
  /** Sends the parked request, now in the exchange, to a place, as `target` with this Max-Breadth. SENT, or why not. */
  send: (place: P, target: number, breadth: number) => number;
  /** A 430 came for this place: its flow has ended. */
  stale: (place: P) => void;
  /** No answer came from this place, or one did. */
  silent: (place: P) => void;
  heard: (place: P) => void;
}

interface Branch<P extends Place> {
  target: Target<P>;
  /** the next of its places */
  next: number;
  /** client transaction in progress, -1 none */
  client: number;
  breadth: number;
}

export class Fork<P extends Place> implements Context {
  readonly #p: ForkParts<P>;
  readonly #parked: Parked;
  readonly #server: number;
  readonly #method: number;
  /** groups not yet begun */
  readonly #groups: Target<P>[][];
  readonly #waiting: Target<P>[] = [];
  readonly #branches: Branch<P>[] = [];
  readonly #responses: Collected[] = [];
  readonly #breadth: number;
  #pending = 0;
  /** no new places: a 2xx or 6xx came, or the caller gave up */
  #closed = false;
  #done = false;
  #cancelled = false;
  #timedOut = false;
  /** a place could not be tried, for a reason of ours: BUSY or TOO_LARGE */
  #untried = SENT;

  constructor(parts: ForkParts<P>, parked: Parked, method: number, groups: Target<P>[][], breadth: number) {
    this.#p = parts;
    this.#parked = parked;
    this.#server = parked.source.transaction;
    this.#method = method;
    this.#groups = groups;
    this.#breadth = breadth;
  }

  start(): void {
    this.#p.transactions.setContext(this.#server, this);
    this.#advance();
  }

  /** Begins what may begin; ends when nothing is pending and nothing is left. */
  #advance(): void {
    while (!this.#closed && this.#pending < this.#breadth) {
      if (this.#waiting.length === 0) {
        if (this.#pending > 0) return; // the next group waits for this one
        const group = this.#groups.shift();
        if (!group) break;
        this.#waiting.push(...group);
      }
      const target = this.#waiting.shift();
      if (!target) break;
      const share = Math.max(1, Math.floor(this.#breadth / (this.#pending + this.#waiting.length + 1)));
      const branch: Branch<P> = { target, next: 0, client: -1, breadth: share };
      const index = this.#branches.push(branch) - 1;
      this.#tryNext(branch, index);
    }
    if (this.#pending === 0 && !this.#done) this.#finish();
  }

  /** Sends to the next place of the target that takes the request. False: there is none left. */
  #tryNext(branch: Branch<P>, index: number): boolean {
    const { parking, transactions, send } = this.#p;
    while (!this.#closed && branch.next < branch.target.places.length) {
      const place = branch.target.places[branch.next++];
      let outcome = -1;
      parking.resume(this.#parked, () => {
        outcome = send(place, index, branch.breadth);
      });
      if (outcome === BUSY || outcome === TOO_LARGE) this.#untried = outcome;
      if (outcome !== SENT) continue;
      branch.client = transactions.lastClient;
      this.#pending++;
      return true;
    }
    return false;
  }

  response(client: number, index: number, status: number): void {
    const { transactions } = this.#p;
    const branch = this.#branches[index];
    if (status < 200) {
      if (!this.#done) transactions.forward(this.#server, status);
      return;
    }
    if (status < 300) {
      this.#settle(branch, client);
      if (this.#done && this.#method !== INVITE) return;
      transactions.forward(this.#server, status);
      this.#done = true;
      this.#close();
      return;
    }
    if (branch.client !== client) return; // given up before
    this.#p.heard(branch.target.places[branch.next - 1]);
    this.#settle(branch, client);
    if (status === 430 || status === 408) {
      if (status === 430) this.#p.stale(branch.target.places[branch.next - 1]);
      else this.#timedOut = true;
      this.#tryNext(branch, index);
    } else {
      this.#collect(status);
      if (status >= 600) this.#close();
    }
    this.#advance();
  }

  failed(client: number, index: number, status: number): void {
    const branch = this.#branches[index];
    if (branch.client !== client) return;
    this.#settle(branch, client);
    // 16.8: an INVITE that rang until Timer C and did not answer its CANCEL either counts as a 408
    if (status === 408 || (status === 487 && !this.#cancelled)) this.#timedOut = true;
    if (status !== 487) {
      this.#p.silent(branch.target.places[branch.next - 1]);
      this.#tryNext(branch, index);
    }
    this.#advance();
  }

  #settle(branch: Branch<P>, client: number): void {
    if (branch.client !== client) return;
    branch.client = -1;
    this.#pending--;
  }

  cancel(): void {
    this.#cancelled = true;
    this.#close();
    if (this.#pending === 0 && !this.#done) this.#finish();
  }

  /** No new places, and the pending ones are cancelled (16.7 steps 5 and 10). */
  #close(): void {
    this.#closed = true;
    for (const branch of this.#branches)
      if (branch.client >= 0) this.#p.transactions.cancelClient(branch.client);
  }

  #collect(status: number): void {
    const m = this.#p.exchange.message;
    this.#responses.push({
      status,
      octets: latin1(m.buf, m.start, m.end),
      challenges: status === 401 || status === 407 ? challengesOf(m) : '',
    });
  }

  #finish(): void {
    const { transactions, parking } = this.#p;
    this.#done = true;
    const chosen = best(this.#responses);
    if (chosen) {
      const extra = otherChallenges(this.#responses, chosen);
      transactions.forwardKept(
        this.#server,
        chosen.octets,
        chosen.status === 503 ? 500 : chosen.status,
        extra,
        parking,
      );
    } else if (this.#cancelled) this.#answer(487, 'Request Terminated');
    else if (this.#untried === BUSY) this.#answer(503, 'Service Unavailable', RETRY_AFTER);
    else if (this.#untried === TOO_LARGE) this.#answer(513, 'Message Too Large');
    else if (this.#timedOut && this.#method === INVITE) this.#answer(408, 'Request Timeout');
    else if (this.#timedOut)
      return; // RFC 4320 4.2: no 408 to a non-INVITE; its transaction ends by itself
    else this.#answer(480, 'Temporarily Unavailable');
  }

  #answer(status: number, reason: string, headers?: readonly string[]): void {
    this.#p.parking.resume(this.#parked, () => this.#p.answers.send(status, reason, headers));
  }

  ended(): void {
    this.#done = true;
    this.#close();
  }
}

function challengesOf(m: Message): string {
  let text = '';
  for (let row = 0; row < m.count; row++) {
    const name = [m.lineStart[row], m.nameEnd[row]] as const;
    if (equalsNoCase(m.buf, ...name, WWW) || equalsNoCase(m.buf, ...name, PROXY))
      text += latin1(m.buf, m.lineStart[row], m.lineEnd[row]);
  }
  return text;
}
