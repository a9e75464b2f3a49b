import { Packr } from 'msgpackr';
import { type HeaderParam, unquote } from '../wire/nameaddr.ts';
import { canonicalUri, equalUri, parseUri } from '../wire/uri.ts';

/**
 * A binding: what a registrar keeps for one contact of an address-of-record, and the keys by which
 * bindings are told apart.
 *
 * An outbound binding is (AOR, instance-id, reg-id) and its Contact URI takes no part (5626 §6); any
 * other is (AOR, Contact URI). The AOR is the store's own index, so an instance-id alone finds nothing.
 * The key of a Contact URI is its canonical text. URIs that RFC 3261 19.1.4 calls equal although one
 * has a parameter more (;ob) have different texts, so the location service also compares the URIs.
 *
 * Encoded form: one octet of version, then msgpack of an array of arrays (field order below), so that
 * a field can be appended. Another version decodes to undefined, never to wrong bindings.
 */
export interface Binding {
  key: string;
  /** Contact URI as received */
  contact: string;
  /** Contact parameters as received and in order, without expires, pub-gruu and temp-gruu */
  params: HeaderParam[];
  /** the normalised URN of +sip.instance */
  instance?: string;
  /** 0: not an outbound binding */
  regId: number;
  /** thousandths; 1000 where the Contact had no q */
  q: number;
  /** name-addr texts, topmost first: the Route of a request to this binding (RFC 3327 5.4) */
  path: string[];
  callId: string;
  cseq: number;
  /** unix milliseconds */
  expiresAt: number;
  /** unix milliseconds of the last REGISTER for this key */
  updatedAt: number;
  /** rises with each accepted REGISTER; equal for the bindings of one request. Names this version of the binding. */
  order: number;
  /** flow key of a direct registration */
  flow?: string;
  userAgent?: string;
  /** where there is an instance: temporary GRUUs of the device hold this number, and die when it changes (gruu.ts) */
  epoch?: number;
}

/** `s` for a stream, `d` for a datagram flow: after a restart the first is gone, the second may still work. */
export type FlowKey = `${number}.${number}.${number}.${'s' | 'd'}`;

export function flowKey(slot: number, generation: number, incarnation: number, datagram: boolean): FlowKey {
  return `${slot}.${generation}.${incarnation}.${datagram ? 'd' : 's'}`;
}

export const isStreamFlow = (flow: string): boolean => flow.endsWith('.s');
export const incarnationOf = (flow: string): number => Number(flow.split('.')[2]);

