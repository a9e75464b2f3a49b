import { Packr } from 'msgpackr';
import { decodeBindings, encodeBindings } from './binding.ts';
import type { StoreOp, StoreResult, StoreStatus } from './store.ts';

/**
 * Requests to the store thread and its answers as octets for a ring. Both ends are one build, so there is
 * no version; octets that cannot be read are undefined. Id 0 asks for no answer.
 */
export const NO_ANSWER = 0;

// Message types on the mesh.
export const STORE_REQUEST = 0x40;
export const STORE_ANSWER = 0x41;
/** from main: finish what has been received, write everything to disk, end */
export const STORE_STOP = 0x42;

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

const packr = new Packr({ useRecords: false });

/** The returned octets are valid until the next call. */
export function encodeRequest(request: StoreRequest): Uint8Array {
  return packr.pack([request.id, request.op]);
}

export function decodeRequest(bytes: Uint8Array): StoreRequest | undefined {
  try {
    const [id, op] = packr.unpack(bytes) as [number, StoreOp];
    return typeof id === 'number' && typeof op === 'object' ? { id, op } : undefined;
  } catch {
    return undefined;
  }
}

/** The returned octets are valid until the next call. */
export function encodeAnswer({ id, result }: StoreAnswer): Uint8Array {
  const bindings = result.bindings.length === 0 ? undefined : encodeBindings(result.bindings);
  return packr.pack([id, result.status, result.count, bindings, result.aors]);
}

export function decodeAnswer(bytes: Uint8Array): StoreAnswer | undefined {
  try {
    const [id, status, count, list, aors] = packr.unpack(bytes) as AnswerFields;
    const bindings = list ? decodeBindings(list) : [];
    if (typeof id !== 'number' || bindings === undefined) return undefined;
    return { id, result: aors ? { status, bindings, count, aors } : { status, bindings, count } };
  } catch {
    return undefined;
  }
}
