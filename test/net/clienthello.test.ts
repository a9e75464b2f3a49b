import { once } from 'node:events';
import { createServer } from 'node:net';
import { connect } from 'node:tls';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { ClientHello, HELLO_MORE, HELLO_NAME, HELLO_NONE, MAX_HELLO } from '../../src/net/clienthello.ts';

const NAME = 'edge.example.test';
const hello = new ClientHello();

/** What is found in a copy, and the name. */
function found(octets: Buffer): [number, string] {
  const copy = Buffer.concat([Buffer.from('...'), octets, Buffer.from('...')]);
  const kind = hello.read(copy, 3, 3 + octets.length);
  return [kind, kind === HELLO_NAME ? copy.toString('latin1', hello.nameStart, hello.nameEnd) : ''];
}

/** The same message in records of this size. */
function inRecords(octets: Buffer, size: number): Buffer {
  const message = octets.subarray(5);
  const records: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) {
    const piece = message.subarray(at, at + size);
    records.push(Buffer.of(22, 3, 1, piece.length >> 8, piece.length & 255), piece);
  }
  return Buffer.concat(records);
}

/** The first octets that node:tls sends. */
async function firstOctets(options: object): Promise<Buffer> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const client = connect({ port, host: '127.0.0.1', ...options });
  client.on('error', () => {});
  const [socket] = await once(server, 'connection');
  let octets = Buffer.alloc(0);
  while (octets.length < 5 || octets.length < 5 + octets.readUInt16BE(3))
    octets = Buffer.concat([octets, (await once(socket, 'data'))[0] as Buffer]);
  client.destroy();
  socket.destroy();
  server.close();
  return octets;
}

describe('the server name in a ClientHello', () => {
  let named: Buffer;
  let unnamed: Buffer;
  beforeAll(async () => {
    named = await firstOctets({ servername: NAME });
    unnamed = await firstOctets({ servername: '' });
  });

  it('is found where there is one', () => {
    expect(found(named)).toEqual([HELLO_NAME, NAME]);
    expect(found(unnamed)).toEqual([HELLO_NONE, '']);
  });

  it('needs all of the message, in whatever records it comes', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 600 }), (size) => {
        const octets = inRecords(named, size);
        expect(found(octets)).toEqual([HELLO_NAME, NAME]);
        expect(found(octets.subarray(0, octets.length - 1))[0]).toBe(HELLO_MORE);
      }),
    );
  });

  it('is asked for again at every cut', () => {
    for (let n = 0; n < named.length; n++) expect(found(named.subarray(0, n))[0]).toBe(HELLO_MORE);
  });

  it('is none in what is no hello, and never looked for without end', () => {
    for (const text of ['OPTIONS sip:x SIP/2.0\r\n', '\r\n\r\n', '\0\0\0\0\0\0', '\x15\x03\x01\0\x02\x01\0'])
      expect(found(Buffer.from(text, 'latin1'))[0]).toBe(HELLO_NONE);
    const large = MAX_HELLO;
    expect(found(Buffer.of(22, 3, 1, 64, 0, 1, 0, large >> 8, large & 255))[0]).toBe(HELLO_MORE);
    expect(found(inRecords(Buffer.concat([Buffer.alloc(5), Buffer.of(1, 0, large >> 8, 0)]), 4))[0]).toBe(
      HELLO_NONE,
    );
  });

  it('comes out of broken octets as none or another name, without a throw or a look outside', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 20 }),
        (changes) => {
          const octets = Buffer.from(named);
          for (const [at, value] of changes) octets[at % octets.length] = value;
          const [kind] = found(octets);
          expect([HELLO_MORE, HELLO_NAME, HELLO_NONE]).toContain(kind);
          if (kind === HELLO_NAME) expect(hello.nameEnd).toBeLessThanOrEqual(3 + octets.length);
        },
      ),
    );
  });
});
