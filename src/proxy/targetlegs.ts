/**
 * The targets of the upstream as client transactions meet them (RFC 3263 4.3): what a response, or none,
 * says of a target; a request that failed at one goes to the next, in a new client transaction of the same
 * server transaction; and the OPTIONS that probe them.
 */
import { Counter, type Counters } from '../shared/counters.ts';
import { PROCEEDING } from '../transaction/machine.ts';
import { OPTIONS } from '../wire/names.ts';
import { UDP } from '../wire/via.ts';
import type { Writer } from '../wire/writer.ts';
import type { Exchange, Outlet } from './exchange.ts';
import type { Failover } from './failover.ts';
import {
  AIM,
  AIM_SLOT,
  AWAITS_ANSWER,
  CANCEL_WANTED,
  CANCELLED,
  FLAGS,
  GIVEN_UP,
  HEARD_BACK,
  type Legs,
  MOVABLE,
  PROBE,
  SERVER_GENERATION,
  SIZED,
  TO_CONNECTION,
  TRIED,
} from './legs.ts';
import type { NextHop } from './nexthop.ts';
import { NO_TARGET } from './targetset.ts';

interface TargetLegParts {
  exchange: Exchange;
  outlet: Outlet;
  counters: Counters;
  now: () => number;
  answerTime: number;
}

export class TargetLegs {
  readonly #legs: Legs;
  readonly #failover: Failover;
  readonly #p: TargetLegParts;
  /** starts the time that the new transaction's target has */
  readonly #watch: (client: number) => void;

  constructor(legs: Legs, failover: Failover, parts: TargetLegParts, watch: (client: number) => void) {
    this.#legs = legs;
    this.#failover = failover;
    this.#p = parts;
    this.#watch = watch;
  }

  canMove(client: number): boolean {
    const failover = this.#failover;
    const { table } = this.#legs;
    return (
      (table.word(client, AIM) & MOVABLE) !== 0 &&
      failover.upstream.targets.hasOther(table.word(client, TRIED))
    );
  }

  /** A response of a target came. True: it says 503, and the request has gone to another one. */
  heardBack(client: number, status: number): boolean {
    const failover = this.#failover;
    const { table } = this.#legs;
    if (table.state(client) > PROCEEDING) return false;
    const flags = table.word(client, FLAGS);
    const transport = this.#legs.transportOf(client);
    const from = this.#legs.targetOf(client);
    table.setWord(client, FLAGS, flags | HEARD_BACK);
    if (flags & PROBE) {
      this.probed(client, status !== 503);
      return true;
    }
    if (status !== 503) {
      failover.upstream.answered(from, transport);
      return false;
    }
    failover.upstream.lost(from, transport);
    if (!this.canMove(client) || !this.#move(client, false)) return false;
    table.setWord(client, FLAGS, table.word(client, FLAGS) | GIVEN_UP);
    return true;
  }

  /** An OPTIONS of our own to a target of the upstream, in the octets that `write` makes for its transaction. */
  probe(hop: NextHop, write: (w: Writer, client: number, generation: number) => void): void {
    const { exchange, outlet, now, answerTime } = this.#p;
    const { table } = this.#legs;
    const stream = hop.transport !== UDP;
    const head = hop.listener | (hop.transport << 8) | (stream ? TO_CONNECTION : 0);
    const client = this.#legs.openFor(-1, 0, OPTIONS, head, stream);
    if (client < 0) return;
    this.#legs.putAddress(client, hop.address);
    table.setWord(client, AIM, hop.slot + 1);
    table.setWord(client, FLAGS, AWAITS_ANSWER | PROBE);
    const start = exchange.openOut();
    write(exchange.out, client, table.generation(client));
    const end = exchange.keepOut();
    if (!stream) outlet.toDatagram(hop.listener, hop.address, undefined, start, end);
    else if (!outlet.toConnection(hop.address, start, end, hop.transport, hop.host)) {
      this.probed(client, false);
      table.release(client);
      return;
    }
    this.#legs.keep(client, start, end);
    table.setAlarm(client, now() + answerTime);
  }

  probed(client: number, answered: boolean): void {
    const { table } = this.#legs;
    table.setWord(client, FLAGS, table.word(client, FLAGS) & ~PROBE);
    const transport = this.#legs.transportOf(client);
    this.#failover.upstream.probed(this.#legs.targetOf(client), transport, answered);
  }

  /** Nothing has come from the target for the time that one with a substitute has. True: another has the request. */
  silent(client: number): boolean {
    const { table } = this.#legs;
    if (!this.tookOver(client, 408)) return false;
    table.setWord(client, FLAGS, table.word(client, FLAGS) | GIVEN_UP | CANCEL_WANTED);
    return true;
  }

  /** No response came from a target of the upstream: that is held against it. True: another one has the request. */
  tookOver(client: number, status: number): boolean {
    const failover = this.#failover;
    const { table } = this.#legs;
    const aim = table.word(client, AIM);
    if (aim === 0 || table.word(client, FLAGS) & HEARD_BACK || status === 487) return false;
    const byUdp = (aim & SIZED) !== 0 && status === 500;
    if (byUdp) return this.#move(client, true);
    const transport = this.#legs.transportOf(client);
    failover.upstream.lost(this.#legs.targetOf(client), transport);
    return this.canMove(client) && this.#move(client, false);
  }

  /** The request of this client transaction in a new one, to a target not tried yet; `same`: to its own one by UDP. */
  #move(client: number, same: boolean): boolean {
    const failover = this.#failover;
    const { outlet, counters } = this.#p;
    const { table } = this.#legs;
    const server = table.peer(client);
    const generation = table.word(client, SERVER_GENERATION);
    const at = table.keptOffset(client);
    if (at < 0 || !table.isLive(server, generation) || table.state(server) > PROCEEDING) return false;
    if (table.word(client, FLAGS) & (CANCEL_WANTED | CANCELLED | GIVEN_UP)) return false;
    if (!failover.open(at, table.keptLength(client))) return false;
    const { hop } = failover;
    const method = table.method(client);
    const aim = table.word(client, AIM);
    let tried = table.word(client, TRIED);
    for (;;) {
      const slot = same ? failover.unsized((aim & AIM_SLOT) - 1) : failover.next(tried);
      if (slot === NO_TARGET) return false;
      tried |= 1 << slot;
      const stream = hop.transport !== UDP;
      const head = hop.listener | (hop.transport << 8) | (stream ? TO_CONNECTION : 0);
      const next = this.#legs.openFor(server, generation, method, head, stream);
      if (next < 0) return false;
      this.#legs.putAddress(next, hop.address);
      table.setWord(next, AIM, (slot + 1) | (aim & MOVABLE) | (hop.sized ? SIZED : 0));
      table.setWord(next, TRIED, tried);
      if (!failover.compose(next, table.generation(next))) {
        table.release(next);
        return false;
      }
      const { start, end } = failover;
      if (!stream) outlet.toDatagram(hop.listener, hop.address, undefined, start, end);
      else if (!outlet.toConnection(hop.address, start, end, hop.transport, hop.host)) {
        failover.upstream.lost(hop.address, hop.transport);
        table.release(next);
        continue;
      }
      this.#legs.keep(next, start, end);
      this.#watch(next);
      counters.inc(Counter.targetFailovers);
      return true;
    }
  }
}
