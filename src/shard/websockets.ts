/**
 * SIP over WebSocket (RFC 7118) between a shard's streams and its messages: a stream of a ws or wss listener
 * is an HTTP request first, then frames. What comes up from here is one SIP message a WebSocket message;
 * what goes down is put into one frame. Both lie in the arena, and a flow between two messages has one small
 * object here and no buffer.
 *
 * Keep-alives end here: a Ping frame is answered with its payload (6455 5.5.2), CR LF CR LF in a message with
 * CR LF in a message of the same kind (7118 6): scripts in browsers cannot send Ping frames.
 *
 * A message goes out as text if it is UTF-8, which is what scripts expect, else as binary (7118 4.2). Whoever
 * closes such a flow sends a Close frame first that says why (6455 7.4); a peer that does not read, or has not
 * asked for a WebSocket yet, gets none.
 *
 * A replacement of this shard goes on with a quiet flow: the record says whether it is a WebSocket already, and
 * one with an open message is not quiet (wire/wsframe.ts keeps an octet of it).
 */
import type { Flows } from '../flow/flows.ts';
import type { Arena } from '../net/arena.ts';
import type { Net } from '../net/net.ts';
import { Cause } from '../shared/cause.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { UPGRADING } from '../shared/flow-record.ts';
import { ascii, latin1 } from '../wire/chars.ts';
import { NO_END, NOT_SIP } from '../wire/lexer.ts';
import { MAX_UPGRADE } from '../wire/limits.ts';
import {
  type Admit,
  answerUpgrade,
  isNoRequest,
  refuseUpgrade,
  type UpgradeAnswer,
  upgradeEnd,
} from '../wire/upgrade.ts';
import { Words } from '../wire/words.ts';
import {
  BINARY,
  CLOSE,
  Frames,
  MORE,
  NORMAL,
  OwnFrame,
  PING,
  POLICY,
  PONG,
  PROTOCOL_ERROR,
  RESTART,
  TEXT,
  TOO_BIG,
  writeHead,
} from '../wire/wsframe.ts';

const CR = 13;
const LF = 10;
const CRLF = ascii('\r\n');

/** A whole message: its verdict by the lexer. */
export type Arrived = (slot: number, start: number, end: number) => number;
export type Unsent = (slot: number, start: number, end: number) => void;

export interface WebSocketsParts {
  net: Net;
  flows: Flows;
  counters: Counters;
  admit: Admit;
}

export class WebSockets {
  readonly #net: Net;
  readonly #arena: Arena;
  readonly #flows: Flows;
  readonly #counters: Counters;
  readonly #admit: Admit;
  readonly #words: Words;
  /** octets of the HTTP request that were searched for its end */
  readonly #upgrading = new Map<number, number>();
  readonly #open = new Map<number, Frames>();
  readonly #own = new OwnFrame();
  arrived: Arrived = () => 0;

  constructor({ net, flows, counters, admit }: WebSocketsParts) {
    this.#net = net;
    this.#arena = net.arena;
    this.#flows = flows;
    this.#counters = counters;
    this.#admit = admit;
    this.#words = new Words(net.arena.mem);
  }

