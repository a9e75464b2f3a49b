import {
  formatNameAddr,
  headerParam,
  type NameAddr,
  parseDeltaSeconds,
  parseNameAddrList,
  parseOptionTags,
  parseQ,
} from '../wire/nameaddr.ts';
import { canonicalAor, equalUri, isSip, parseSipUri, parseUri, type SipUri, uriParam } from '../wire/uri.ts';
import { contactKey, instanceOf, outboundKey, parseRegId } from './binding.ts';
import type { ContactUpdate, UpdateOp } from './store.ts';

/**
 * What a REGISTER asks for: a pure decision from the header values of the request to an operation on the
 * location store, or a rejection. RFC 3261 10.3 steps 2, 6 and 7, RFC 3327 5.3, RFC 5626 section 6.
 *
 * The caller has done the rest: the domain, authentication and authorisation, the canonical AOR.
 * `answer.ts` makes the response from the decision and the store's result.
 *
 * `localPath` says that the request came in on a flow of this very process: our own Path value is then
 * stored above all others, so that requests come back to that flow (5626 §6, "adding itself to the Path").
 * It is not shown in the 200. Whether the received Path may be believed is the caller's decision; with
 * `localPath` on top, a false one leads no further than to the flow that it came from.
 */
export interface RegisterRequest {
  /** canonical (`canonicalAor`) */
  aor: string;
  /** raw values of all Contact headers, in order */
  contacts: readonly string[];
  /** raw Expires value */
  expires?: string;
  /** raw values of all Path, Supported, Require headers, in order */
  path: readonly string[];
  supported: readonly string[];
  require: readonly string[];
  /** Via values in the request as it was received: 1 means that we are the first hop */
  viaCount: number;
  callId: string;
  cseq: number;
  /** unix milliseconds */
  now: number;
  /** own Path value with token (and `ob`) of the flow that the request came in on */
  localPath?: string;
  /** the key of that flow */
  flowKey?: string;
  userAgent?: string;
  /** the AOR that a GRUU of ours names */
  aorOfGruu?: (uri: SipUri) => string | undefined;
}

export interface RegisterPolicy {
  /** seconds; what a contact without any expiry gets */
  defaultExpires: number;
  /** seconds; a shorter wish above 0 is answered by 423, at most 3600 */
  minExpires: number;
  /** seconds; a longer wish is cut to this */
  maxExpires: number;
  /** bindings of one AOR */
  maxContacts: number;
  /** Path values of one registration, and their octets together */
  maxPath: number;
  maxPathLength: number;
  /** octets of one Contact, URI and parameters: 16 of them with their Paths fit in one message between threads */
  maxContactLength: number;
  /** refuse a Contact that is not registered by outbound rules (5626 §6: local policy) */
  outboundOnly: boolean;
  /** Path without `path` in Supported: 420 instead of acceptance (RFC 3327 5.3) */
  refuseUnofferedPath: boolean;
  /** option tags that may stand in Require */
  extensions: readonly string[];
}

export const DEFAULT_POLICY: RegisterPolicy = {
  defaultExpires: 3600,
  minExpires: 60,
  maxExpires: 7200,
  maxContacts: 16,
  maxPath: 8,
  maxPathLength: 2048,
  maxContactLength: 1024,
  outboundOnly: false,
  refuseUnofferedPath: false,
  extensions: ['path', 'outbound', 'gruu'],
};

export interface Rejection {
  kind: 'reject';
  status: number;
  reason: string;
  /** header lines without CRLF */
  headers: string[];
}

/** What the 200 says beside the bindings. */
export interface Acceptance {
  now: number;
  /** the Path values of this registration as received, for the 200 (RFC 3327 5.3) */
  path: string[];
  requireOutbound: boolean;
  /** the client knows what to do with GRUUs (RFC 5627 5.2) */
  gruu: boolean;
}

export type RegisterDecision =
  | Rejection
  | ({ kind: 'query'; aor: string } & Acceptance)
  | ({ kind: 'update'; op: UpdateOp } & Acceptance);

