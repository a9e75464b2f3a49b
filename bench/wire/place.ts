/**
 * Messages in memory as a shard holds them: in one buffer over shared memory, 64 KiB apart like the
 * slots that datagrams are received in.
 */
const SLOT = 64 * 1024;

export interface Place {
  mem: Uint8Array;
  start: number[];
  end: number[];
}

/** `room`: octets behind the last slot, from `start.length * SLOT` on. */
export function place(texts: readonly (string | Uint8Array)[], room = 0): Place {
  const mem = Buffer.from(new SharedArrayBuffer(texts.length * SLOT + room + 1));
  const start = texts.map((_, i) => i * SLOT);
  const end = texts.map((text, i) => {
    const bytes = typeof text === 'string' ? Buffer.from(text, 'latin1') : text;
    mem.set(bytes, start[i]);
    return start[i] + bytes.length;
  });
  return { mem, start, end };
}

/** The first octet behind all slots of `place`. */
export const behind = ({ start }: Place): number => start.length * SLOT;

/** `count` texts of a fixture. */
export const many = <T>(count: number, text: (n: number) => T): T[] =>
  Array.from({ length: count }, (_, n) => text(n));
