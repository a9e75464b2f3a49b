/**
 * A KeepAlive at work on one connection: it has the timer and the octets that keepalive.ts knows nothing of. `failed`
 * is told once, after which it is silent until keep-alives are agreed on again.
 */
import { randomBytes } from 'node:crypto';
import { bindingRequest, ID_BYTES, readBinding } from '../wire/binding.ts';
import type { Agenda, Timer } from './clock.ts';
import type { Connection } from './connection.ts';
import { type Action, type Bounds, DATAGRAM, type Failure, KeepAlive } from './keepalive.ts';
import type { RoundTrip } from './stun.ts';

const PING = Buffer.from('\r\n\r\n');

export interface PulseParts {
  agenda: Agenda;
  random: () => number;
  /** intervals of pings where nothing else is agreed on */
  pings: Bounds;
  trip: RoundTrip;
  /** a keep-alive goes out; not told again when it is repeated */
  asked: () => void;
  heard: () => void;
  failed: (failure: Failure) => void;
}

export class Pulse {
  readonly #connection: Connection;
  readonly #parts: PulseParts;
  readonly #keepAlive: KeepAlive;
  readonly #timer: Timer | undefined;
  #stunId: Buffer = Buffer.alloc(0);
  #stunBytes: Buffer = Buffer.alloc(0);

  constructor(connection: Connection, parts: PulseParts) {
    const { agenda, random, pings, trip } = parts;
    const stun = !connection.reliable;
    this.#connection = connection;
    this.#parts = parts;
    this.#keepAlive = new KeepAlive({ stun, random, defaults: stun ? DATAGRAM : pings, trip });
    this.#timer = agenda.timer((now) => this.#advance(now));
  }

  /** As `KeepAlive.agree`. */
  agree(agreed: { expect: boolean; seconds: number | undefined }): void {
    this.#keepAlive.agree(this.#parts.agenda.now(), agreed);
    this.#timer?.set(this.#keepAlive.nextDue());
  }

  pong(): void {
    if (this.#keepAlive.pong()) this.#parts.heard();
  }

  stun(bytes: Buffer): void {
    const answer = readBinding(bytes, this.#stunId);
    if (answer === undefined) return;
    const failure = this.#keepAlive.answered(answer, this.#parts.agenda.now());
    this.#timer?.set(this.#keepAlive.nextDue());
    if (failure) this.#parts.failed(failure);
    else this.#parts.heard();
  }

  /** The octets of one read have been dealt with: a pong that is overdue may now be decided on (UA-4.4.1-07). */
  read(): void {
    this.#advance(this.#parts.agenda.now());
  }

  /** Silent, but it may be agreed on anew. */
  pause(): void {
    this.#keepAlive.stop();
    this.#timer?.set(Infinity);
  }

  stop(): void {
    this.#keepAlive.stop();
    this.#timer?.drop();
  }

  #advance(now: number): void {
    const action = this.#keepAlive.advance(now, this.#connection.inMessage);
    this.#timer?.set(this.#keepAlive.nextDue());
    if (action !== undefined) this.#act(action);
  }

  #act(action: Action): void {
    switch (action) {
      case 'ping':
        this.#parts.asked();
        this.#connection.send(PING);
        return;
      case 'stun':
        this.#stunId = randomBytes(ID_BYTES);
        this.#stunBytes = bindingRequest(this.#stunId);
        this.#parts.asked();
        this.#connection.send(this.#stunBytes);
        return;
      case 'stun-again':
        this.#connection.send(this.#stunBytes);
        return;
      default:
        this.#parts.failed(action);
    }
  }
}
