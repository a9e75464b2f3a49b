/**
 * A client's half of RFC 6455: the request that opens a WebSocket, the head and mask of a frame that is sent, the head
 * of one that comes. Only what a SIP client on a good day needs: no fragments, nothing longer than 64 KiB.
 */

export const TEXT = 1;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;

/** Octets of the longest head that is written here. */
export const FRAME_HEAD = 8;
const MASK = [0x11, 0x5a, 0xc3, 0x7e];
const FIN = 0x80;
const MASKED = 0x80;

export const upgrade = (host: string, port: number): Buffer =>
  Buffer.from(
    [
      'GET / HTTP/1.1',
      `Host: ${host}:${port}`,
      'Upgrade: websocket',
      'Connection: Upgrade',
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
      'Sec-WebSocket-Protocol: sip',
      'Sec-WebSocket-Version: 13',
      '',
      '',
    ].join('\r\n'),
    'latin1',
  );

const ACCEPTED = Buffer.from('HTTP/1.1 101', 'latin1');

/** Where the answer at `[start, end)` ends; 0 if it is not there in whole, -1 if it is a refusal. */
export function upgraded(memory: Buffer, start: number, end: number): number {
  const answer = memory.subarray(start, end);
  const blank = answer.indexOf('\r\n\r\n', 0, 'latin1');
  if (blank < 0) return 0;
  return answer.subarray(0, ACCEPTED.length).equals(ACCEPTED) ? start + blank + 4 : -1;
}

/** Masks the payload at `[at, end)` where it lies, writes the head in front of it, and returns where that begins. */
export function frame(memory: Buffer, opcode: number, at: number, end: number): number {
  const length = end - at;
  const start = at - (length < 126 ? 6 : FRAME_HEAD);
  memory[start] = FIN | opcode;
  if (length < 126) memory[start + 1] = MASKED | length;
  else {
    memory[start + 1] = MASKED | 126;
    memory[start + 2] = length >> 8;
    memory[start + 3] = length & 255;
  }
  for (let i = 0; i < 4; i++) memory[at - 4 + i] = MASK[i];
  for (let i = 0; i < length; i++) memory[at + i] ^= MASK[i & 3];
  return start;
}

/** The head of a frame that came. */
export class FrameHead {
  opcode = 0;
  payload = 0;
  end = 0;

  /** False if `[start, limit)` does not hold a whole frame. */
  read(memory: Buffer, start: number, limit: number): boolean {
    if (limit - start < 2) return false;
    this.opcode = memory[start] & 15;
    let length = memory[start + 1] & 127;
    this.payload = start + 2;
    if (length === 126) {
      if (limit - start < 4) return false;
      length = memory.readUInt16BE(start + 2);
      this.payload = start + 4;
    }
    this.end = this.payload + length;
    return this.end <= limit;
  }
}
