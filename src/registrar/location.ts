import { causeWord } from '../shared/cause.ts';
import { type Binding, byPreference, incarnationOf, indexOfBinding, isStreamFlow } from './binding.ts';
import { type End, earliest, FLOW_FAILED, type Journal, RESTARTED, UNREGISTERED } from './events.ts';
import type { Backend, ContactUpdate, StoreOp, StoreResult, StoreStatus, UpdateOp } from './store.ts';

/**
 * The location service: bindings of addresses-of-record over a backend, one operation at a time.
 *
 * Guarantees: a REGISTER is applied completely or not at all; (Call-ID, CSeq) is compared per key
 * (RFC 3261 10.3 step 7); bindings of a flow go when the flow closes, whatever their AOR, also if the
 * news overtakes the REGISTER. It reads no clock, and it holds in memory only what the backend cannot
 * answer: which AORs a flow serves (one map entry a flow), the last order, the count; where somebody watches,
 * also when each AOR is to be looked at.
 *
 * Expired bindings are never seen; `sweep` only gives their space back, a slice at a time.
 */

/** Closed flows that are remembered for updates that come late. A flow key never comes back. */
const CLOSED_REMEMBERED = 16_384;

const LOAD_CHUNK = 1_000;
const RETIRE_CHUNK = 1_000;

interface Change {
  before: Binding[];
  after: Binding[];
}

export class Location {
  readonly #backend: Backend;
  /** where changes are written down, if anybody watches */
  readonly #journal: Journal | undefined;
  /** one AOR as such, several as a set: nearly every flow serves one */
  readonly #flows = new Map<string, string | Set<string>>();
  readonly #closed = new Set<string>();
  #order = 0;
  #count = 0;
  #cursor: string | undefined;
  /** what the running batch has changed, to take it back in memory if the commit fails */
  #touched: Map<string, Change> | undefined;

  /** Reads the whole backend once. */
  constructor(backend: Backend, journal?: Journal) {
    this.#backend = backend;
    this.#journal = journal;
    this.#load();
  }

