import type { HeaderParam } from '../wire/nameaddr.ts';
import type { Binding } from './binding.ts';

/**
 * The location store as its callers see it: operations, answers, and what each of them promises.
 *
 * An update is one REGISTER: it happens completely or not at all, in order of arrival for its AOR, and
 * its answer is given only after it is as durable as the store promises. Everything here is plain data
 * that msgpack carries from a shard to the thread that owns the store.
 */

/** One Contact of a REGISTER. */
export interface ContactUpdate {
  key: string;
  contact: string;
  params: HeaderParam[];
  instance?: string;
  regId: number;
  q: number;
  /** granted, in seconds; 0 removes the binding */
  expires: number;
}

export interface UpdateOp {
  kind: 'update';
  aor: string;
  /** unix milliseconds: the clock of the request, so that answer and store agree */
  now: number;
  callId: string;
  cseq: number;
  /** `Contact: *`: every binding goes; `contacts` is then empty */
  clear: boolean;
  contacts: ContactUpdate[];
  path: string[];
  flow?: string;
  userAgent?: string;
  /** most bindings that the AOR may have afterwards */
  maxContacts: number;
}

export interface LookupOp {
  kind: 'lookup';
  aor: string;
  now: number;
}

/** `ifOrder`: only if the binding is still the version that was looked up. */
export interface RemoveOp {
  kind: 'remove';
  aor: string;
  key: string;
  ifOrder?: number;
}

export interface FlowClosedOp {
  kind: 'flow-closed';
  flow: string;
  /** a code of shared/cause.ts, where it is known */
  cause?: number;
}

/** A page of the addresses-of-record after `after`, for operators. */
export interface ListOp {
  kind: 'list';
  after?: string;
  limit: number;
}

export type StoreOp = UpdateOp | LookupOp | RemoveOp | FlowClosedOp | ListOp;

export type StoreStatus =
  /** done; `bindings` are the unexpired bindings of the AOR, best first */
  | 'ok'
  /** the Call-ID is known for a key and the CSeq is not higher: nothing changed */
  | 'stale'
  /** more than `maxContacts`: nothing changed */
  | 'full'
  /** the flow of this registration has closed meanwhile: nothing changed */
  | 'flow-closed'
  /**
   * the store could not take the operation now (ring full, store thread down, no connection): nothing
   * changed, unless the connection to a shared store was lost before its answer came
   */
  | 'busy'
  /** the commit failed: nothing changed */
  | 'error';

export interface StoreResult {
  status: StoreStatus;
  bindings: Binding[];
  /** bindings that were removed, by `remove` and `flow-closed`; stored in all, by `list` */
  count: number;
  /** of `list` */
  aors?: string[];
}

/** What a shard holds. Callbacks run on the shard's own turn, exactly once, possibly before the call returns. */
export interface LocationStore {
  update(op: UpdateOp, done: (result: StoreResult) => void): void;
  lookup(aor: string, now: number, done: (result: StoreResult) => void): void;
  list(after: string | undefined, limit: number, done: (result: StoreResult) => void): void;
  remove(aor: string, key: string, ifOrder?: number): void;
  flowClosed(flow: string, cause?: number): void;
}

/**
 * Where a location service keeps its bindings: synchronous, and owned by one thread. `put` with an
 * empty list deletes. Callers do not change what `get` returned.
 */
export interface Backend {
  get(aor: string): Binding[] | undefined;
  put(aor: string, bindings: Binding[]): void;
  /** up to `limit` entries after `after` (from the start if undefined), in some stable order */
  scan(after: string | undefined, limit: number): [aor: string, bindings: Binding[]][];
  /** all puts of `work` or, if it throws, none; durable as promised when it returns */
  transaction<T>(work: () => T): T;
  /** nothing may be called afterwards; resolved when all is on disk */
  close(): Promise<void>;
}
