import type { Mesh } from '../shared/mesh.ts';
import type { Ring } from '../shared/ring.ts';
import type { LmdbReader } from './lmdb.ts';
import { answer, liveBindings } from './location.ts';
import { decodeAnswer, encodeRequest, Letter, NO_ANSWER, STORE_REQUEST } from './message.ts';
import type { FlowClosedOp, LocationStore, RemoveOp, StoreOp, StoreResult, UpdateOp } from './store.ts';

/**
 * A shard's side of the location store: writes go to the store thread by ring; look-ups read LMDB in
 * place, or with the memory store ask the thread too.
 *
 * A full ring is 'busy' for who waits for an answer (the caller says 503). News that nobody waits for (a
 * closed flow, a binding to remove) is kept and sent again on the next turns, in order; past a limit the
 * oldest is dropped and counted: such a binding is then found dead by the 430 of the next request.
 * An answer that does not come in time is 'error', since the update may have been made.
 */
export interface StoreClientOptions {
  /** puts a message in the ring to the store thread; false if there is no room. Copies what it takes. */
  send: (message: Uint8Array) => boolean;
  /** LMDB: look-ups are read here */
  reader?: LmdbReader;
  /** milliseconds until a missing answer counts as 'error' */
  answerTimeout?: number;
}

interface Pending {
  done: (result: StoreResult) => void;
  deadline: number;
}

const ANSWER_TIMEOUT = 5_000;
const MAX_UNSENT = 65_536;

export class StoreClient implements LocationStore {
  readonly #send: (message: Uint8Array) => boolean;
  readonly #reader: LmdbReader | undefined;
  readonly #timeout: number;
  /** in the order of their deadlines */
  readonly #pending = new Map<number, Pending>();
  #unsent: (FlowClosedOp | RemoveOp)[] = [];
  readonly #letter = new Letter();
  #nextId = 1;
  #now = 0;
  /** news that was dropped because the store thread did not take any for too long */
  dropped = 0;

  constructor(options: StoreClientOptions) {
    this.#send = options.send;
    this.#reader = options.reader;
    this.#timeout = options.answerTimeout ?? ANSWER_TIMEOUT;
  }

  /** `store`: the participant that runs the store thread. */
  static overMesh(mesh: Mesh, store: number, reader?: LmdbReader): StoreClient {
    const send = (message: Uint8Array) => mesh.send(store, STORE_REQUEST, 0, message, 0, message.length);
    return new StoreClient(reader ? { send, reader } : { send });
  }

  update(op: UpdateOp, done: (result: StoreResult) => void): void {
    this.#ask(op, done);
  }

  lookup(aor: string, now: number, done: (result: StoreResult) => void): void {
    if (this.#reader) done(answer('ok', liveBindings(this.#reader.get(aor), now)));
    else this.#ask({ kind: 'lookup', aor, now }, done);
  }

  list(after: string | undefined, limit: number, done: (result: StoreResult) => void): void {
    this.#ask(after === undefined ? { kind: 'list', limit } : { kind: 'list', after, limit }, done);
  }

  remove(aor: string, key: string, ifOrder?: number): void {
    this.#tell(ifOrder === undefined ? { kind: 'remove', aor, key } : { kind: 'remove', aor, key, ifOrder });
  }

  flowClosed(flow: string, cause?: number): void {
    this.#tell(cause === undefined ? { kind: 'flow-closed', flow } : { kind: 'flow-closed', flow, cause });
  }

  #ask(op: StoreOp, done: (result: StoreResult) => void): void {
    const id = this.#nextId;
    if (!this.#send(encodeRequest({ id, op }))) {
      done(answer('busy'));
      return;
    }
    this.#nextId = id >= 0x7fffffff ? 1 : id + 1;
    this.#pending.set(id, { done, deadline: this.#now + this.#timeout });
  }

  #tell(op: FlowClosedOp | RemoveOp): void {
    if (this.#unsent.length === 0 && this.#send(encodeRequest({ id: NO_ANSWER, op }))) return;
    this.#unsent.push(op);
    if (this.#unsent.length > MAX_UNSENT) {
      this.#unsent.shift();
      this.dropped++;
    }
  }

  /** The STORE_ANSWER that the ring shows. */
  onAnswer(ring: Ring): void {
    const { bytes, length } = this.#letter.take(ring);
    this.onMessage(bytes, length);
  }

  /** The octets of an answer; strings are cut out of them, so they must not be shared memory. */
  onMessage(message: Uint8Array, length = message.length): void {
    const reply = decodeAnswer(message, length);
    const pending = reply && this.#pending.get(reply.id);
    if (!reply || !pending) return;
    this.#pending.delete(reply.id);
    pending.done(reply.result);
  }

  /** The time, before the messages of a turn are handled: what is asked then has its deadline from here. */
  tick(now: number): void {
    this.#now = now;
  }

  /** Once a loop turn, when answers have been taken in. `now`: milliseconds of any steady clock. */
  turn(now: number): void {
    this.#now = now;
    this.#reader?.turn();
    if (this.#unsent.length > 0) this.#resend();
    for (const [id, { done, deadline }] of this.#pending) {
      if (deadline > now) break;
      this.#pending.delete(id);
      done(answer('error'));
    }
  }

  #resend(): void {
    let sent = 0;
    while (sent < this.#unsent.length) {
      if (!this.#send(encodeRequest({ id: NO_ANSWER, op: this.#unsent[sent] }))) break;
      sent++;
    }
    this.#unsent = this.#unsent.slice(sent);
  }

  /** The store thread was replaced: what it had not answered is lost. */
  onRestart(): void {
    const lost = [...this.#pending.values()];
    this.#pending.clear();
    for (const { done } of lost) done(answer('error'));
  }

  /** Requests without an answer, and news not yet sent. */
  get waiting(): number {
    return this.#pending.size + this.#unsent.length;
  }
}
