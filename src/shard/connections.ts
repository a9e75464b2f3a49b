/**
 * Outgoing connections of one shard, by transport, address and, over TLS, the host that the certificate names
 * (two hosts at one address are two connections, RFC 5923 8.2): one a target, opened when first needed, one attempt
 * at a time. What is written while it connects waits in the stream; if the attempt fails, the requests
 * among it are answered by whoever `undelivered` is. A connection that ends is opened anew at the next
 * message. Before all of them comes one that the peer has opened for it (aliases.ts). Back-off: after a failure the
 * target is not tried again for BACK_OFF_MS.
 *
 * It leaves from the address of the listener that Via names (as a datagram does), so that firewalls and peers who
 * trust by address see that one, not the kernel's choice. A wildcard names none, and from loopback nothing leaves.
 */
import type { Flows } from '../flow/flows.ts';
import { Endpoint } from '../net/endpoint.ts';
import type { Listener, Net } from '../net/net.ts';
import { Cause } from '../shared/cause.ts';
import { EXEMPT, isSecured, OUTBOUND_DIALED } from '../shared/flow-record.ts';
import { CLAIMED } from '../shared/flow-table.ts';
import type { Aliases } from './aliases.ts';

const BACK_OFF_MS = 1_000;
/** targets that are remembered although no connection to them stands */
const MOST_TARGETS = 1_024;

interface Target {
  key: string;
  transport: number;
  host: string;
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
  readonly #aliases: Aliases;
  /** whose listeners' names stand in requests over them */
  readonly #listeners: readonly Listener[];
  /** by listener: its address with port 0 */
  readonly #sources: readonly Endpoint[];
  readonly #targets = new Map<string, Target>();
  /** by address: the host that was last asked for over TLS */
  readonly #hosts = new Map<string, string>();
  readonly #bySlot = new Map<number, string>();
  /** the last look-up: traffic to the upstream comes in runs */
  #lastKey: Endpoint | undefined;
  #lastTransport = 0;
  #lastHost = '';
  #last: Target | undefined;

  constructor(
    net: Net,
    flows: Flows,
    self: number,
    now: () => number,
    listener: number,
    listeners: readonly Listener[],
    trusts: (address: Endpoint) => boolean,
    aliases: Aliases,
  ) {
    this.#net = net;
    this.#flows = flows;
    this.#self = self;
    this.#now = now;
    this.#listener = listener;
    this.#listeners = listeners;
    this.#sources = listeners.map(({ address }) => Object.assign(new Endpoint().copy(address), { port: 0 }));
    this.#trusts = trusts;
    this.#aliases = aliases;
  }

  send(to: Endpoint, transport: number, host: string, start: number, end: number): boolean {
    const alias = isSecured(transport) ? this.#aliases.find(to, transport, host) : -1;
    if (alias >= 0 && this.#net.sendStream(alias, start, end)) return true;
    const isLast = this.#lastTransport === transport && (host === '' || host === this.#lastHost);
    const target =
      isLast && this.#lastKey?.equals(to) && this.#last ? this.#last : this.#target(to, transport, host);
    if (!target || (target.slot < 0 && !this.#dial(to, target))) return false;
    return this.#net.sendStream(target.slot, start, end);
  }

  /** Undefined: a secured one whose host nobody has named. */
  #target(to: Endpoint, transport: number, wanted: string): Target | undefined {
    const address = to.toString();
    let host = '';
    if (isSecured(transport)) {
      host = wanted || (this.#hosts.get(address) ?? '');
      if (host === '') return undefined;
      if (this.#hosts.size > MOST_TARGETS) this.#hosts.clear();
      this.#hosts.set(address, host);
    }
    const key = `${transport} ${address} ${host}`;
    let target = this.#targets.get(key);
    if (!target) {
      target = { key, transport, host, slot: -1, generation: 0, connecting: false, notBefore: 0 };
      this.#targets.set(key, target);
    }
    this.#lastKey ??= Object.create(Object.getPrototypeOf(to)) as Endpoint;
    this.#lastKey.copy(to);
    this.#lastTransport = transport;
    this.#lastHost = wanted || host; // what the next one of the run will ask for
    this.#last = target;
    return target;
  }

  #dial(to: Endpoint, target: Target): boolean {
    if (this.#now() < target.notBefore) return false;
    const { table } = this.#flows;
    const slot = table.claim(this.#self);
    if (slot < 0) return false;
    const { transport } = target;
    const named = this.#listenerFor(transport, to.family);
    table.setKind(slot, transport, to.family);
    table.setListener(slot, isSecured(transport) ? named : this.#listener);
    table.setRemote(slot, to.a0, to.a1, to.a2, to.a3, to.port);
    table.raise(slot, this.#trusts(to) ? OUTBOUND_DIALED | EXEMPT : OUTBOUND_DIALED);
    const generation = table.generation(slot);
    if (this.#net.dial(slot, to, target.host || undefined, this.#sourceOf(named, to)) !== 0) {
      table.abandon(slot, Cause.CONNECT_FAILED);
      target.notBefore = this.#now() + BACK_OFF_MS;
      this.#forget(target);
      return false;
    }
    target.slot = slot;
    target.generation = generation;
    target.connecting = true;
    this.#bySlot.set(slot, target.key);
    return true;
  }

  #listenerFor(transport: number, family: number): number {
    const fits = (l: Listener) => l.transport === transport && l.address.family === family;
    return fits(this.#listeners[this.#listener]) ? this.#listener : this.#listeners.findIndex(fits);
  }

  /** Undefined: the kernel's to choose. */
  #sourceOf(listener: number, to: Endpoint): Endpoint | undefined {
    if (listener < 0) return undefined;
    const source = this.#sources[listener];
    return source.isWildcard || (source.isLoopback && !to.isLoopback) ? undefined : source;
  }

  /** A connection that a predecessor of this shard has opened. */
  inherit(slot: number, to: Endpoint): void {
    const transport = this.#flows.table.transport(slot);
    if (isSecured(transport)) {
      this.#net.close(slot, Cause.SHARD_LOST, true); // whom it was made for died with him
      return;
    }
    const target = this.#target(to, transport, '');
    if (!target || target.slot >= 0) return;
    target.slot = slot;
    target.generation = this.#flows.table.generation(slot);
    this.#bySlot.set(slot, target.key);
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
    this.#forget(target);
    const { table } = this.#flows;
    if (table.isLive(slot, generation)) return false;
    if (table.state(slot) === CLAIMED) table.abandon(slot, cause);
    return true;
  }

  /** So that clients who name many hosts cannot fill the memory. */
  #forget(target: Target): void {
    if (this.#targets.size <= MOST_TARGETS) return;
    this.#targets.delete(target.key);
    if (this.#last === target) this.#last = undefined;
  }
}
