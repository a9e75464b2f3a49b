/** The generator's own messages: what it writes it reads back, whole or in pieces, and what it answers with. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameHead, frame, TEXT, upgraded } from '../../bench/load/frames.ts';
import { TRANSPORTS } from '../../bench/load/options.ts';
import { answer, path, Reading } from '../../bench/load/reading.ts';
import { downstream, KIND_DOWNSTREAM, KIND_REGISTER, register } from '../../bench/load/templates.ts';

const number = fc.integer({ min: 0, max: 0xffffffff });
const transport = fc.constantFrom(...TRANSPORTS);
const memory = Buffer.alloc(8192);
const AT = 100;
const OUT = 4096;

const text = (start: number, end: number): string => memory.toString('latin1', start, end);

/** A MESSAGE down a flow, its end. */
function writeDown(of: (typeof TRANSPORTS)[number], flow: number, transaction: number): number {
  const { before, after } = downstream(of, 'run', { transport: 'udp', host: '127.0.0.1', port: 5070 });
  const rest = before.write(memory, AT, flow, transaction);
  memory.write('<sip:token@127.0.0.1:5060;lr;ob>', rest, 'latin1');
  return after.write(memory, rest + 32, flow, transaction);
}

describe('messages of the generator', () => {
  it('say which flow and transaction they belong to', () => {
    fc.assert(
      fc.property(transport, number, number, (of, flow, transaction) => {
        const reading = new Reading();
        const end = register(of, 'run').write(memory, AT, flow, transaction);
        expect(reading.read(memory, AT, end)).toBe(true);
        expect(reading).toMatchObject({ status: 0, kind: KIND_REGISTER, flow, transaction, end });
        const last = writeDown(of, flow, transaction);
        expect(reading.read(memory, AT, last)).toBe(true);
        expect(reading).toMatchObject({ status: 0, kind: KIND_DOWNSTREAM, flow, transaction, end: last });
      }),
    );
  });

  it('are whole with their last octet, with a body too, and not before; what follows is not theirs', () => {
    const end = writeDown('tcp', 3, 4);
    const reading = new Reading();
    for (let limit = AT; limit < end; limit++) expect(reading.read(memory, AT, limit)).toBe(false);
    memory.fill('x', end, end + 50);
    expect(reading.read(memory, AT, end + 50)).toBe(true);
    expect(reading.end).toBe(end);
  });

  it('are answered with the lines that a registrar gives back, and no others', () => {
    const end = register('tcp', 'run').write(memory, AT, 10, 11);
    const asked = text(AT, end).replace(
      'Max-Forwards: 70\r\n',
      'Via: SIP/2.0/TCP 10.0.0.1:5060\r\nMax-Forwards: 69\r\nPath: <sip:token@127.0.0.1;lr;ob>\r\n',
    );
    memory.write(asked, AT, 'latin1');
    const last = answer(memory, AT, AT + asked.length, OUT, true);
    const lines = text(OUT, last).split('\r\n');
    const names = lines.slice(1, -2).map((line) => line.slice(0, line.indexOf(':')));
    expect(lines[0]).toBe('SIP/2.0 200 OK');
    expect(names).toEqual(
      'Via Via Path From To Call-ID CSeq Contact Require Supported Content-Length'.split(' '),
    );
    expect(lines).toContain('To: <sip:u0000000a@load.example>;tag=load');
    expect(text(path.start, path.end)).toBe('<sip:token@127.0.0.1;lr;ob>');
    const reading = new Reading();
    expect(reading.read(memory, OUT, last)).toBe(true);
    expect(reading).toMatchObject({ status: 200, kind: KIND_REGISTER, flow: 10, transaction: 11, end: last });
  });
});

describe('frames of the generator', () => {
  it('carry their payload masked, whatever its length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (payload) => {
        memory.set(payload, AT);
        const end = AT + payload.length;
        const start = frame(memory, TEXT, AT, end);
        const head = new FrameHead();
        const mask = memory.subarray(AT - 4, AT);
        expect(memory[start + 1] & 0x80).toBe(0x80);
        // the server's frames have no mask: to read this one as such, its length is all that counts
        head.read(memory, start, end);
        expect(head.opcode).toBe(TEXT);
        expect(head.end - head.payload).toBe(payload.length);
        expect(head.payload + 4).toBe(AT);
        const plain = memory.subarray(AT, end).map((octet, i) => octet ^ mask[i & 3]);
        expect([...plain]).toEqual([...payload]);
      }),
    );
  });

  it('are looked for behind the answer to the upgrade, once it is there in whole', () => {
    const reply = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n';
    memory.write(`${reply}behind`, AT, 'latin1');
    for (let n = 0; n < reply.length; n++) expect(upgraded(memory, AT, AT + n)).toBe(0);
    expect(upgraded(memory, AT, AT + reply.length + 6)).toBe(AT + reply.length);
    memory.write('HTTP/1.1 403 Forbidden\r\n\r\n', AT, 'latin1');
    expect(upgraded(memory, AT, AT + 26)).toBe(-1);
  });
});
