/**
 * The client's half of STUN Binding (RFC 5389 6, 15.2): the request, and what its answer says. Attributes that
 * routing a keep-alive does not need are passed over. A message that is not exactly as long as it says, or has
 * another transaction id, is no answer. Composing makes one buffer of 20 octets; nothing throws.
 */
import { Endpoint } from '../net/endpoint.ts';

export const ID_BYTES = 12;
const HEADER = 20;
const COOKIE = 0x2112a442;
const BINDING_REQUEST = 0x0001;
const BINDING_SUCCESS = 0x0101;
const BINDING_ERROR = 0x0111;
const XOR_MAPPED_ADDRESS = 0x0020;
const MOST_UNDERSTOOD = 0x8000;
/** what a success may carry and is understood, besides the above: MAPPED-ADDRESS, for it says the same less safely */
const MAPPED_ADDRESS = 0x0001;

/** ST-8-03: no attributes. */
export function bindingRequest(id: Uint8Array): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes.writeUInt16BE(BINDING_REQUEST, 0);
  bytes.writeUInt32BE(COOKIE, 4);
  bytes.set(id, 8);
  return bytes;
}

/** The mapped address; 'error' for an error response, or one that cannot be used; undefined: not the answer to `id`. */
export function readBinding(bytes: Buffer, id: Uint8Array): Endpoint | 'error' | undefined {
  if (bytes.length < HEADER || bytes.readUInt32BE(4) !== COOKIE) return undefined;
  if (bytes.readUInt16BE(2) + HEADER !== bytes.length || bytes.compare(id, 0, ID_BYTES, 8, HEADER) !== 0)
    return undefined;
  const type = bytes.readUInt16BE(0);
  if (type === BINDING_ERROR) return 'error'; // UA-4.4.2-05
  if (type !== BINDING_SUCCESS) return undefined;
  let mapped: Endpoint | undefined;
  for (let at = HEADER; at < bytes.length; ) {
    if (at + 4 > bytes.length) return undefined;
    const attribute = bytes.readUInt16BE(at);
    const size = bytes.readUInt16BE(at + 2);
    const next = at + 4 + ((size + 3) & ~3);
    if (next > bytes.length) return undefined;
    if (attribute === XOR_MAPPED_ADDRESS) mapped ??= xorMapped(bytes, at + 4, size);
    // 5389 7.3.3: what must be understood and is not makes the transaction fail
    else if (attribute < MOST_UNDERSTOOD && attribute !== MAPPED_ADDRESS) return 'error';
    at = next;
  }
  return mapped ?? 'error';
}

function xorMapped(bytes: Buffer, at: number, size: number): Endpoint | undefined {
  const family = bytes[at + 1];
  const word = (i: number) => bytes.readInt32BE(at + 4 + 4 * i) ^ bytes.readInt32BE(4 + 4 * i);
  if (family === 1 && size === 8) return new Endpoint().setV4(word(0), portOf(bytes, at));
  if (family !== 2 || size !== 20) return undefined;
  const address = new Endpoint();
  address.family = 6;
  address.port = portOf(bytes, at);
  address.a0 = word(0);
  address.a1 = word(1);
  address.a2 = word(2);
  address.a3 = word(3);
  return address;
}

const portOf = (bytes: Buffer, at: number): number => bytes.readUInt16BE(at + 2) ^ (COOKIE >>> 16);
