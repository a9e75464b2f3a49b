/** What one socket of the user agent tells, however the network cuts its octets. */
import { Duplex } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ConnectionHandler, type Ending, overStream } from '../../src/ua/connection.ts';

/** A stream whose octets the test brings, and which says what was written. */
function rig() {
  const written: Buffer[] = [];
  const stream = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      written.push(chunk);
      done();
    },
  });
  const told: string[] = [];
  const handler: ConnectionHandler = {
    opened: () => told.push('opened'),
    message: (buf, start, end) => {
      const behind = buf[end]; // there is one, and the lexer puts a sentinel there for the time of the call
      buf[end] = 0;
      told.push(Buffer.from(buf.subarray(start, end)).toString('latin1'));
      buf[end] = behind;
    },
    pong: () => told.push('pong'),
    stun: () => told.push('stun'),
    read: () => {},
    closed: (ending: Ending) => told.push(`closed ${ending}`),
  };
  return { stream, written, told, connection: overStream(2, stream, handler) };
}

const message = (body: string): string => `OPTIONS sip:a SIP/2.0\r\nl: ${body.length}\r\n\r\n${body}`;

describe('a stream', () => {
  it('gives the same messages and pongs, however it is cut', async () => {
    const unit = fc.oneof(
      fc.constant('\r\n'),
      fc.string({ maxLength: 40, unit: 'binary-ascii' }).map(message),
      fc.nat(9_000).map((n) => message('x'.repeat(n))),
    );
    const cuts = fc.array(fc.integer({ min: 1, max: 3_000 }), { minLength: 1, maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(fc.array(unit, { maxLength: 12 }), cuts, async (units, sizes) => {
        const { stream, told } = rig();
        const bytes = Buffer.from(units.join(''), 'latin1');
        for (let at = 0, n = 0; at < bytes.length; n++) {
          const size = sizes[n % sizes.length];
          stream.push(bytes.subarray(at, at + size));
          at += size;
          await new Promise(setImmediate);
        }
        expect(told).toEqual(units.map((text) => (text === '\r\n' ? 'pong' : text)));
      }),
      { numRuns: 60 },
    );
  });

  it('tells its end once, and nothing after it', async () => {
    const { stream, told } = rig();
    stream.push('\r\n');
    stream.push('\0');
    stream.push('\r\n');
    await new Promise(setImmediate);
    stream.destroy();
    await new Promise(setImmediate);
    expect(told).toEqual(['pong', 'closed malformed']);
  });

  it('writes what was sent before it closes', async () => {
    const { connection, written, told } = rig();
    connection.opened('127.0.0.1', 5060);
    connection.send(Buffer.from('bye'));
    connection.close();
    connection.send(Buffer.from('too late'));
    await new Promise(setImmediate);
    expect(Buffer.concat(written).toString()).toBe('bye');
    expect(told).toEqual(['opened']);
  });

  it('that its peer does not read is cut off', () => {
    const { connection, stream, told } = rig();
    stream._write = () => {}; // never done
    for (let n = 0; n < 20; n++) connection.send(Buffer.alloc(64 * 1024));
    expect(told).toEqual(['closed write-queue']);
  });
});
