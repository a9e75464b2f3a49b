/**
 * Outgoing connections of one shard, by address: one a target, opened when first needed, one attempt
 * at a time. What is written while it connects waits in the stream; if the attempt fails, the requests
 * among it are answered by whoever `undelivered` is. A connection that ends is opened anew at the next
 * message. Back-off: after a failure the target is not tried again for BACK_OFF_MS.
 */
import type { Flows } from '../flow/flows.ts';
import type { Endpoint } from '../net/endpoint.ts';
import type { Net } from '../net/net.ts';
import { Cause } from '../shared/cause.ts';
import { EXEMPT, OUTBOUND_DIALED } from '../shared/flow-record.ts';
import { CLAIMED } from '../shared/flow-table.ts';
import { TCP } from '../wire/via.ts';

const BACK_OFF_MS = 1_000;
/** targets that are remembered although no connection to them stands */
const MOST_TARGETS = 1_024;

interface Target {
  slot: number;
  generation: number;
  connecting: boolean;
  /** no new attempt before this time, ms */
  notBefore: number;
}

export class Connections {
  readonly #net: Net;
  readonly #flows: Flows;
  readonly #self: number;
  readonly #now: () => number;
  readonly #listener: number;
  readonly #trusts: (address: Endpoint) => boolean;
  readonly #targets = new Map<string, Target>();
  readonly #bySlot = new Map<number, string>();
  /** the last look-up: traffic to the upstream comes in runs */
  #lastKey: Endpoint | undefined;
  #last: Target | undefined;

  constructor(
    net: Net,
    flows: Flows,
    self: number,
    now: () => number,
    listener: number,
    trusts: (address: Endpoint) => boolean,
  ) {
    this.#net = net;
    this.#flows = flows;
    this.#self = self;
    this.#now = now;
    this.#listener = listener;
    this.#trusts = trusts;
  }

  send(to: Endpoint, start: number, end: number): boolean {
    const target = this.#lastKey?.equals(to) && this.#last ? this.#last : this.#target(to);
    if (target.slot < 0 && !this.#dial(to, target)) return false;
    return this.#net.sendStream(target.slot, start, end);
  }

  #target(to: Endpoint): Target {
    const key = to.toString();
    let target = this.#targets.get(key);
    if (!target) {
      target = { slot: -1, generation: 0, connecting: false, notBefore: 0 };
      this.#targets.set(key, target);
    }
    this.#lastKey ??= Object.create(Object.getPrototypeOf(to)) as Endpoint;
    this.#lastKey.copy(to);
    this.#last = target;
    return target;
  }

  #dial(to: Endpoint, target: Target): boolean {
    if (this.#now() < target.notBefore) return false;
    const { table } = this.#flows;
    const slot = table.claim(this.#self);
    if (slot < 0) return false;
    table.setKind(slot, TCP, to.family);
    table.setListener(slot, this.#listener);
    table.setRemote(slot, to.a0, to.a1, to.a2, to.a3, to.port);
    table.raise(slot, this.#trusts(to) ? OUTBOUND_DIALED | EXEMPT : OUTBOUND_DIALED);
    const generation = table.generation(slot);
    if (this.#net.dial(slot, to) !== 0) {
      table.abandon(slot, Cause.CONNECT_FAILED);
      target.notBefore = this.#now() + BACK_OFF_MS;
      this.#forget(to.toString(), target);
      return false;
    }
    target.slot = slot;
    target.generation = generation;
    target.connecting = true;
    this.#bySlot.set(slot, to.toString());
    return true;
  }

  /** A connection that a predecessor of this shard has opened. */
  inherit(slot: number, to: Endpoint): void {
    const target = this.#target(to);
    if (target.slot >= 0) return;
    target.slot = slot;
    target.generation = this.#flows.table.generation(slot);
    this.#bySlot.set(slot, to.toString());
  }

  /** The end of an attempt. True if the connection stands: its flow is open from now on. */
  connected(slot: number, error: number, ds: number): boolean {
    const target = this.#targets.get(this.#bySlot.get(slot) ?? '');
    if (!target) return false;
    target.connecting = false;
    if (error !== 0) {
      target.notBefore = this.#now() + BACK_OFF_MS;
      return false;
    }
    this.#flows.openStream(slot, ds);
    return true;
  }

  /** The connection has ended. True if it had never stood: its record is released here. */
  closed(slot: number, cause: number): boolean {
    const key = this.#bySlot.get(slot);
    if (key === undefined) return false;
    this.#bySlot.delete(slot);
    const target = this.#targets.get(key);
    if (!target || target.slot !== slot) return false;
    const { generation } = target;
    target.slot = -1;
    this.#forget(key, target);
    const { table } = this.#flows;
    if (table.isLive(slot, generation)) return false;
    if (table.state(slot) === CLAIMED) table.abandon(slot, cause);
    return true;
  }

  /** So that clients who name many hosts cannot fill the memory. */
  #forget(key: string, target: Target): void {
    if (this.#targets.size <= MOST_TARGETS) return;
    this.#targets.delete(key);
    if (this.#last === target) this.#last = undefined;
  }
}
