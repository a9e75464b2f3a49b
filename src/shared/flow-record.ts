/**
 * The fields of a flow record: 32 words, two cache lines, and beside it 96 bytes for the flow's token text.
 * This file alone knows the offsets. The first line is what a UDP look-up compares, the second what time and
 * traffic change. All zero is a free record.
 *
 * Who may write: the holder of a CLAIMED or CLOSING slot, everything; of a live one, its owner, and any shard
 * that hears or sends the flow its times, counters and flags. Those are plain stores: an aligned int32 cannot
 * tear, a lost increment or a value that is a moment old is only a slightly wrong hint. Flags are atomic, since
 * two shards may change different bits. Readers load addresses and descriptors by Atomics, so that the second `isLive`
 * of flow-table.ts's reading rule cannot pass them on any machine. Times are deciseconds since the process
 * started ("ds", int32: 6.8 years).
 */
export const TRANSPORT_UDP = 1;
export const TRANSPORT_TCP = 2;
export const TRANSPORT_TLS = 3;
export const TRANSPORT_WS = 4;
export const TRANSPORT_WSS = 5;

/** Messages in WebSocket frames (RFC 7118), over TCP or over TLS. */
export const isWebSocket = (transport: number): boolean => transport >= TRANSPORT_WS;
/** Do its octets go through TLS? */
export const isSecured = (transport: number): boolean =>
  transport === TRANSPORT_TLS || transport === TRANSPORT_WSS;

/** Bytes of a message have come in and the rest has not: the shard's memory is needed to go on. */
export const PARTIAL_IN = 1 << 0;
/** Bytes accepted for sending have not left the shard's memory. */
export const UNDRAINED_OUT = 1 << 1;
/** A request went down this flow and nothing came back in the answer time. */
export const SUSPECT = 1 << 2;
/** Upstream or trusted peer: no deadline. */
export const EXEMPT = 1 << 3;
/** Opened by us. */
export const OUTBOUND_DIALED = 1 << 4;
/** A 2xx to a REGISTER went down it. */
export const REGISTERED = 1 << 5;
/** A dialog runs over it. */
export const DIALOG = 1 << 6;
/** libuv closes the descriptor, we free only the record. */
export const NODE_OWNED_FD = 1 << 7;
/** `client` has the address that a PROXY header told; without it the client's is that of the socket, `remote`. */
export const PROXIED = 1 << 8;
/** Taken over from another process or from an earlier incarnation's token. */
export const ADOPTED = 1 << 9;
/** A WebSocket connection whose HTTP request has not been answered yet. */
export const UPGRADING = 1 << 10;
/** The certificate that the peer has shown is of a trusted domain. */
export const CERTIFIED = 1 << 11;

export const LIFE = 0;
export const GENERATION = 1;
export const OWNER = 2;
const KIND = 3; // transport | family << 8 | cause << 16
const FLAGS = 4;
const FD = 5; // descriptor + 1, so that 0 is none
const LISTENER = 6;
const REMOTE = 7;
const PORTS = 11; // remote << 16 | local
const LOCAL = 12;
const CLIENT = 16;
const CLIENT_PORT = 20;
const OPENED = 21;
const LAST_BYTE = 22;
const LAST_KEEPALIVE = 23;
const FLOW_TIMER = 24;
const REGISTRATION_EXPIRY = 25;
const DEADLINE = 26;
const INCARNATION = 27;
const COOKIE = 28;
const MESSAGES_IN = 30;
const MESSAGES_OUT = 31;

export const RECORD_WORDS = 32;
const RECORD_SHIFT = 5;
export const TOKEN_BYTES = 96;
export const MAX_TOKEN = TOKEN_BYTES - 1;

/** What an `Endpoint` of the layer above is. */
export interface Address {
  family: number;
  port: number;
  a0: number;
  a1: number;
  a2: number;
  a3: number;
}

/** Words of the key that a UDP flow is found by: listener and port, remote address, local address. */
export const KEY_WORDS = 9;

export class FlowRecords {
  protected readonly words: Int32Array;
  /** All token texts: a length byte, then ascii, 96 bytes a slot. `tokenOffset` says where. */
  readonly tokens: Uint8Array;

  constructor(words: Int32Array, tokens: Uint8Array) {
    this.words = words;
    this.tokens = tokens;
  }