export function reject(status: number, reason: string, ...headers: string[]): Rejection {
  return { kind: 'reject', status, reason, headers };
}

const badRequest = (why: string) => reject(400, why);

/** LMDB keys end at 1978 octets; nobody's address comes near. */
const MAX_AOR_LENGTH = 512;

export function decideRegister(request: RegisterRequest, policy: RegisterPolicy): RegisterDecision {
  const required = parseOptionTags(request.require);
  const unsupported = required.filter((tag) => !policy.extensions.includes(tag));
  if (unsupported.length > 0) return reject(420, 'Bad Extension', `Unsupported: ${unsupported.join(', ')}`);
  if (request.aor.length > MAX_AOR_LENGTH) return badRequest('Address-of-Record Too Long');

  const supported = parseOptionTags(request.supported);
  const path = parsePath(request.path);
  if (!path) return badRequest('Malformed Path');
  if (path.length > policy.maxPath || lengthOf(request.path) > policy.maxPathLength) {
    return badRequest('Too Many Path Values');
  }
  if (path.length > 0 && policy.refuseUnofferedPath && !supported.includes('path')) {
    return reject(420, 'Bad Extension', 'Unsupported: path');
  }

  const acceptance: Acceptance = {
    now: request.now,
    path: path.map(formatNameAddr),
    requireOutbound: false,
    gruu: supported.includes('gruu') || required.includes('gruu'),
  };
  if (request.contacts.length === 0) return { kind: 'query', aor: request.aor, ...acceptance };

  const op = emptyUpdate(request, policy, acceptance.path);
  if (request.contacts.some((value) => value.trim() === '*')) {
    // 10.3 step 6: alone, and Expires 0
    if (request.contacts.length > 1 || parseDeltaSeconds(request.expires ?? '') !== 0) {
      return badRequest('Wildcard Contact Needs Expires 0 and No Other Contact');
    }
    op.clear = true;
    return { kind: 'update', op, ...acceptance };
  }

  const contacts = parseContacts(request, policy);
  if (!Array.isArray(contacts)) return contacts;
  const rejection = applyOutbound(contacts, request, path, supported, policy);
  if (rejection) return rejection;
  op.contacts = contacts.map((contact) => contact.update);
  acceptance.requireOutbound =
    supported.includes('outbound') && op.contacts.some((contact) => contact.regId > 0);
  return { kind: 'update', op, ...acceptance };
}

function emptyUpdate(request: RegisterRequest, policy: RegisterPolicy, path: string[]): UpdateOp {
  const op: UpdateOp = {
    kind: 'update',
    aor: request.aor,
    now: request.now,
    callId: request.callId,
    cseq: request.cseq,
    clear: false,
    contacts: [],
    path: request.localPath === undefined ? path : [request.localPath, ...path],
    maxContacts: policy.maxContacts,
  };
  if (request.flowKey !== undefined) op.flow = request.flowKey;
  if (request.userAgent !== undefined) op.userAgent = request.userAgent;
  return op;
}

interface ParsedContact {
  update: ContactUpdate;
  /** reg-id as received, 0 if absent: whether it counts is decided later */
  regId: number;
}

function parseContacts(request: RegisterRequest, policy: RegisterPolicy): ParsedContact[] | Rejection {
  const contacts: ParsedContact[] = [];
  for (const value of request.contacts) {
    const list = parseNameAddrList(value);
    if (!list) return badRequest('Malformed Contact');
    for (const address of list) {
      if (formatNameAddr(address).length > policy.maxContactLength) return badRequest('Contact Too Long');
      const contact = parseContact(address, request, policy);
      if ('kind' in contact) return contact;
      contacts.push(contact);
    }
  }
  return contacts;
}