  /** A stream whose record says that it is one of ours begins, or is taken over. */
  begin(slot: number): void {
    if (this.#flows.table.has(slot, UPGRADING)) this.#upgrading.set(slot, 0);
    else this.#open.set(slot, new Frames());
  }

  end(slot: number): void {
    this.#upgrading.delete(slot);
    this.#open.delete(slot);
  }

  // ---- in

  /** As `NetHandler.bytes`; `ds`: the time. */
  bytes(slot: number, start: number, end: number, ds: number): number {
    let p = start;
    const searched = this.#upgrading.get(slot);
    if (searched !== undefined) {
      this.#flows.touch(slot, ds);
      p = this.#upgrade(slot, searched, start, end);
      if (p === start) return 0;
    } else if (this.#open.has(slot)) this.#flows.touch(slot, ds);
    const frames = this.#open.get(slot);
    if (!frames) return end - start;
    for (;;) {
      const kind = frames.next(this.#words, p, end);
      p = frames.frameEnd;
      if (kind === MORE) return p - start;
      this.#frame(slot, kind, frames.start, frames.end, ds);
      // closed by what it said, or because it does not take what it is answered
      if (this.#open.get(slot) !== frames || !this.#net.isOpen(slot)) return end - start;
    }
  }

  #frame(slot: number, kind: number, start: number, end: number, ds: number): void {
    switch (kind) {
      case TEXT:
      case BINARY:
        this.#message(slot, kind, start, end, ds);
        return;
      case PING:
        this.#keepAlive(slot, PONG, this.#arena.mem, start, end, ds);
        return;
      case PONG:
        return;
      case CLOSE:
        // its code comes back, without its reason
        this.#send(slot, CLOSE, this.#arena.mem, start, Math.min(end, start + 2));
        this.#finish(slot, Cause.PEER_CLOSED);
        return;
      default:
        this.#counters.inc(kind === TOO_BIG ? Counter.tooLarge : Counter.malformed);
        this.#close(slot, kind, kind === TOO_BIG ? Cause.TOO_LARGE : Cause.WEBSOCKET);
    }
  }

  #message(slot: number, kind: number, start: number, end: number, ds: number): void {
    const { mem } = this.#arena;
    let p = start;
    // 3261 7.5: before a start line
    while (p + 1 < end && mem[p] === CR && mem[p + 1] === LF) p += 2;
    if (p === end) {
      if (end - start !== 4) return; // a pong, or nothing at all
      this.#keepAlive(slot, kind, CRLF, 0, 2, ds);
      return;
    }
    const verdict = this.arrived(slot, p, end);
    // 7118 4.1: nothing else may be sent here
    if (verdict === NOT_SIP || verdict === NO_END) this.#close(slot, PROTOCOL_ERROR, Cause.MALFORMED);
  }

  #keepAlive(slot: number, opcode: number, pong: Uint8Array, start: number, end: number, ds: number): void {
    this.#counters.inc(Counter.pings);
    this.#flows.table.setLastKeepAlive(slot, ds);
    if (this.#send(slot, opcode, pong, start, end)) this.#counters.inc(Counter.pongs);
  }

  /** Where the frames begin: `start` as long as the request is not whole, `end` if it is refused. */
  #upgrade(slot: number, searched: number, start: number, end: number): number {
    const { mem } = this.#arena;
    if (isNoRequest(mem, start)) return this.#answer(slot, refuseUpgrade(400), end);
    const limit = Math.min(end, start + MAX_UPGRADE);
    const behind = upgradeEnd(mem, start, start + searched, limit);
    if (behind >= 0)
      return this.#answer(slot, answerUpgrade(latin1(mem, start, behind), this.#admit), behind);
    if (end - start >= MAX_UPGRADE) return this.#answer(slot, refuseUpgrade(431), end);
    this.#upgrading.set(slot, end - start);
    return start;
  }

  #answer(slot: number, { status, text }: UpgradeAnswer, behind: number): number {
    const arena = this.#arena;
    this.#upgrading.delete(slot);
    const at = arena.reserve();
    arena.outAt = at + text.length;
    arena.mem.set(ascii(text), at);
    this.#net.sendStream(slot, at, arena.outAt);
    if (status === 101) {
      this.#counters.inc(Counter.webSocketsOpened);
      this.#open.set(slot, new Frames());
      this.#flows.upgraded(slot);
      return behind;
    }
    this.#counters.inc(Counter.webSocketsRefused);
    this.#net.close(slot, Cause.WEBSOCKET, true);
    return behind;
  }

  // ---- out

  /** `[start, end)` of the arena, a whole message, in a frame. False: it is not open, or does not read. */
  send(slot: number, start: number, end: number): boolean {
    if (!this.#open.has(slot)) return false;
    return this.#send(slot, this.#words.isText(start, end) ? TEXT : BINARY, this.#arena.mem, start, end);
  }

  /** Copies: who composed the message may still want it where it is. */
  #send(slot: number, opcode: number, from: Uint8Array, start: number, end: number): boolean {
    const arena = this.#arena;
    const at = arena.reserve();
    const payload = writeHead(arena.mem, at, opcode, end - start);
    arena.outAt = payload + end - start;
    if (from === arena.mem) arena.mem.copyWithin(payload, start, end);
    else arena.mem.set(from, payload);
    return this.#net.sendStream(slot, at, arena.outAt);
  }

  /** Closes with a Close frame. False: it is no WebSocket, or not any more. */
  close(slot: number, cause: number): boolean {
    if (!this.#open.has(slot)) return false;
    this.#close(slot, codeOf(cause), cause);
    return true;
  }

  #close(slot: number, code: number, cause: number): void {
    this.#send(slot, CLOSE, Uint8Array.of(code >> 8, code & 0xff), 0, 2);
    this.#finish(slot, cause);
  }

  #finish(slot: number, cause: number): void {
    this.#open.delete(slot);
    this.#net.close(slot, cause, true);
  }

  /** The shard ends in order: clients may come again in a moment. */
  farewell(): void {
    for (const slot of [...this.#open.keys()]) this.#close(slot, RESTART, Cause.SHUTDOWN);
  }

  /** What a connection did not take, as the messages that were in it. */
  unsent(slot: number, start: number, end: number, tell: Unsent): void {
    const own = this.#own;
    for (let p = start; own.read(this.#arena.mem, p, end); ) {
      p = own.end;
      if (own.opcode <= BINARY) tell(slot, own.start, own.end);
    }
  }
}

function codeOf(cause: number): number {
  switch (cause) {
    case Cause.SHUTDOWN:
      return RESTART;
    case Cause.TOO_LARGE:
      return TOO_BIG;
    case Cause.MALFORMED:
    case Cause.WEBSOCKET:
      return PROTOCOL_ERROR;
    case Cause.NO_OCTET:
    case Cause.NO_MESSAGE:
    case Cause.UNFINISHED:
    case Cause.STAGE_DEADLINE:
    case Cause.BUDGET:
      return POLICY;
    default:
      return NORMAL;
  }
}