const URIC = /^<((?:[a-zA-Z0-9\-_.!~*'();/?:@&=+$,[\]]|%[0-9a-fA-F]{2})+)>$/;

/**
 * The URN in a raw +sip.instance value, `"<urn:uuid:...>"`, in the form that is compared: scheme and
 * NID in lower case (RFC 2141), all of a UUID in lower case. Undefined if the value is malformed.
 */
export function instanceOf(raw: string): string | undefined {
  const value = unquote(raw);
  const uric = value === undefined ? undefined : URIC.exec(value)?.[1];
  if (uric === undefined) return undefined;
  const urn = /^urn:([^:]+):(.+)$/i.exec(uric);
  if (!urn) return uric;
  const nid = urn[1].toLowerCase();
  return `urn:${nid}:${nid === 'uuid' ? urn[2].toLowerCase() : normaliseNss(urn[2])}`;
}

/** RFC 2141 5: the hex digits of an escape compare without case, all else with it. */
const normaliseNss = (nss: string) => nss.replace(/%[0-9a-fA-F]{2}/g, (hex) => hex.toLowerCase());

export const MAX_REG_ID = 2 ** 31 - 1;

/** 1 to 2^31-1, digits only; undefined if it is anything else (5626 §10). */
export function parseRegId(raw: string): number | undefined {
  const value = /^\d{1,20}$/.test(raw) ? Number(raw) : 0;
  return value >= 1 && value <= MAX_REG_ID ? value : undefined;
}

export const outboundKey = (instance: string, regId: number): string => `o:${instance};${regId}`;

export function contactKey(contact: string): string {
  const uri = parseUri(contact);
  return `c:${uri ? canonicalUri(uri) : contact}`;
}

export const isContactKey = (key: string): boolean => key.startsWith('c:');

/** By key; a Contact URI also by the comparison of 19.1.4, which no key can express. */
export function indexOfBinding(
  bindings: readonly Binding[],
  contact: Pick<Binding, 'key' | 'contact'>,
): number {
  const exact = bindings.findIndex((binding) => binding.key === contact.key);
  if (exact >= 0 || !isContactKey(contact.key)) return exact;
  const uri = parseUri(contact.contact);
  if (!uri) return -1;
  return bindings.findIndex((binding) => {
    if (!isContactKey(binding.key)) return false;
    const other = parseUri(binding.contact);
    return other !== undefined && equalUri(uri, other);
  });
}

/**
 * Highest q, then most recently registered, then lowest reg-id. The clock is too coarse for "most
 * recently": two REGISTERs in a millisecond have an order too.
 */
export function byPreference(a: Binding, b: Binding): number {
  return b.q - a.q || b.order - a.order || a.regId - b.regId || (a.key < b.key ? -1 : 1);
}

const VERSION = 1;
const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true });

/** The returned buffer is the caller's own. */
export function encodeBindings(bindings: readonly Binding[]): Buffer {
  const body = packr.pack(bindings.map(toFields));
  const out = Buffer.allocUnsafe(body.length + 1);
  out[0] = VERSION;
  body.copy(out, 1);
  return out;
}

/** Undefined for another version or damaged octets. */
export function decodeBindings(bytes: Uint8Array): Binding[] | undefined {
  if (bytes.length < 2 || bytes[0] !== VERSION) return undefined;
  try {
    // lmdb's fast buffers are views of a larger one: only `length` is right
    const rows: unknown = packr.unpack(bytes.subarray(1, bytes.length));
    return Array.isArray(rows) ? rows.map(fromFields) : undefined;
  } catch {
    return undefined;
  }
}

type Fields = [
  key: string,
  contact: string,
  params: (string | null | undefined)[],
  instance: string | null | undefined,
  regId: number,
  q: number,
  path: string[],
  callId: string,
  cseq: number,
  expiresAt: number,
  updatedAt: number,
  order: number,
  flow: string | null | undefined,
  userAgent: string | null | undefined,
  epoch: number | null | undefined,
];

function toFields(b: Binding): Fields {
  return [
    b.key,
    b.contact,
    b.params.flat(),
    b.instance,
    b.regId,
    b.q,
    b.path,
    b.callId,
    b.cseq,
    b.expiresAt,
    b.updatedAt,
    b.order,
    b.flow,
    b.userAgent,
    b.epoch,
  ];
}

/** Parameters that msgpack carried as name, value, name, value. */
export function paramsOf(flat: readonly (string | null | undefined)[]): HeaderParam[] {
  const params = new Array<HeaderParam>(flat.length >> 1); // by push it would take room for 17, and keep it
  for (let i = 0; i < params.length; i++) params[i] = [flat[2 * i] as string, flat[2 * i + 1] ?? undefined];
  return params;
}

function fromFields(fields: Fields): Binding {
  const [
    key,
    contact,
    flat,
    instance,
    regId,
    q,
    path,
    callId,
    cseq,
    expiresAt,
    updatedAt,
    order,
    flow,
    agent,
    epoch,
  ] = fields;
  const params = paramsOf(flat);
  const binding: Binding = {
    key,
    contact,
    params,
    regId,
    q,
    path,
    callId,
    cseq,
    expiresAt,
    updatedAt,
    order,
  };
  if (instance != null) binding.instance = instance;
  if (flow != null) binding.flow = flow;
  if (agent != null) binding.userAgent = agent;
  if (epoch != null) binding.epoch = epoch;
  return binding;
}
