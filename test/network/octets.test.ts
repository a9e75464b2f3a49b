/**
 * A byte stream as networks and strangers deliver it: cut anywhere, glued in any way, too long, or no
 * SIP at all. Each connection is answered or closed with a cause, and the server's memory is as before.
 */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freshHost } from '../harness/ports.ts';
import { isStatus, optionsText as optionsTo, registerText, TcpWire } from './crowd.ts';
import { pause, Watched } from './watched.ts';

const PING = '\r\n\r\n';
const MIB = 1 << 20;

const optionsText = (wire: TcpWire, callId: string) =>
  optionsTo(wire, callId, `sip:${server.address.host}:${server.address.port}`);

let server: Watched;

beforeAll(async () => {
  server = await Watched.start({
    settings: { DOMAINS: 'example.test', STORE: 'memory:', MAX_FLOWS: '2048', LOG: 'error' },
    lean: true,
  });
});
afterAll(() => server?.stop());

/** Opens a connection, lets `use` have it, and closes it. */
async function connection<T>(use: (wire: TcpWire) => Promise<T>, host = freshHost()): Promise<T> {
  const wire = await TcpWire.open(server.address, host);
  try {
    return await use(wire);
  } finally {
    wire.close();
    await wire.gone;
  }
}

/** The status of the answer, or the cause of the end. */
const outcome = (wire: TcpWire, bytes: string | Buffer): Promise<number | string> =>
  new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error('neither answered nor closed in 8 s')), 8_000);
    let answered = false;
    wire.onText = (text) => {
      if (!text.startsWith('SIP/2.0 ')) return;
      clearTimeout(late);
      answered = true;
      resolve(Number(text.slice(8, 11)));
    };
    void wire.gone.then(() => {
      clearTimeout(late);
      if (answered) return; // the server may be gone as well by the time that it is asked
      server.causeOf(wire.hostPort).then(resolve, reject);
    });
    wire.send(bytes);
  });

describe('one message cut in two', () => {
  it('at every octet is answered all the same [3261-18.3-01 EP-5.4-03]', async () => {
    const length = await connection(async (wire) => registerText(wire, 1).length);
    const host = freshHost();
    const cutAt = (cut: number) =>
      connection(async (wire) => {
        const text = PING + registerText(wire, cut) + PING;
        let pongs = 0;
        wire.onText = (t) => {
          if (t === '\r\n') pongs++;
        };
        const ok = wire.next(isStatus(200));
        wire.send(text.slice(0, cut));
        await pause(20);
        wire.send(text.slice(cut));
        await ok;
        for (let i = 0; i < 100 && pongs < 2; i++) await pause(5);
        return pongs;
      }, host);
    for (let cut = 1; cut < length + 8; cut += 100) {
      const cuts = Array.from({ length: Math.min(100, length + 8 - cut) }, (_, i) => cut + i);
      for (const pongs of await Promise.all(cuts.map(cutAt))) expect(pongs).toBe(2);
    }
  });

  it('at every octet at once, one by one, is answered, and so is what follows', async () => {
    await connection(async (wire) => {
      for (const text of [registerText(wire, 1), optionsText(wire, 'second')]) {
        const ok = wire.next(isStatus(200));
        for (const octet of text) {
          wire.send(octet);
          await pause(0);
        }
        await ok;
      }
    });
  });
});

describe('messages glued together', () => {
  const body = 'body with\r\n\r\nempty lines\r\n\r\n';
  const units = (wire: TcpWire): string[] => [
    PING,
    registerText(wire, 1),
    '\r\n',
    optionsText(wire, 'empty'),
    optionsText(wire, 'bodied').replace('Content-Length: 0\r\n\r\n', `l: ${body.length}\r\n\r\n${body}`),
  ];

  function* permutations<T>(list: T[]): Generator<T[]> {
    if (list.length < 2) yield list;
    for (const [i, first] of list.entries())
      for (const rest of permutations(list.toSpliced(i, 1))) yield [first, ...rest];
  }

  it('in every order are each answered once, whole or cut in the middle [3261-18.3-01 3261-7.5-01 EP-5.4-03]', async () => {
    const host = freshHost();
    const orders = [...permutations([0, 1, 2, 3, 4])];
    await Promise.all(
      orders.map((order, k) =>
        connection(async (wire) => {
          const all = units(wire);
          const text = order.map((i) => all[i]).join('');
          const seen = { pongs: 0, ok: 0, other: 0 };
          wire.onText = (t) => {
            if (t === '\r\n') seen.pongs++;
            else if (isStatus(200)(t)) seen.ok++;
            else seen.other++;
          };
          const middle = k % 2 === 0 ? text.length : Math.floor(text.length / 2) + (k % 40);
          wire.send(text.slice(0, middle));
          await pause(k % 2 === 0 ? 0 : 20);
          wire.send(text.slice(middle));
          for (let i = 0; i < 400 && seen.ok + seen.pongs < 4; i++) await pause(5);
          await pause(5);
          expect(seen).toEqual({ pongs: 1, ok: 3, other: 0 });
        }, host),
      ),
    );
  });

  it('two hundred in one write are two hundred answers', async () => {
    await connection(async (wire) => {
      let count = 0;
      wire.onText = (t) => {
        if (isStatus(200)(t)) count++;
      };
      wire.send(Array.from({ length: 200 }, (_, i) => optionsText(wire, `glued-${i}`)).join(''));
      for (let i = 0; i < 400 && count < 200; i++) await pause(5);
      expect(count).toBe(200);
    });
  });
});

