/**
 * base64url (RFC 4648 section 5) without padding, from one byte range to another: the text form of
 * flow tokens and branches. All of its 64 characters may stand unescaped in a SIP user part and in
 * a token.
 *
 * Decoding is strict, so that a value has exactly one text: a character outside the alphabet,
 * padding, an impossible length and unused low bits that are not zero are all refused.
 * Allocates nothing. The caller sees to it that the destination has room.
 */
const LETTERS = new Uint8Array(64);
const VALUES = new Int8Array(256).fill(-1);
for (let i = 0; i < 64; i++) {
  LETTERS[i] = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'.charCodeAt(i);
  VALUES[LETTERS[i]] = i;
}

/** 0..63, or -1 for an octet outside the alphabet. */
export function base64urlValue(octet: number): number {
  return VALUES[octet];
}

/** Length of the text for `octets` octets. */
export function base64urlLength(octets: number): number {
  return Math.ceil((octets * 4) / 3);
}

/** Writes the text of src[start, end) at dst[at]. Returns the index after the text. */
export function encodeBase64url(
  src: Uint8Array,
  start: number,
  end: number,
  dst: Uint8Array,
  at: number,
): number {
  let to = at;
  let i = start;
  for (; i + 3 <= end; i += 3) {
    const bits = (src[i] << 16) | (src[i + 1] << 8) | src[i + 2];
    dst[to++] = LETTERS[bits >>> 18];
    dst[to++] = LETTERS[(bits >>> 12) & 63];
    dst[to++] = LETTERS[(bits >>> 6) & 63];
    dst[to++] = LETTERS[bits & 63];
  }
  if (i + 1 === end) {
    dst[to++] = LETTERS[src[i] >>> 2];
    dst[to++] = LETTERS[(src[i] & 3) << 4];
  } else if (i + 2 === end) {
    const bits = (src[i] << 8) | src[i + 1];
    dst[to++] = LETTERS[bits >>> 10];
    dst[to++] = LETTERS[(bits >>> 4) & 63];
    dst[to++] = LETTERS[(bits & 15) << 2];
  }
  return to;
}

/** Writes the octets of the text src[start, end) at dst[at]. Returns their number, or -1. */
export function decodeBase64url(
  src: Uint8Array,
  start: number,
  end: number,
  dst: Uint8Array,
  at: number,
): number {
  let to = at;
  let i = start;
  for (; i + 4 <= end; i += 4) {
    const bits =
      (VALUES[src[i]] << 18) | (VALUES[src[i + 1]] << 12) | (VALUES[src[i + 2]] << 6) | VALUES[src[i + 3]];
    // -1 has all bits set, so one bad character makes the whole sum negative
    if (bits < 0) return -1;
    dst[to++] = bits >>> 16;
    dst[to++] = bits >>> 8;
    dst[to++] = bits;
  }
  switch (end - i) {
    case 0:
      break;
    case 2: {
      const bits = (VALUES[src[i]] << 6) | VALUES[src[i + 1]];
      if (bits < 0 || (bits & 15) !== 0) return -1;
      dst[to++] = bits >>> 4;
      break;
    }
    case 3: {
      const bits = (VALUES[src[i]] << 12) | (VALUES[src[i + 1]] << 6) | VALUES[src[i + 2]];
      if (bits < 0 || (bits & 3) !== 0) return -1;
      dst[to++] = bits >>> 10;
      dst[to++] = bits >>> 2;
      break;
    }
    default:
      return -1;
  }
  return to - at;
}
