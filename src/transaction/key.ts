/**
 * The key of a request's server transaction (RFC 3261 17.2.3): 64 bits of keyed SipHash over what must
 * match, so that a look-up is two words and nobody outside can make two requests meet. Fills `lo` and
 * `hi` from a lexed message and its top Via; no strings, no allocation.
 *
 * With a branch that begins with the cookie: branch, sent-by (letter case of the host aside; a port that
 * is absent is not 5060, since a client writes its Via always alike) and method, where ACK counts as INVITE.
 *
 * Without (RFC 2543): Request-URI, From tag, Call-ID, CSeq number, the top Via value, method, and the To
 * tag. An INVITE and what belongs to it leave the To tag out: the ACK brings the one of our response,
 * which no INVITE has. So here the ACK to a 2xx meets its INVITE's transaction; in Accepted it is passed on.
 *
 * A branch that is the cookie alone (RFC 4475 3.2.1) is unique to nobody: as without.
 */
import { SipHash } from '../flow/siphash.ts';
import { AddressView } from '../wire/address.ts';
import { ascii, CHARS, LWS, TOKEN } from '../wire/chars.ts';
import type { Message } from '../wire/lexer.ts';
import { ACK, CALL_ID, FROM, INVITE, M_OTHER, TO, VIA } from '../wire/names.ts';
import type { Via } from '../wire/via.ts';

const COOKIE = ascii('z9hG4bK');
const TAG = ascii('tag');
/** a multiple of eight, so that full blocks go into the hash without a rest */
const CHUNK = 256;

const WITH_COOKIE = 1;
const WITHOUT_COOKIE = 2;
const NOT_LETTERS = 0;
const LOWER = 32;

export class TransactionKey {
  lo = 0;
  hi = 0;
  readonly #hash: SipHash;
  readonly #chunk = new Uint8Array(CHUNK);
  #taken = 0;
  readonly #address = new AddressView();

  /** `secret`: 16 octets. */
  constructor(secret: Uint8Array) {
    this.#hash = new SipHash(secret);
  }

  /** The transaction that this request opens or belongs to; for an ACK, that of its INVITE. */
  ofRequest(m: Message, via: Via): void {
    this.#compute(m, via, m.method === ACK ? INVITE : m.method);
  }

  /** The transaction of the INVITE that a CANCEL wants to end (9.2: as if the method were INVITE). */
  ofInvite(m: Message, via: Via): void {
    this.#compute(m, via, INVITE);
  }

  #compute(m: Message, via: Via, method: number): void {
    const { buf } = m;
    this.#hash.begin();
    this.#taken = 0;
    this.#octet(hasCookie(buf, via) ? WITH_COOKIE : WITHOUT_COOKIE);
    this.#octet(method);
    if (method === M_OTHER) this.#range(buf, m.methodStart, m.methodEnd, NOT_LETTERS);
    this.#range(buf, via.hostStart, via.hostEnd, LOWER);
    this.#octet(via.port);
    this.#octet(via.port >>> 8);
    if (hasCookie(buf, via)) this.#range(buf, via.branchStart, via.branchEnd, NOT_LETTERS);
    else {
      this.#range(buf, m.valueStart[m.first[VIA]], via.end, NOT_LETTERS);
      this.#range(buf, m.uriStart, m.uriEnd, NOT_LETTERS);
      this.#value(m, CALL_ID);
      this.#tag(m, FROM);
      if (method !== INVITE) this.#tag(m, TO);
      for (let shift = 0; shift < 32; shift += 8) this.#octet(m.cseqNumber >>> shift);
    }
    this.#hash.update(this.#chunk, 0, this.#taken);
    this.#hash.end();
    this.lo = this.#hash.lo;
    this.hi = this.#hash.hi;
  }

  #value(m: Message, header: number): void {
    const row = m.first[header];
    this.#range(m.buf, m.valueStart[row], m.valueEnd[row], NOT_LETTERS);
  }

  #tag(m: Message, header: number): void {
    const { buf } = m;
    const address = this.#address;
    const row = m.first[header];
    let start = 0;
    let end = 0;
    if (address.parse(buf, m.valueStart[row], m.valueEnd[row])) {
      start = address.findParam(buf, TAG);
      if (start < 0) start = 0;
      else {
        while (start < address.end && (CHARS[buf[start]] & LWS || buf[start] === 61)) start++;
        end = start;
        while (end < address.end && CHARS[buf[end]] & TOKEN) end++;
      }
    }
    this.#range(buf, start, Math.max(start, end), NOT_LETTERS);
  }

  /** A field and its end: no octet of a header can be 0, so that no two lists of fields give the same octets. */
  #range(buf: Uint8Array, start: number, end: number, lower: number): void {
    const chunk = this.#chunk;
    for (let i = start; i < end; ) {
      if (this.#taken === CHUNK) this.#flush();
      let taken = this.#taken;
      const until = Math.min(end, i + CHUNK - taken);
      if (lower === 0) for (; i < until; i++) chunk[taken++] = buf[i];
      else for (; i < until; i++) chunk[taken++] = buf[i] >= 65 && buf[i] <= 90 ? buf[i] | lower : buf[i];
      this.#taken = taken;
    }
    this.#octet(0);
  }

  #octet(octet: number): void {
    if (this.#taken === CHUNK) this.#flush();
    this.#chunk[this.#taken++] = octet;
  }

  #flush(): void {
    this.#hash.update(this.#chunk, 0, CHUNK);
    this.#taken = 0;
  }
}

/** Does the branch begin with the cookie of RFC 3261, with something behind it that can be unique? */
function hasCookie(buf: Uint8Array, via: Via): boolean {
  const p = via.branchStart;
  if (via.branchEnd - p <= COOKIE.length) return false;
  for (let i = 0; i < COOKIE.length; i++) if (buf[p + i] !== COOKIE[i]) return false;
  return true;
}
