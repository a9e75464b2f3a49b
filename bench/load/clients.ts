/**
 * The clients' side: `flows` of them, each known by its number. One class for UDP, where a flow is an address pair and
 * needs no socket of its own, one for what runs over TCP.
 */
export interface Clients {
  /** Makes the flow; `opened` or `closed` follows, maybe before this returns. */
  open(flow: number): void;
  isOpen(flow: number): boolean;
  /** Where a message for `flow` may be written; it must be sent before the next `place`. */
  place(flow: number): number;
  send(flow: number, at: number, end: number): void;
  /** A keep-alive that carries `transaction` if its kind can. */
  ping(flow: number, transaction: number): void;
  close(flow: number): void;
  /** A descriptor that was added to the epoll set as CLIENT is ready. */
  ready(index: number, generation: number, events: number): void;
  /** Sends what is still collected. */
  flush(): void;
  end(): void;
  /** what could not be sent */
  readonly dropped: number;
  /** why the last flow was closed that was not closed here; 0: by the server, else -errno */
  readonly lastError: number;
}

export interface ClientEvents {
  opened(flow: number): void;
  /** A whole SIP message, with nothing behind it; what it is stands in the generator's Reading. */
  message(flow: number, start: number, end: number): void;
  /** An answer to a keep-alive; `transaction` is -1 where it does not say which. */
  pong(flow: number, transaction: number): void;
  /** Not by us: after `opened`, or in its place. */
  closed(flow: number, wasOpen: boolean): void;
}

/** What a descriptor in the epoll set belongs to: the low bits of its second word. */
export const CORE = 1;
export const CLIENT = 2;
export const KIND_BITS = 2;
