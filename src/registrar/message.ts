import { Packr } from 'msgpackr';
import type { Ring } from '../shared/ring.ts';
import { decodeBindings, encodeBindings, paramsOf } from './binding.ts';
import type { ContactUpdate, StoreOp, StoreResult, StoreStatus, UpdateOp } from './store.ts';

/**
 * Requests to the store thread and its answers as octets for a ring. Both ends are one build, so there is
 * no version; octets that cannot be read are undefined. Id 0 asks for no answer.
 *
 * A binding in memory keeps the text of its request: msgpackr cuts strings out of one that spans them all. So a request
 * has no names of fields in it.
 */
export const NO_ANSWER = 0;

// Message types on the mesh.
export const STORE_REQUEST = 0x40;
export const STORE_ANSWER = 0x41;
/** from main: finish what has been received, write everything to disk, end */
export const STORE_STOP = 0x42;

const FIRST_LETTER = 4096;
const { copy } = Buffer.prototype;

export interface StoreRequest {
  id: number;
  op: StoreOp;
}

export interface StoreAnswer {
  id: number;
  result: StoreResult;
}

type AnswerFields = [
  id: number,
  status: StoreStatus,
  count: number,
  bindings: Uint8Array | undefined,
  aors: string[] | undefined,
];

/** An update, which nearly every request is, by its fields in order; any other operation as it is. */
type RequestFields =
  | [id: number, op: StoreOp]
  | [
      id: number,
      aor: string,
      callId: string,
      path: string[],
      contacts: ContactFields[],
      flow: string | null | undefined,
      userAgent: string | null | undefined,
      now: number,
      cseq: number,
      clear: boolean,
      maxContacts: number,
    ];

type ContactFields = [
  key: string,
  contact: string,
  params: (string | null | undefined)[],
  instance: string | null | undefined,
  regId: number,
  q: number,
  expires: number,
];

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true });

/** The returned octets are valid until the next call. */
export function encodeRequest({ id, op }: StoreRequest): Uint8Array {
  const fields: RequestFields =
    op.kind !== 'update'
      ? [id, op]
      : [
          id,
          op.aor,
          op.callId,
          op.path,
          op.contacts.map(toFields),
          op.flow,
          op.userAgent,
          op.now,
          op.cseq,
          op.clear,
          op.maxContacts,
        ];
  return packr.pack(fields);
}

const toFields = (c: ContactUpdate): ContactFields => [
  c.key,
  c.contact,
  c.params.flat(),
  c.instance,
  c.regId,
  c.q,
  c.expires,
];

/** `length`: octets of the message, if the array goes on behind it. Nothing of the array is kept. */
export function decodeRequest(bytes: Uint8Array, length = bytes.length): StoreRequest | undefined {
  try {
    const fields = packr.unpack(bytes, length) as RequestFields;
    const [id] = fields;
    const op = fields.length === 2 ? fields[1] : updateOf(fields);
    return typeof id === 'number' && typeof op === 'object' ? { id, op } : undefined;
  } catch {
    return undefined;
  }
}

function updateOf(fields: Exclude<RequestFields, [number, StoreOp]>): UpdateOp {
  const [, aor, callId, path, contacts, flow, userAgent, now, cseq, clear, maxContacts] = fields;
  const op: UpdateOp = {
    kind: 'update',
    aor,
    now,
    callId,
    cseq,
    clear,
    contacts: contacts.map(contactOf),
    path,
    maxContacts,
  };
  if (flow != null) op.flow = flow;
  if (userAgent != null) op.userAgent = userAgent;
  return op;
}

function contactOf([key, contact, flat, instance, regId, q, expires]: ContactFields): ContactUpdate {
  const update: ContactUpdate = { key, contact, params: paramsOf(flat), regId, q, expires };
  if (instance != null) update.instance = instance;
  return update;
}

/** The returned octets are valid until the next call. */
export function encodeAnswer({ id, result }: StoreAnswer): Uint8Array {
  const bindings = result.bindings.length === 0 ? undefined : encodeBindings(result.bindings);
  return packr.pack([id, result.status, result.count, bindings, result.aors]);
}

export function decodeAnswer(bytes: Uint8Array, length = bytes.length): StoreAnswer | undefined {
  try {
    const [id, status, count, list, aors] = packr.unpack(bytes, length) as AnswerFields;
    const bindings = list ? decodeBindings(list) : [];
    if (typeof id !== 'number' || bindings === undefined) return undefined;
    return { id, result: aors ? { status, bindings, count, aors } : { status, bindings, count } };
  } catch {
    return undefined;
  }
}

/**
 * The octets of a ring's messages one after the other: strings are cut out of a copy, since they must not be cut out of
 * shared memory. The copy is valid until the next one.
 */
export class Letter {
  bytes = Buffer.allocUnsafeSlow(FIRST_LETTER);
  length = 0;

  /** What the ring shows. */
  take({ memory, payloadOffset, payloadLength }: Ring): this {
    if (payloadLength > this.bytes.length) this.bytes = Buffer.allocUnsafeSlow(2 * payloadLength);
    copy.call(memory, this.bytes, 0, payloadOffset, payloadOffset + payloadLength);
    this.length = payloadLength;
    return this;
  }
}