const withLength = (wire: TcpWire, ...lines: string[]) =>
  optionsText(wire, 'length').replace('Content-Length: 0\r\n', lines.map((l) => `${l}\r\n`).join(''));

/** What is sent, and what has to come of it: a status or a cause. */
const BAD: [name: string, expected: (number | string)[], bytes: (wire: TcpWire) => string | Buffer][] = [
  [
    '1 MB of random octets',
    ['malformed', 'too-large', 'reset'],
    () => Buffer.concat([Buffer.from([1]), randomBytes(MIB)]),
  ],
  ['1 MB of NUL', ['malformed', 'too-large', 'reset'], () => Buffer.alloc(MIB)],
  ['1 MB of letters in one line', ['malformed', 'too-large', 'reset'], () => 'a'.repeat(MIB)],
  [
    '1 MB of lines that are no headers',
    ['malformed', 'too-large', 'reset'],
    () => 'some text\r\n'.repeat(MIB / 11),
  ],
  ['an HTTP request', ['malformed', 400, 505], () => 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'],
  [
    'a TLS hello',
    ['malformed', 'too-large'],
    () => Buffer.concat([Buffer.from('16030100c8010000c40303', 'hex'), randomBytes(300)]),
  ],
  [
    'a header of 64 KiB',
    ['too-large', 'reset', 400, 513],
    (wire) => withLength(wire, `Subject: ${'x'.repeat(1 << 16)}`, 'Content-Length: 0'),
  ],
  [
    '64 KiB of headers',
    ['too-large', 'reset', 400, 513],
    (wire) =>
      withLength(wire, ...Array(2_000).fill('X-Header: abcdefghijklmnopqrstuvwxyz'), 'Content-Length: 0'),
  ],
  ['a negative Content-Length', [400], (wire) => withLength(wire, 'Content-Length: -1')],
  ['a Content-Length of letters', [400], (wire) => withLength(wire, 'Content-Length: many')],
  [
    'a Content-Length above 2^53',
    [400, 513],
    (wire) => withLength(wire, 'Content-Length: 99999999999999999999'),
  ],
  ['a Content-Length above the limit', [513], (wire) => withLength(wire, 'Content-Length: 300000')],
  [
    'two Content-Lengths that differ',
    [400],
    (wire) => `${withLength(wire, 'Content-Length: 5', 'Content-Length: 0')}hello`,
  ],
  ['no Content-Length', [400], (wire) => withLength(wire)],
];

describe('a stream that no framing can be found in', () => {
  it.each(BAD)('%s: %j, and the connection is closed', async (_name, expected, bytes) => {
    await connection(async (wire) => {
      expect(expected).toContain(await outcome(wire, bytes(wire)));
      await wire.gone;
      expect(await server.causeOf(wire.hostPort)).toMatch(/^(malformed|too-large|reset)$/);
    });
    await connection(async (wire) => expect(await outcome(wire, optionsText(wire, 'after'))).toBe(200));
  });

  it('a Content-Length that is too small leaves junk behind: the message is answered, the rest ends the connection', async () => {
    await connection(async (wire) => {
      expect(await outcome(wire, `${withLength(wire, 'Content-Length: 2')}hello, world`)).toBe(200);
      wire.send(`${PING}\r\nmore\r\n\r\n`);
      await wire.gone;
      expect(await server.causeOf(wire.hostPort)).toMatch(/malformed|reset/);
    });
  });

  it('a NUL in a header value or in a body is not taken for an end', async () => {
    await connection(async (wire) => {
      const nul = optionsText(wire, 'nul').replace('Max-Forwards', 'Subject: a\0b\r\nMax-Forwards');
      expect([200, 400]).toContain(await outcome(wire, nul));
    });
    await connection(async (wire) => {
      expect(await outcome(wire, `${withLength(wire, 'Content-Length: 3')}a\0b`)).toBe(200);
      expect(await outcome(wire, optionsText(wire, 'next'))).toBe(200);
    });
  });

  it('1 MB of CRLF is so many keep-alives, each answered, and the connection stays [EP-5.4-02]', async () => {
    await connection(async (wire) => {
      const pings = MIB / 4;
      let pongs = 0;
      wire.onText = () => pongs++;
      wire.send(Buffer.alloc(MIB, PING));
      for (let i = 0; i < 1_000 && pongs < pings; i++) await pause(5);
      expect(pongs).toBe(pings);
      expect(await outcome(wire, optionsText(wire, 'after'))).toBe(200);
    });
  });
});

it('all of that over and over leaves no record, no descriptor and no memory behind', async () => {
  const round = async () => {
    const host = freshHost();
    for (const [, , bytes] of BAD)
      for (let i = 0; i < 6; i++) await connection((wire) => outcome(wire, bytes(wire)), host);
    // and half messages of every size, given up by the client
    for (const size of [1, 100, 3_000, 10_000, 60_000, 200_000])
      await connection(async (wire) => {
        wire.send(withLength(wire, 'Content-Length: 250000') + 'x'.repeat(size));
        await pause(5);
      }, host);
  };
  const idle = await server.stateBecomes((s) => s.used === 0);
  const descriptors = server.descriptors();
  await round();
  await round();
  const memory = await server.memory();
  for (let i = 0; i < 3; i++) await round();
  expect((await server.stateBecomes((s) => s.used === 0)).owned).toEqual(idle.owned);
  expect(await server.descriptorsBecome(descriptors)).toBe(descriptors);
  expect(await server.memory()).toBeLessThan(memory * 1.1);
}, 60_000);
