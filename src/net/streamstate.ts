/** The life of a stream, in its order, on both backends. */
export const CONNECTING = 0;
export const HANDSHAKING = 1;
export const OPEN = 2;
/** what is queued still goes out, what comes in is left or thrown away */
export const DRAINING = 3;
/** FIN sent; input is thrown away until the peer's FIN, so that no reset overtakes our last bytes */
export const LINGERING = 4;
export const CLOSED = 5;

/** How long a stream lingers at most. */
export const LINGER_MS = 1_000;
