import { formatParams, type HeaderParam } from '../wire/nameaddr.ts';
import type { Binding } from './binding.ts';
import { type Acceptance, type Rejection, reject } from './register.ts';
import type { StoreResult } from './store.ts';

/**
 * From the store's result to the response of a REGISTER: status, reason and header lines (without CRLF).
 * Via, From, To, Call-ID, CSeq and Content-Length are the composer's. Never a Record-Route (10.3).
 */
export interface RegisterAnswer {
  status: number;
  reason: string;
  headers: string[];
}

/** Parameters to add to the Contact of a binding, for GRUUs (RFC 5627 5.2). */
export type ContactExtras = (binding: Binding) => HeaderParam[];

/** Seconds after which a client may try again when the store could not take its registration. */
const RETRY_AFTER = 5;

export function answerRegister(
  accepted: Acceptance,
  result: StoreResult,
  extras?: ContactExtras,
): RegisterAnswer {
  if (result.status !== 'ok') {
    const { status, reason, headers } = refusal(result);
    return { status, reason, headers };
  }
  return { status: 200, reason: 'OK', headers: okHeaders(accepted, result.bindings, extras) };
}

function refusal(result: StoreResult): Rejection {
  switch (result.status) {
    case 'stale':
      return reject(500, 'CSeq Out of Order'); // 10.3 step 7: "the update MUST be aborted and the request fails"
    case 'full':
      return reject(403, 'Too Many Contacts');
    case 'busy':
      return reject(503, 'Service Unavailable', `Retry-After: ${RETRY_AFTER}`);
    default:
      return reject(500, 'Server Internal Error');
  }
}

/** 10.3 step 8: every current binding with its expiry; 5626 §6; RFC 3327 5.3: the Path of this registration only. */
function okHeaders(accepted: Acceptance, bindings: readonly Binding[], extras?: ContactExtras): string[] {
  const headers = bindings.map((binding) => contactLine(binding, accepted.now, extras));
  for (const hop of accepted.path) headers.push(`Path: ${hop}`);
  headers.push('Supported: path, outbound');
  if (accepted.requireOutbound) headers.push('Require: outbound');
  headers.push(`Date: ${new Date(accepted.now).toUTCString()}`);
  return headers;
}

function contactLine(binding: Binding, now: number, extras?: ContactExtras): string {
  const params: HeaderParam[] = [...binding.params];
  if (extras) params.push(...extras(binding));
  params.push(['expires', String(Math.max(1, Math.ceil((binding.expiresAt - now) / 1000)))]);
  return `Contact: <${binding.contact}>${formatParams(params)}`;
}
