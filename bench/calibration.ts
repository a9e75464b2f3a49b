/**
 * A fixed piece of work that no change of the project makes faster or slower: what a case costs is
 * divided by what this costs at the same moment, so that a slow machine, or a slow minute of it, cancels
 * out. It does what the packet path does: octets through a class table, and integer mixing.
 *
 * Do not change it: stored baselines are in units of it.
 */
const LENGTH = 1024;
const text = new Uint8Array(LENGTH);
const classes = new Uint8Array(256);
const out = new Uint8Array(LENGTH);
for (let i = 0; i < 256; i++) classes[i] = Math.imul(i, 0x9e3779b1) >>> 28;
for (let i = 0; i < LENGTH; i++) text[i] = 32 + (Math.imul(i + 1, 0x85ebca6b) >>> 26);

export function calibrate(): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < LENGTH; i++) {
    const octet = text[i];
    if (classes[octet] & 1) hash = Math.imul(hash ^ octet, 0x01000193);
    else hash = ((hash << 5) | (hash >>> 27)) ^ octet;
    out[i] = hash;
  }
  return hash;
}