  #load(): void {
    let after: string | undefined;
    for (;;) {
      const chunk = this.#backend.scan(after, LOAD_CHUNK);
      for (const [aor, bindings] of chunk) {
        this.#link(aor, bindings);
        this.#journal?.deadlines.set(aor, earliest(bindings));
        this.#count += bindings.length;
        for (const binding of bindings) this.#order = Math.max(this.#order, binding.order);
      }
      if (chunk.length < LOAD_CHUNK) return;
      after = chunk[chunk.length - 1][0];
    }
  }

  /** Stored bindings, including expired ones that no sweep has reached. */
  get count(): number {
    return this.#count;
  }

  /** Runs `work` as one transaction of the backend; if the commit fails, nothing of it has happened, and it throws. */
  batch<T>(work: () => T): T {
    this.#touched = new Map();
    const written = this.#journal?.length ?? 0;
    try {
      return this.#backend.transaction(work);
    } catch (error) {
      for (const [aor, { before, after }] of this.#touched) this.#account(aor, after, before);
      this.#journal?.forget(written);
      throw error;
    } finally {
      this.#touched = undefined;
    }
  }

  handle(op: StoreOp): StoreResult {
    switch (op.kind) {
      case 'update':
        return this.update(op);
      case 'lookup':
        return answer('ok', this.lookup(op.aor, op.now));
      case 'remove':
        return answer('ok', [], this.remove(op.aor, op.key, op.ifOrder) ? 1 : 0);
      case 'flow-closed':
        return answer('ok', [], this.flowClosed(op.flow, op.cause));
      case 'list':
        return { ...answer('ok', [], this.#count), aors: this.list(op.after, op.limit) };
    }
  }

  /** Unexpired bindings, best first. */
  lookup(aor: string, now: number): Binding[] {
    return liveBindings(this.#backend.get(aor), now);
  }

  /** Addresses-of-record in the backend's own order, some of them perhaps with expired bindings only. */
  list(after: string | undefined, limit: number): string[] {
    return this.#backend.scan(after, limit).map(([aor]) => aor);
  }

  update(op: UpdateOp): StoreResult {
    if (op.flow !== undefined && this.#closed.has(op.flow)) return answer('flow-closed');
    const stored = this.#backend.get(op.aor) ?? [];
    const live = stored.filter((binding) => binding.expiresAt > op.now);
    const next = op.clear ? clear(live, op) : this.#apply(live, op);
    if (next === undefined) return answer('stale');
    // A limit that was lowered does not keep those who are in from refreshing.
    if (next.length > op.maxContacts && next.length > live.length) return answer('full');
    if (next.length !== stored.length || next.some((binding, i) => binding !== stored[i])) {
      this.#store(op.aor, stored, next, UNREGISTERED, op.now);
    }
    return answer('ok', next.toSorted(byPreference));
  }

  #apply(live: Binding[], op: UpdateOp): Binding[] | undefined {
    const next = live.slice();
    const order = Math.max(this.#order + 1, op.now);
    for (const contact of op.contacts) {
      const at = indexOfBinding(next, contact);
      const old = at < 0 ? undefined : next[at];
      // Of two Contacts of this request with one key the last one counts (old.order === order).
      if (old && old.order !== order && old.callId === op.callId && op.cseq <= old.cseq) {
        if (op.cseq === old.cseq && isSameRequest(old, op, contact)) continue;
        return undefined;
      }
      if (contact.expires > 0) next[at < 0 ? next.length : at] = bind(op, contact, order);
      else if (old) next.splice(at, 1);
    }
    this.#order = order;
    return withEpochs(live, next, op.callId, order);
  }

  /** `end`: why bindings go, other than by their time. */
  #store(aor: string, stored: Binding[], next: Binding[], end: End, now?: number): void {
    this.#journal?.note(aor, stored, next, end, now);
    const change = this.#touched?.get(aor);
    if (change) change.after = next;
    else this.#touched?.set(aor, { before: stored, after: next });
    this.#account(aor, stored, next);
    this.#backend.put(aor, next);
  }

  #account(aor: string, before: Binding[], after: Binding[]): void {
    this.#unlink(aor, before, after);
    this.#link(aor, after);
    this.#journal?.deadlines.set(aor, earliest(after));
    this.#count += after.length - before.length;
  }

  /** For a 430: the binding goes if it is still there and, with `ifOrder`, not registered anew since. */
  remove(aor: string, key: string, ifOrder?: number): boolean {
    const stored = this.#backend.get(aor) ?? [];
    const next = stored.filter((b) => b.key !== key || (ifOrder !== undefined && b.order !== ifOrder));
    if (next.length === stored.length) return false;
    this.#store(aor, stored, next, FLOW_FAILED);
    return true;
  }

  /** How many bindings went. 5626 §7: all that use the flow, regardless of AOR. `cause`: of shared/cause.ts. */
  flowClosed(flow: string, cause?: number): number {
    this.#closed.add(flow);
    if (this.#closed.size > CLOSED_REMEMBERED) {
      for (const oldest of this.#closed) {
        this.#closed.delete(oldest);
        break;
      }
    }
    return this.#retire(flow, flowLost(cause));
  }

  #retire(flow: string, end: End): number {
    const served = this.#flows.get(flow);
    if (served === undefined) return 0;
    let gone = 0;
    for (const aor of typeof served === 'string' ? [served] : [...served]) {
      const stored = this.#backend.get(aor) ?? [];
      const next = stored.filter((binding) => binding.flow !== flow);
      gone += stored.length - next.length;
      this.#store(aor, stored, next, end);
    }
    this.#flows.delete(flow);
    return gone;
  }

  /**
   * At start: bindings of stream flows of another life of this node are gone with their sockets. Datagram
   * flows may still work, and streams that were handed over by the process before (`adopted`) do. A slice at a
   * time; `after` each, so that what is told of a million of them is not in memory at once.
   */
  retireOtherIncarnations(
    incarnation: number,
    adopted: ReadonlySet<string> = new Set(),
    after: () => void = () => {},
  ): number {
    const dead = [...this.#flows.keys()].filter(
      (flow) => isStreamFlow(flow) && incarnationOf(flow) !== incarnation && !adopted.has(flow),
    );
    let gone = 0;
    for (let i = 0; i < dead.length; i += RETIRE_CHUNK) {
      this.batch(() => {
        for (const flow of dead.slice(i, i + RETIRE_CHUNK)) gone += this.#retire(flow, RESTARTED);
      });
      after();
    }
    return gone;
  }

  /**
   * Looks at up to `budget` AORs, goes on where it ended last time; where somebody watches, first at up to
   * `budget` of those whose time has come. How many expired bindings went.
   */
  sweep(now: number, budget: number): number {
    let gone = 0;
    for (const aor of this.#journal?.deadlines.due(now, budget) ?? [])
      gone += this.#expire(aor, this.#backend.get(aor) ?? [], now);
    const chunk = this.#backend.scan(this.#cursor, budget);
    this.#cursor = chunk.length < budget ? undefined : chunk[chunk.length - 1][0];
    for (const [aor, stored] of chunk) gone += this.#expire(aor, stored, now);
    return gone;
  }

  #expire(aor: string, stored: Binding[], now: number): number {
    const next = stored.filter((binding) => binding.expiresAt > now);
    if (next.length < stored.length) this.#store(aor, stored, next, UNREGISTERED, now);
    return stored.length - next.length;
  }

  #link(aor: string, bindings: Binding[]): void {
    for (const { flow } of bindings) {
      if (flow === undefined) continue;
      const served = this.#flows.get(flow);
      if (served === undefined) this.#flows.set(flow, aor);
      else if (typeof served !== 'string') served.add(aor);
      else if (served !== aor) this.#flows.set(flow, new Set([served, aor]));
    }
  }

  /** A flow that no binding of this AOR uses any more no longer serves it: it was superseded or removed. */
  #unlink(aor: string, before: Binding[], after: Binding[]): void {
    for (const { flow } of before) {
      if (flow === undefined || after.some((binding) => binding.flow === flow)) continue;
      const served = this.#flows.get(flow);
      if (served === aor) this.#flows.delete(flow);
      else if (typeof served === 'object') {
        served.delete(aor);
        if (served.size === 0) this.#flows.delete(flow);
      }
    }
  }
}