function parseContact(
  address: NameAddr,
  request: RegisterRequest,
  policy: RegisterPolicy,
): ParsedContact | Rejection {
  const uri = parseUri(address.uri);
  if (!uri) return badRequest('Malformed Contact URI');
  const wanted = headerParam(address.params, 'expires') ?? request.expires;
  const granted = grant(wanted, policy);
  if (typeof granted !== 'number') return granted;

  const rawRegId = headerParam(address.params, 'reg-id');
  const regId = rawRegId === undefined ? 0 : parseRegId(rawRegId);
  if (regId === undefined) return badRequest('Malformed reg-id'); // 5626 §10

  const rawInstance = headerParam(address.params, '+sip.instance');
  const instance = rawInstance === undefined ? undefined : instanceOf(rawInstance);
  if (instance !== undefined && granted > 0) {
    // RFC 5627 5.1: either would make a routing loop
    if (!isSip(uri)) return reject(403, 'Contact Is Not a SIP URI');
    const aor = parseSipUri(request.aor);
    const isGruu =
      uriParam(uri, 'gr') !== undefined &&
      (canonicalAor(uri) === request.aor || request.aorOfGruu?.(uri) === request.aor);
    if (isGruu || (aor && equalUri(uri, aor))) return reject(403, 'Contact Is the Address-of-Record');
  }
  const update: ContactUpdate = {
    key: contactKey(address.uri),
    contact: address.uri,
    params: address.params.filter(([name]) => !NOT_STORED.has(name.toLowerCase())),
    regId: 0,
    q: parseQ(headerParam(address.params, 'q') ?? '1') ?? 1000,
    expires: granted,
  };
  if (instance !== undefined) update.instance = instance;
  return { update, regId };
}

/** The registrar's own to say: the expiry, and GRUUs (RFC 5627 5.1). */
const NOT_STORED = new Set(['expires', 'pub-gruu', 'temp-gruu']);

/** Seconds for a wish (raw; malformed counts as none), or 423 (10.3 step 7). */
function grant(wanted: string | undefined, policy: RegisterPolicy): number | Rejection {
  const seconds = parseDeltaSeconds(wanted ?? '') ?? policy.defaultExpires;
  if (seconds > 0 && seconds < 3600 && seconds < policy.minExpires) {
    return reject(423, 'Interval Too Brief', `Min-Expires: ${policy.minExpires}`);
  }
  return Math.min(seconds, policy.maxExpires);
}

/** 5626 §6: which contacts are outbound registrations. Sets their key and reg-id, or says why not. */
function applyOutbound(
  contacts: ParsedContact[],
  request: RegisterRequest,
  path: NameAddr[],
  supported: string[],
  policy: RegisterPolicy,
): Rejection | undefined {
  const live = contacts.filter((contact) => contact.update.expires > 0);
  if (firstHopHasOutbound(request.viaCount, path)) {
    if (live.length > 1 && live.some((contact) => contact.regId > 0)) {
      return badRequest('One Contact at a Time With reg-id');
    }
    for (const { update, regId } of contacts) {
      if (regId === 0 || update.instance === undefined) continue; // reg-id alone is ignored
      update.regId = regId;
      update.key = outboundKey(update.instance, regId);
    }
  } else if (contacts.some((contact) => contact.regId > 0) && supported.includes('outbound')) {
    return reject(439, 'First Hop Lacks Outbound Support');
  }
  if (policy.outboundOnly && live.some((contact) => contact.update.regId === 0)) {
    return reject(403, 'Outbound Registration Required');
  }
  return undefined;
}

/**
 * One Via: we are the first hop, and have outbound. Otherwise the first hop says it in its Path URI, which
 * is the last value, because each proxy prepends its own.
 */
function firstHopHasOutbound(viaCount: number, path: NameAddr[]): boolean {
  if (viaCount <= 1) return true;
  const last = path.at(-1);
  const uri = last && parseSipUri(last.uri);
  return uri !== undefined && uriParam(uri, 'ob') !== undefined;
}

const lengthOf = (values: readonly string[]) => values.reduce((sum, value) => sum + value.length, 0);

function parsePath(values: readonly string[]): NameAddr[] | undefined {
  const path: NameAddr[] = [];
  for (const value of values) {
    const list = parseNameAddrList(value);
    if (!list) return undefined;
    for (const hop of list) {
      if (!parseSipUri(hop.uri)) return undefined;
      path.push(hop);
    }
  }
  return path;
}
