/**
 * Who calls (RFC 3261 22.3): a request in the name of a user of ours is forwarded for him alone, and one that leaves
 * our domains for our users alone; so nobody calls as somebody else, and there is no open relay. Who is of another
 * domain may call our users: nobody here could say who he is.
 *
 * Not asked: ACK and CANCEL, which nobody could send again; what a valid token authorises, that is the rest of a
 * dialog; the upstream; and a trusted peer's own requests (one Via: a gateway). What an edge passes on for its
 * clients has more than one, and is asked.
 */
import { parseCredentials } from '../auth/digest.ts';
import { viaCount } from '../proxy/edge.ts';
import type { Exchange } from '../proxy/exchange.ts';
import type { Own } from '../proxy/own.ts';
import type { Callers, RequestProxy } from '../proxy/proxy.ts';
import { latin1 } from '../wire/chars.ts';
import { sipUriOf } from '../wire/fields.ts';
import { ACK, CANCEL, FROM, PROXY_AUTHORIZATION } from '../wire/names.ts';
import { canonicalAor, canonicalHost } from '../wire/uri.ts';
import type { Admission } from './admission.ts';

export interface LocalCallersParts {
  exchange: Exchange;
  own: Own;
  proxy: RequestProxy;
  admission: Admission;
  /** Another proxy decides about what leaves our domains. */
  hasUpstream: boolean;
}

export class LocalCallers implements Callers {
  readonly #p: LocalCallersParts;

  constructor(parts: LocalCallersParts) {
    this.#p = parts;
  }

  admits(served: boolean): boolean {
    const { exchange, own, admission, proxy, hasUpstream } = this.#p;
    const { message: m, source, via } = exchange;
    if (m.method === ACK || m.method === CANCEL) return true;
    if (source.fromUpstream || (source.trusted && viaCount(m, via.end) === 1)) return true;
    const from = sipUriOf(m, FROM);
    const isOurs = from !== undefined && own.servesHost(from.host);
    if (!isOurs && (served || hasUpstream)) return true;
    const aor = from ? canonicalAor(from) : '';
    const host = from ? canonicalHost(from.host) : '';
    let isKnown = false;
    let isLater = false;
    admission.ask('proxy', aor, host, () => {
      isKnown = true;
      if (isLater) proxy.routeAgain(aor);
    });
    isLater = true;
    if (isKnown) proxy.caller = aor;
    return isKnown;
  }

  cutCredentials(): void {
    const { message: m, patch } = this.#p.exchange;
    for (let row = m.first[PROXY_AUTHORIZATION]; row >= 0; row = m.next(row)) {
      const presented = parseCredentials(latin1(m.buf, m.valueStart[row], m.valueEnd[row]));
      if (typeof presented === 'string' || !this.#p.own.servesHost(presented.realm)) continue;
      patch.cut(m.lineStart[row], m.lineEnd[row]);
    }
  }
}
