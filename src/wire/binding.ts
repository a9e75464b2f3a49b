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
const ERROR_CODE = 0x0009;
const UNKNOWN_ATTRIBUTES = 0x000a;
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
  if (!isAnswer(bytes, id)) return undefined;
  const type = bytes.readUInt16BE(0);
  if (type === BINDING_ERROR) return 'error'; // UA-4.4.2-05
  if (type !== BINDING_SUCCESS) return undefined;
  let mapped: Endpoint | undefined;
  let foreign = false;
  const whole = eachAttribute(bytes, (attribute, at, size) => {
    if (attribute === XOR_MAPPED_ADDRESS) mapped ??= xorMapped(bytes, at, size);
    // 5389 7.3.3: what must be understood and is not makes the transaction fail
    else if (attribute < MOST_UNDERSTOOD && attribute !== MAPPED_ADDRESS) foreign = true;
  });
  if (!whole) return undefined;
  return foreign ? 'error' : (mapped ?? 'error');
}

/** What an error response says: its code, and the attributes that were not understood. Undefined: it is none to `id`. */
export function readBindingError(
  bytes: Buffer,
  id: Uint8Array,
): { code: number; unknown: number[] } | undefined {
  if (!isAnswer(bytes, id) || bytes.readUInt16BE(0) !== BINDING_ERROR) return undefined;
  let code = 0;
  const unknown: number[] = [];
  const whole = eachAttribute(bytes, (attribute, at, size) => {
    if (attribute === ERROR_CODE && size >= 4) code = (bytes[at + 2] & 7) * 100 + bytes[at + 3];
    if (attribute === UNKNOWN_ATTRIBUTES)
      for (let i = at; i + 1 < at + size; i += 2) unknown.push(bytes.readUInt16BE(i));
  });
  return whole ? { code, unknown } : undefined;
}

function isAnswer(bytes: Buffer, id: Uint8Array): boolean {
  return (
    bytes.length >= HEADER &&
    bytes.readUInt32BE(4) === COOKIE &&
    bytes.readUInt16BE(2) + HEADER === bytes.length &&
    bytes.compare(id, 0, ID_BYTES, 8, HEADER) === 0
  );
}

/** `at`: of the value. False: they do not fill the message exactly. */
function eachAttribute(bytes: Buffer, tell: (type: number, at: number, size: number) => void): boolean {
  for (let at = HEADER; at < bytes.length; ) {
    if (at + 4 > bytes.length) return false;
    const size = bytes.readUInt16BE(at + 2);
    const next = at + 4 + ((size + 3) & ~3);
    if (next > bytes.length) return false;
    tell(bytes.readUInt16BE(at), at + 4, size);
    at = next;
  }
  return true;
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