export function liveBindings(bindings: Binding[] | undefined, now: number): Binding[] {
  return bindings ? bindings.filter((binding) => binding.expiresAt > now).sort(byPreference) : [];
}

export const flowLost = (cause: number | undefined): End =>
  cause === undefined ? { type: 'flow-lost' } : { type: 'flow-lost', cause: causeWord(cause) };

export function answer(status: StoreStatus, bindings: Binding[] = [], count = 0): StoreResult {
  return { status, bindings, count };
}

/** RFC 3261 10.3 step 6: `*` fails if a binding of this Call-ID has a CSeq that is not lower. */
function clear(live: Binding[], op: UpdateOp): Binding[] | undefined {
  return live.some((binding) => binding.callId === op.callId && op.cseq <= binding.cseq) ? undefined : [];
}

/**
 * RFC 5627 5.1: what becomes of the temporary GRUUs of each device that this request registers. They stay
 * good while the latest registration of the device (of that reg-id, if a flow) had the same Call-ID; else
 * all its bindings get a new epoch. `before`: the bindings that the request found.
 */
function withEpochs(before: Binding[], after: Binding[], callId: string, order: number): Binding[] {
  const epochs = new Map<string, number>();
  for (const { instance, regId, order: made } of after) {
    if (instance === undefined || made !== order) continue;
    const device = before.filter((binding) => binding.instance === instance);
    const latest = device
      .filter((binding) => regId === 0 || binding.regId === regId)
      .reduce<Binding | undefined>((a, b) => (a && a.order > b.order ? a : b), undefined);
    const goesOn = device.length > 0 && (latest === undefined || latest.callId === callId);
    if (!goesOn || !epochs.has(instance)) epochs.set(instance, (goesOn && device[0].epoch) || order);
  }
  return after.map((binding) => {
    const epoch = binding.instance === undefined ? undefined : epochs.get(binding.instance);
    return epoch === undefined || epoch === binding.epoch ? binding : { ...binding, epoch };
  });
}

/**
 * Equal (Call-ID, CSeq): a retransmission is answered again. The same number for another Contact or over
 * another path is not one; if it were taken for one, the UA would believe in a flow that is not stored.
 */
function isSameRequest(old: Binding, op: UpdateOp, contact: ContactUpdate): boolean {
  return (
    contact.expires > 0 &&
    old.contact === contact.contact &&
    old.flow === op.flow &&
    old.path.length === op.path.length &&
    old.path.every((hop, i) => hop === op.path[i])
  );
}

function bind(op: UpdateOp, contact: ContactUpdate, order: number): Binding {
  const binding: Binding = {
    key: contact.key,
    contact: contact.contact,
    params: contact.params,
    regId: contact.regId,
    q: contact.q,
    path: op.path,
    callId: op.callId,
    cseq: op.cseq,
    expiresAt: op.now + contact.expires * 1000,
    updatedAt: op.now,
    order,
  };
  if (contact.instance !== undefined) binding.instance = contact.instance;
  if (op.flow !== undefined) binding.flow = op.flow;
  if (op.userAgent !== undefined) binding.userAgent = op.userAgent;
  return binding;
}