  owner(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + OWNER];
  }

  transport(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + KIND] & 0xff;
  }

  /** 4 or 6 */
  family(slot: number): number {
    return (this.words[(slot << RECORD_SHIFT) + KIND] >>> 8) & 0xff;
  }

  setKind(slot: number, transport: number, family: number): void {
    const at = (slot << RECORD_SHIFT) + KIND;
    this.words[at] = (this.words[at] & ~0xffff) | transport | (family << 8);
  }

  /** Why the flow ended: readable after `release` until the slot's next life. */
  cause(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + KIND] >>> 16;
  }

  setCause(slot: number, cause: number): void {
    const at = (slot << RECORD_SHIFT) + KIND;
    this.words[at] = (this.words[at] & 0xffff) | (cause << 16);
  }

  flags(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + FLAGS];
  }

  has(slot: number, flags: number): boolean {
    return (this.words[(slot << RECORD_SHIFT) + FLAGS] & flags) !== 0;
  }

  raise(slot: number, flags: number): void {
    const at = (slot << RECORD_SHIFT) + FLAGS;
    if ((this.words[at] & flags) !== flags) Atomics.or(this.words, at, flags);
  }

  lower(slot: number, flags: number): void {
    const at = (slot << RECORD_SHIFT) + FLAGS;
    if ((this.words[at] & flags) !== 0) Atomics.and(this.words, at, ~flags);
  }

  /** -1 if there is none */
  fd(slot: number): number {
    return Atomics.load(this.words, (slot << RECORD_SHIFT) + FD) - 1;
  }

  setFd(slot: number, fd: number): void {
    Atomics.store(this.words, (slot << RECORD_SHIFT) + FD, fd + 1);
  }

  listener(slot: number): number {
    return Atomics.load(this.words, (slot << RECORD_SHIFT) + LISTENER);
  }

  /** 0 to 65535 */
  setListener(slot: number, listener: number): void {
    this.words[(slot << RECORD_SHIFT) + LISTENER] = listener;
  }

  /** Word 0 to 3 of the address that the bytes come from. */
  remote(slot: number, word: number): number {
    return Atomics.load(this.words, (slot << RECORD_SHIFT) + REMOTE + word);
  }

  remotePort(slot: number): number {
    return Atomics.load(this.words, (slot << RECORD_SHIFT) + PORTS) >>> 16;
  }

  setRemote(slot: number, a0: number, a1: number, a2: number, a3: number, port: number): void {
    const base = slot << RECORD_SHIFT;
    const words = this.words;
    words[base + REMOTE] = a0;
    words[base + REMOTE + 1] = a1;
    words[base + REMOTE + 2] = a2;
    words[base + REMOTE + 3] = a3;
    words[base + PORTS] = (words[base + PORTS] & 0xffff) | (port << 16);
  }

  /** Word 0 to 3 of our own address on this flow. */
  local(slot: number, word: number): number {
    return Atomics.load(this.words, (slot << RECORD_SHIFT) + LOCAL + word);
  }

  localPort(slot: number): number {
    return Atomics.load(this.words, (slot << RECORD_SHIFT) + PORTS) & 0xffff;
  }

  setLocal(slot: number, a0: number, a1: number, a2: number, a3: number, port: number): void {
    const base = slot << RECORD_SHIFT;
    const words = this.words;
    words[base + LOCAL] = a0;
    words[base + LOCAL + 1] = a1;
    words[base + LOCAL + 2] = a2;
    words[base + LOCAL + 3] = a3;
    words[base + PORTS] = (words[base + PORTS] & ~0xffff) | (port & 0xffff);
  }

  /** Word 0 to 3 of the client's own address, where a PROXY header gave one (flag PROXIED). */
  client(slot: number, word: number): number {
    return this.words[(slot << RECORD_SHIFT) + CLIENT + word];
  }

  clientPort(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + CLIENT_PORT];
  }

  setClient(slot: number, a0: number, a1: number, a2: number, a3: number, port: number): void {
    const base = slot << RECORD_SHIFT;
    const words = this.words;
    words[base + CLIENT] = a0;
    words[base + CLIENT + 1] = a1;
    words[base + CLIENT + 2] = a2;
    words[base + CLIENT + 3] = a3;
    words[base + CLIENT_PORT] = port;
    this.raise(slot, PROXIED);
  }

  readRemote(slot: number, into: Address): void {
    this.#readAddress(slot, REMOTE, into);
    into.port = this.remotePort(slot);
  }

  readLocal(slot: number, into: Address): void {
    this.#readAddress(slot, LOCAL, into);
    into.port = this.localPort(slot);
  }

  #readAddress(slot: number, field: number, into: Address): void {
    const at = (slot << RECORD_SHIFT) + field;
    const words = this.words;
    into.a0 = Atomics.load(words, at);
    into.a1 = Atomics.load(words, at + 1);
    into.a2 = Atomics.load(words, at + 2);
    into.a3 = Atomics.load(words, at + 3);
    into.family = this.family(slot);
  }

  openedAt(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + OPENED];
  }

  setOpenedAt(slot: number, ds: number): void {
    this.words[(slot << RECORD_SHIFT) + OPENED] = ds;
  }

  lastByte(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + LAST_BYTE];
  }

  setLastByte(slot: number, ds: number): void {
    this.words[(slot << RECORD_SHIFT) + LAST_BYTE] = ds;
  }

  lastKeepAlive(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + LAST_KEEPALIVE];
  }

  /** A keep-alive is bytes too: moves both times. */
  setLastKeepAlive(slot: number, ds: number): void {
    const base = slot << RECORD_SHIFT;
    this.words[base + LAST_KEEPALIVE] = ds;
    this.words[base + LAST_BYTE] = ds;
  }

  /** Seconds granted in a 2xx (Flow-Timer or `keep`); 0 is none. */
  flowTimer(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + FLOW_TIMER];
  }

  setFlowTimer(slot: number, seconds: number): void {
    this.words[(slot << RECORD_SHIFT) + FLOW_TIMER] = seconds;
  }

  /** ds at which the longest registration seen on this flow ends; 0 is none. */
  registrationExpiry(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + REGISTRATION_EXPIRY];
  }

  setRegistrationExpiry(slot: number, ds: number): void {
    this.words[(slot << RECORD_SHIFT) + REGISTRATION_EXPIRY] = ds;
  }

  /** ds; 0 is none */
  deadline(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + DEADLINE];
  }

  setDeadline(slot: number, ds: number): void {
    this.words[(slot << RECORD_SHIFT) + DEADLINE] = ds;
  }

  /** The process life that the flow's token names: of this process, or of an earlier one for an adopted flow. */
  incarnation(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + INCARNATION] >>> 0;
  }

  setIncarnation(slot: number, incarnation: number): void {
    this.words[(slot << RECORD_SHIFT) + INCARNATION] = incarnation | 0;
  }

  /** SO_COOKIE, to know the socket again before its number is closed by another thread. */
  cookieLow(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + COOKIE];
  }

  cookieHigh(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + COOKIE + 1];
  }

  setCookie(slot: number, low: number, high: number): void {
    this.words[(slot << RECORD_SHIFT) + COOKIE] = low;
    this.words[(slot << RECORD_SHIFT) + COOKIE + 1] = high;
  }

  messagesIn(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + MESSAGES_IN] >>> 0;
  }

  countIn(slot: number): void {
    this.words[(slot << RECORD_SHIFT) + MESSAGES_IN]++;
  }

  messagesOut(slot: number): number {
    return this.words[(slot << RECORD_SHIFT) + MESSAGES_OUT] >>> 0;
  }

  countOut(slot: number): void {
    this.words[(slot << RECORD_SHIFT) + MESSAGES_OUT]++;
  }

  /** False if it is longer than 95 octets. A reader on another shard may see it half written: it then fails to compare. */
  setToken(slot: number, bytes: Uint8Array, start: number, length: number): boolean {
    if (length > MAX_TOKEN) return false;
    const at = slot * TOKEN_BYTES;
    const tokens = this.tokens;
    tokens[at] = 0;
    for (let i = 0; i < length; i++) tokens[at + 1 + i] = bytes[start + i];
    tokens[at] = length;
    return true;
  }

  tokenLength(slot: number): number {
    return this.tokens[slot * TOKEN_BYTES];
  }

  /** Where the text begins in `tokens`. */
  tokenOffset(slot: number): number {
    return slot * TOKEN_BYTES + 1;
  }

  tokenByte(slot: number, i: number): number {
    return this.tokens[slot * TOKEN_BYTES + 1 + i];
  }

  /** Copies the look-up key of a record. */
  readKey(slot: number, key: Int32Array): void {
    const base = slot << RECORD_SHIFT;
    const words = this.words;
    key[0] = (Atomics.load(words, base + LISTENER) << 16) | (Atomics.load(words, base + PORTS) >>> 16);
    for (let i = 0; i < 4; i++) {
      key[1 + i] = Atomics.load(words, base + REMOTE + i);
      key[5 + i] = Atomics.load(words, base + LOCAL + i);
    }
  }

  /**
   * Plain loads, for an Atomics.load is a call of 8 ns. On x86 loads keep their order; where they need not, one may pass
   * the second look at the life: the look-up may then name a life that has just ended, as it may a moment later anyway.
   */
  keyEquals(slot: number, key: Int32Array): boolean {
    const base = slot << RECORD_SHIFT;
    const words = this.words;
    return (
      words[base + REMOTE + 3] === key[4] &&
      ((words[base + LISTENER] << 16) | (words[base + PORTS] >>> 16)) === key[0] &&
      words[base + REMOTE + 2] === key[3] &&
      words[base + REMOTE + 1] === key[2] &&
      words[base + REMOTE] === key[1] &&
      words[base + LOCAL + 3] === key[8] &&
      words[base + LOCAL + 2] === key[7] &&
      words[base + LOCAL + 1] === key[6] &&
      words[base + LOCAL] === key[5]
    );
  }

  /** Empties a record for its next life. Only by the holder of a CLAIMED slot. */
  clear(slot: number): void {
    const base = slot << RECORD_SHIFT;
    const words = this.words;
    for (let i = base + KIND; i < base + RECORD_WORDS; i++) words[i] = 0;
    this.tokens[slot * TOKEN_BYTES] = 0;
  }

  protected dropFd(slot: number): void {
    this.words[(slot << RECORD_SHIFT) + FD] = 0;
  }
}
