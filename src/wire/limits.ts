/**
 * Every size and count that a peer can drive, with its reason. A message that passes a limit gets a
 * coded verdict from the framer or the lexer, never a throw; the role decides which answer that is.
 */

/** RFC 3261 sets none; a Request-URI or a single header longer than this is an attack or a mistake. */
export const MAX_START_LINE = 8 * 1024;
export const MAX_HEADER_LINE = 16 * 1024;

/** Start line and headers together. RFC 4475's longest legal message needs 2.5 KiB. */
export const MAX_HEAD = 32 * 1024;

/** The largest message taken from a stream: head and body. Also the largest that is ever composed. */
export const MAX_MESSAGE = 256 * 1024;

/** Headers in one message; the offset table has this many rows. */
export const MAX_HEADERS = 200;

/** The largest UDP payload (RFC 3261 18.1.1 asks for 65,535 octets with headers). */
export const MAX_DATAGRAM = 65_535;

/** The request that opens a WebSocket. Browsers send their cookies along; HTTP servers commonly take as much. */
export const MAX_UPGRADE = 8 * 1024;
