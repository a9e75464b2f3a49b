/**
 * `struct sockaddr_in` and `sockaddr_in6` to and from five integers. Bytes are little-endian in the
 * family field (the machine's) and big-endian in port and address (the network's).
 *
 * An IPv4-mapped address that a dual-stack IPv6 socket reports comes out as family 4, which is how it
 * must be written into a message; Linux takes it back as `sockaddr_in` on that same socket. The scope
 * of a link-local IPv6 address is not carried.
 */

/** The shape of net's Endpoint: host-order port, sixteen octets as four big-endian words, IPv4 mapped. */
export interface Address {
  family: number;
  port: number;
  a0: number;
  a1: number;
  a2: number;
  a3: number;
}

export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCKADDR_IN = 16;
export const SOCKADDR_IN6 = 28;
const MAPPED = 0xffff;

/** Fills `out`; false (and `out` untouched) if the family is neither IPv4 nor IPv6. */
export function readSockaddr(view: DataView, offset: number, out: Address): boolean {
  const family = view.getUint16(offset, true);
  if (family === AF_INET) {
    setV4(out, view.getInt32(offset + 4));
  } else if (family === AF_INET6) {
    readV6(view, offset + 8, out);
  } else {
    return false;
  }
  out.port = view.getUint16(offset + 2);
  return true;
}

/** Writes the 16 or 28 bytes and returns that length. */
export function writeSockaddr(view: DataView, offset: number, address: Address): number {
  view.setUint16(offset + 2, address.port);
  if (address.family === 4) {
    view.setUint16(offset, AF_INET, true);
    view.setInt32(offset + 4, address.a3);
    view.setInt32(offset + 8, 0);
    view.setInt32(offset + 12, 0);
    return SOCKADDR_IN;
  }
  view.setUint16(offset, AF_INET6, true);
  view.setInt32(offset + 4, 0);
  writeV6(view, offset + 8, address);
  view.setInt32(offset + 24, 0);
  return SOCKADDR_IN6;
}

export function setV4(out: Address, word: number): void {
  out.family = 4;
  out.a0 = 0;
  out.a1 = 0;
  out.a2 = MAPPED;
  out.a3 = word;
}

/** Sixteen octets in network order; the port is left alone. */
export function readV6(view: DataView, offset: number, out: Address): void {
  out.a0 = view.getInt32(offset);
  out.a1 = view.getInt32(offset + 4);
  out.a2 = view.getInt32(offset + 8);
  out.a3 = view.getInt32(offset + 12);
  out.family = out.a0 === 0 && out.a1 === 0 && out.a2 === MAPPED ? 4 : 6;
}

export function writeV6(view: DataView, offset: number, address: Address): void {
  view.setInt32(offset, address.a0);
  view.setInt32(offset + 4, address.a1);
  view.setInt32(offset + 8, address.a2);
  view.setInt32(offset + 12, address.a3);
}
