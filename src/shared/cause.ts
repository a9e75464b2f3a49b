/**
 * Why a flow ended: the one list. A flow always ends with one of these codes; it stands in the
 * flow's record, names a counter, and its word is what the log and the admin views show.
 *
 * Codes are part of the shared record and of what an upgraded process inherits: never renumber,
 * append.
 */
export const Cause = {
  /** not closed */
  NONE: 0,
  /** the peer closed in order: FIN, close_notify, WebSocket close */
  PEER_CLOSED: 1,
  /** the peer or something between reset the connection */
  RESET: 2,
  /** silence longer than Flow-Timer and grace (5626 §5.4) */
  EXPIRED: 3,
  /** the last registration over it ran out */
  REGISTRATION_EXPIRED: 4,
  /** no accepted REGISTER and no dialog in its time */
  STAGE_DEADLINE: 5,
  /** nothing moved for HOLDFAST_IDLE_S on a flow without registration */
  IDLE: 6,
  /** an ICMP error came back for a datagram */
  ICMP: 7,
  /** the kernel gave up on the connection: written octets were never acknowledged */
  TIMEOUT: 8,
  /** the peer does not read: its write queue passed the limit */
  WRITE_QUEUE: 9,
  /** a message above a limit of wire/limits on a stream, where no resynchronising is possible */
  TOO_LARGE: 10,
  /** octets on a stream that no framing can be found in */
  MALFORMED: 11,
  /** its shard died, and the flow could not be taken up */
  SHARD_LOST: 12,
  /** no flow record: refused, or a provisional record reused for a newer one */
  TABLE_FULL: 13,
  /** drained for the end of the process */
  SHUTDOWN: 14,
  /** another flow took the place of this one */
  REPLACED: 15,
  /** the upstream behind it is marked dead */
  UPSTREAM_LOST: 16,
  /** a request went down it, and no octet came back in HOLDFAST_FLOW_ANSWER_S; then its end */
  SUSPECT: 17,
  /** its budget, or its source's, was exceeded */
  BUDGET: 18,
  /** the TLS handshake or a TLS record failed */
  TLS: 19,
  /** the WebSocket handshake or a frame broke the protocol */
  WEBSOCKET: 20,
  /** another error of the system; the log line has the errno */
  IO: 21,
  /** an operator closed it */
  ADMIN: 22,
  /** passed to the new process of an upgrade; the peer sees no end */
  HANDED_OVER: 23,
  /** we dialled and the connection never came up */
  CONNECT_FAILED: 24,
  /** user agent: no pong in 10 s (5626 §4.4.1) */
  NO_PONG: 25,
  /** user agent: the STUN transaction failed (5626 §4.4.2) */
  STUN_FAILED: 26,
  /** user agent: the mapped address changed (5626 §4.4.2) */
  MAPPED_ADDRESS_CHANGED: 27,
  /** a PROXY header from a peer that may not say who its client is */
  PROXY_UNTRUSTED: 28,
  /** a PROXY header that breaks its grammar */
  PROXY_MALFORMED: 29,
  /** a connection on which nothing came */
  NO_OCTET: 30,
  /** octets came, and no whole message in its time */
  NO_MESSAGE: 31,
  /** a message was begun and not ended in its time */
  UNFINISHED: 32,
} as const;
export type Cause = (typeof Cause)[keyof typeof Cause];

/** Log words by code: `PEER_CLOSED` is `peer-closed`. */
export const causeWords: readonly string[] = Object.keys(Cause).map((name) =>
  name.toLowerCase().replaceAll('_', '-'),
);

export function causeWord(code: number): string {
  return causeWords[code] ?? `cause-${code}`;
}
