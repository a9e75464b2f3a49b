/** What every backend must do, shown on each that this machine has. */
import dgram from 'node:dgram';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import net from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Cause } from '../../src/shared/cause.ts';
import { Counter } from '../../src/shared/counters.ts';
import { NODE_OWNED_FD, PARTIAL_IN, UNDRAINED_OUT } from '../../src/shared/flow-record.ts';
import { MAX_BLOCK } from '../../src/shared/slab.ts';
import { hasIpv6, openDescriptors } from '../native/loopback.ts';
import { backends, endpoint, Reader, Rig, TCP4, TCP6, UDP4, UDP6, until } from './rig.ts';

const PIECE = 32 * 1024;

/** The i-th piece of an endless sequence in which no two places nearby look alike. */
function piece(i: number): Buffer {
  const bytes = Buffer.allocUnsafe(PIECE);
  for (let at = 0; at < PIECE; at += 4) bytes.writeUInt32LE((i * PIECE + at) >>> 0, at);
  return bytes;
}

function expectSequence(bytes: Buffer): void {
  for (let at = 0; at < bytes.length; at += 4)
    if (bytes.readUInt32LE(at) !== at) throw new Error(`octet ${at} is out of order`);
}

describe.each(backends)('the %s backend', (name) => {
  let rig: Rig;
  const clients: Array<{ close?: () => void; destroy?: () => void }> = [];

  const others: Rig[] = [];

  beforeEach(async () => {
    rig = await Rig.start(name);
  });

  afterEach(() => {
    for (const one of [rig, ...others.splice(0)]) one.stop();
    for (const client of clients.splice(0)) (client.destroy ?? client.close)?.call(client);
    expect(rig.on.log.filter((line) => line.endsWith('inside a call'))).toEqual([]);
  });

  async function udpClient(host: string): Promise<dgram.Socket> {
    const socket = dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4');
    clients.push(socket);
    socket.bind(0, host);
    await once(socket, 'listening');
    return socket;
  }

  async function connect(id = TCP4, deaf = false) {
    const connection = await rig.connect(id, deaf);
    clients.push(connection.client);
    return connection;
  }

  describe('datagrams', () => {
    const families: Array<[number, string]> = [
      [UDP4, '127.0.0.1'],
      [UDP6, '::1'],
    ];
    it.each(families.slice(0, hasIpv6 ? 2 : 1))(
      'tell their addresses and are answered (listener %i, %s)',
      async (id, host) => {
        const client = await udpClient(host);
        const answers: string[] = [];
        const sources: number[] = [];
        client.on('message', (message, rinfo) => {
          answers.push(message.toString());
          sources.push(rinfo.port);
        });
        const { address } = rig.listeners[id];
        rig.on.onDatagram = (from, bytes) => {
          const [start, end] = rig.place(`re ${bytes}`);
          rig.net.sendDatagram(id, from, undefined, start, end);
        };
        client.send('ping', address.port, host);
        await until(() => answers.length === 1, 'no answer');
        expect(rig.on.datagrams).toEqual([
          {
            listener: id,
            from: `${endpoint(host, client.address().port)}`,
            local: `${address}`,
            text: 'ping',
          },
        ]);
        expect(answers).toEqual(['re ping']);
        expect(sources).toEqual([address.port]);
      },
    );

    it('that are empty or as long as they can be arrive as they were sent', async () => {
      const client = await udpClient('127.0.0.1');
      const long = 'x'.repeat(65_507);
      client.send('', rig.listeners[UDP4].address.port, '127.0.0.1');
      client.send(long, rig.listeners[UDP4].address.port, '127.0.0.1');
      await until(() => rig.on.datagrams.length === 2, 'a datagram is missing');
      expect(rig.on.datagrams.map(({ text }) => text)).toEqual(['', long]);
    });

    it('of one turn go out together, each to its peer, in order', async () => {
      const peers = [await udpClient('127.0.0.1'), await udpClient('127.0.0.1')];
      const heard: string[][] = [[], []];
      for (const [i, peer] of peers.entries()) peer.on('message', (m) => heard[i].push(m.toString()));
      const expected = Array.from({ length: 150 }, (_, i) => `${i}`);
      for (const text of expected)
        for (const peer of peers) rig.sendDatagram(UDP4, endpoint('127.0.0.1', peer.address().port), text);
      await until(() => heard.every((list) => list.length === 150), 'a datagram is missing');
      expect(heard).toEqual([expected, expected]);
    });

    it('of a burst are all handed up unmixed', async () => {
      const client = await udpClient('127.0.0.1');
      const sent = Array.from({ length: 200 }, (_, i) => `${i} `.repeat(i));
      for (const text of sent) client.send(text, rig.listeners[UDP4].address.port, '127.0.0.1');
      await until(() => rig.on.datagrams.length === 200, 'a datagram is missing');
      expect(rig.on.datagrams.map(({ text }) => text).sort()).toEqual([...sent].sort());
    });

    it('to an address that nothing can be sent to are dropped and counted, and the next one goes out', async () => {
      const client = await udpClient('127.0.0.1');
      const heard = once(client, 'message');
      rig.sendDatagram(UDP4, endpoint('255.255.255.255', 9), 'lost');
      rig.sendDatagram(UDP4, endpoint('127.0.0.1', client.address().port), 'found');
      expect(`${(await heard)[0]}`).toBe('found');
      await until(() => rig.counters.sum(Counter.sendDropped) === 1, 'not counted');
    });
  });

  describe('a stream', () => {
    it('is opened with its addresses, on either family', async () => {
      for (const id of hasIpv6 ? [TCP4, TCP6] : [TCP4]) {
        const { client, slot } = await connect(id);
        const remote = endpoint('127.0.0.1', 0);
        rig.flows.readRemote(slot, remote);
        expect(`${remote}`).toBe(`${endpoint(client.localAddress as string, client.localPort as number)}`);
        expect(rig.net.isOpen(slot)).toBe(true);
        expect(rig.flows.has(slot, NODE_OWNED_FD)).toBe(name === 'core');
        expect(rig.flows.fd(slot) >= 0).toBe(name === 'ffi');
      }
    });

    it('keeps the bytes that are not used up and gives them again with more behind them', async () => {
      const { client, slot } = await connect();
      const seen: string[] = [];
      rig.on.use = (_slot, bytes) => {
        seen.push(bytes.toString());
        return bytes.lastIndexOf('\n') + 1;
      };
      for (const [text, sofar, partial] of [
        ['one\ntw', 'one\ntw', true],
        ['o', 'two', true],
        ['\n', 'two\n', false],
        ['three\nfour\nfi', 'three\nfour\nfi', true],
        ['ve\n', 'five\n', false],
      ] as const) {
        client.write(text);
        await until(() => seen.at(-1) === sofar, `${sofar} is not shown`);
        await rig.turned();
        expect(rig.flows.has(slot, PARTIAL_IN)).toBe(partial);
      }
      expect(rig.on.text(slot)).toBe('one\ntwo\nthree\nfour\nfive\n');
      expect(rig.net.arena.slabs.inUse).toBe(0);
    });

    it('carries two peers at once without mixing their unfinished messages', async () => {
      const both = [await connect(), await connect()];
      rig.on.use = (_slot, bytes) => bytes.lastIndexOf('\n') + 1;
      for (let i = 0; i < 40; i++)
        for (const [k, { client }] of both.entries()) client.write(`${k}${i % 5 === 4 ? '\n' : '.'}`);
      for (const [k, { slot }] of both.entries()) {
        const text = `${k}.${k}.${k}.${k}.${k}\n`.repeat(8);
        await until(() => rig.on.text(slot).length === text.length, 'bytes are missing');
        expect(rig.on.text(slot)).toBe(text);
      }
    });

    it('collects a message of 100 kB that comes in small pieces', async () => {
      const { client, slot } = await connect();
      const whole = Buffer.concat([piece(0), piece(1), piece(2), piece(3)]).subarray(0, 100_000);
      rig.on.use = (_slot, bytes) => (bytes.length === whole.length ? bytes.length : 0);
      client.setNoDelay(true);
      for (let at = 0; at < whole.length; at += 313) {
        client.write(whole.subarray(at, at + 313));
        if (at % 10 === 0) await new Promise(setImmediate);
      }
      await until(() => rig.on.text(slot).length > 0, 'the message is not used up');
      expect(rig.on.text(slot)).toBe(whole.toString('latin1'));
      expect(rig.net.arena.slabs.inUse).toBe(0);
    });

    it('ends with TOO_LARGE when a message outgrows the largest block', async () => {
      const { client, slot } = await connect();
      rig.on.use = () => 0;
      client.write(Buffer.alloc(MAX_BLOCK + 1));
      await until(() => rig.on.closes.length > 0, 'not closed');
      expect(rig.on.closes).toEqual([{ slot, cause: Cause.TOO_LARGE }]);
      expect(rig.net.arena.slabs.inUse).toBe(0);
    });

    it('sends what one turn queues in order, from several places of the out region', async () => {
      const { client, slot } = await connect();
      const other = await connect();
      const reader = new Reader(client);
      const otherReader = new Reader(other.client);
      for (let i = 0; i < 500; i++) {
        rig.send(slot, `a${i};`);
        if (i % 3 === 0) rig.send(other.slot, `b${i};`);
      }
      const text = Array.from({ length: 500 }, (_, i) => `a${i};`).join('');
      await until(() => reader.length === text.length && otherReader.length > 0, 'bytes are missing');
      expect(reader.text).toBe(text);
      expect(otherReader.text.startsWith('b0;b3;b6;')).toBe(true);
    });

    it('keeps output for a peer that does not read, and loses no octet of it when it reads again', async () => {
      const { client, slot } = await connect();
      client.pause();
      let pieces = 0;
      while (rig.on.backlogs.length === 0 && pieces < 2_000) {
        expect(rig.send(slot, piece(pieces++))).toBe(true);
        await rig.turned();
      }
      for (let i = 0; i < 4; i++) {
        expect(rig.send(slot, piece(pieces++))).toBe(true);
        await rig.turned();
      }
      expect(rig.flows.has(slot, UNDRAINED_OUT)).toBe(true);
      expect(rig.on.backlogs.at(-1)).toBeGreaterThan(4 * PIECE);
      const reader = new Reader(client);
      client.resume();
      await until(() => reader.length === pieces * PIECE, 'bytes are missing');
      expectSequence(Buffer.concat(reader.chunks));
      await until(() => rig.on.backlogs.at(-1) === 0, 'the end of the backlog is not told');
      expect(rig.flows.has(slot, UNDRAINED_OUT)).toBe(false);
      expect(rig.net.arena.slabs.inUse).toBe(0);
      expect(rig.on.closes).toEqual([]);
    });

    it('is closed once, with WRITE_QUEUE, when its peer reads nothing and more is sent', async () => {
      const { client, slot } = await connect();
      client.pause();
      for (let i = 0; rig.on.closes.length === 0 && i < 2_000; i++) {
        rig.send(slot, piece(i));
        await rig.turned();
      }
      await rig.turned();
      expect(rig.on.closes).toEqual([{ slot, cause: Cause.WRITE_QUEUE }]);
      expect(Math.max(...rig.on.backlogs)).toBeLessThanOrEqual(MAX_BLOCK + 64 * 1024);
      expect(rig.counters.sum(Counter.writeQueueOverflow)).toBe(1);
      expect(rig.send(slot, 'more')).toBe(false);
      expect(rig.net.isOpen(slot)).toBe(false);
      expect(rig.net.arena.slabs.inUse).toBe(0);
    });

    it('that is closed by its reader gives no more bytes, and `closed` comes after the call', async () => {
      const { client, slot } = await connect();
      const reader = new Reader(client);
      rig.on.use = (s, bytes) => {
        rig.net.close(s, Cause.MALFORMED, false);
        rig.net.close(s, Cause.ADMIN, false);
        return bytes.length;
      };
      client.write('junk');
      await until(() => rig.on.closes.length > 0 && reader.ended, 'not closed');
      expect(rig.on.closes).toEqual([{ slot, cause: Cause.MALFORMED }]);
      expect(rig.on.log.filter((line) => line === 'bytes')).toHaveLength(1);
    });

    it('that its owner closes sends its last bytes and FIN although the peer is still sending', async () => {
      const { client, slot } = await connect();
      const reader = new Reader(client);
      let sending = true;
      const pour = () => {
        if (sending) client.write(piece(0), pour);
      };
      pour();
      await until(() => (rig.on.input.get(slot)?.length ?? 0) > 2, 'no input');
      const last = Buffer.concat([piece(0), piece(1), piece(2)]);
      rig.send(slot, last.subarray(0, PIECE));
      rig.send(slot, last.subarray(PIECE));
      rig.close(slot, Cause.SHUTDOWN, true);
      expect(rig.send(slot, 'too late')).toBe(false);
      await until(() => reader.ended, 'no FIN');
      expect(reader.error).toBe('');
      expect(Buffer.concat(reader.chunks).equals(last)).toBe(true);
      expect(rig.on.closes).toEqual([]);
      sending = false;
      client.end();
      await until(() => rig.on.closes.length > 0, 'not closed');
      expect(rig.on.closes).toEqual([{ slot, cause: Cause.SHUTDOWN }]);
    });

    it('drains a backlog before its FIN', async () => {
      const { client, slot } = await connect();
      client.pause();
      let pieces = 0;
      while (rig.on.backlogs.length === 0 && pieces < 2_000) {
        rig.send(slot, piece(pieces++));
        await rig.turned();
      }
      rig.close(slot, Cause.SHUTDOWN, true);
      await rig.turned();
      expect(rig.on.closes).toEqual([]);
      const reader = new Reader(client);
      client.resume();
      await until(() => reader.ended, 'no FIN');
      expect(reader.length).toBe(pieces * PIECE);
      expectSequence(Buffer.concat(reader.chunks));
    });

    it('whose peer never sends its FIN is gone a second after ours', async () => {
      const { client, slot } = await connect();
      const reader = new Reader(client);
      rig.send(slot, 'bye');
      rig.close(slot, Cause.SHUTDOWN, true);
      await until(() => reader.ended, 'no FIN');
      expect(rig.on.closes).toEqual([]);
      rig.skew += 1_001;
      await rig.turned();
      await until(() => rig.on.closes.length > 0, 'not closed');
      expect(rig.on.closes).toEqual([{ slot, cause: Cause.SHUTDOWN }]);
      expect(reader.text).toBe('bye');
    });

    it('whose peer sends its FIN is answered still, then closed', async () => {
      const { client, slot } = await connect();
      const reader = new Reader(client);
      rig.on.use = (s, bytes) => {
        const [start, end] = rig.place(`re ${bytes}`);
        rig.net.sendStream(s, start, end);
        return bytes.length;
      };
      client.end('question');
      await until(() => reader.ended && rig.on.closes.length > 0, 'not closed');
      expect(reader.text).toBe('re question');
      expect(reader.error).toBe('');
      expect(rig.on.closes).toEqual([{ slot, cause: Cause.PEER_CLOSED }]);
    });

    it('that its peer resets ends with RESET', async () => {
      const { client, slot } = await connect();
      client.write('x');
      await until(() => rig.on.text(slot) === 'x', 'no input');
      client.resetAndDestroy();
      await until(() => rig.on.closes.length > 0, 'not closed');
      expect(rig.on.closes).toEqual([{ slot, cause: Cause.RESET }]);
    });

    it('whose peer has reset it tells what was queued on it since, whoever notices first', async () => {
      for (const within of [false, true]) {
        const { client, slot } = await connect();
        const other = await connect();
        const reader = new Reader(other.client);
        rig.on.onUnsent = (bytes) => {
          const [start, end] = rig.place(`lost ${bytes};`);
          rig.net.sendStream(other.slot, start, end);
        };
        rig.on.closes.length = 0;
        rig.on.unsents.length = 0;
        const break_ = () => {
          client.resetAndDestroy();
          const ranges = ['one', 'gap', 'two'].map((text) => rig.place(text));
          for (const [start, end] of [ranges[0], ranges[2]]) rig.net.sendStream(slot, start, end);
        };
        let done = false;
        if (within)
          rig.on.onTurn = () => {
            if (!done) break_();
            done = true;
          };
        else break_();
        rig.net.wake();
        await until(() => rig.on.closes.length > 0 && reader.length > 0, 'not told');
        expect(rig.on.unsents).toEqual(['one', 'two']);
        expect(reader.text).toBe('lost one;lost two;');
        expect(rig.on.closes).toEqual([{ slot, cause: Cause.RESET }]);
        expect(rig.on.log.lastIndexOf('unsent')).toBeLessThan(rig.on.log.lastIndexOf('closed'));
      }
    });

    it('whose peer resets it while it drains ends with the cause that it was closed for', async () => {
      const { client, slot } = await connect();
      client.pause();
      for (let i = 0; rig.on.backlogs.length === 0 && i < 2_000; i++) {
        rig.send(slot, piece(i));
        await rig.turned();
      }
      rig.close(slot, Cause.SHUTDOWN, true);
      await rig.turned();
      client.resetAndDestroy();
      await until(() => rig.on.closes.length > 0, 'not closed');
      expect(rig.on.closes).toEqual([{ slot, cause: Cause.SHUTDOWN }]);
    });

    it('that a timer ends may have another one told of it at once', async () => {
      const { client, slot } = await connect();
      const reader = new Reader(client);
      // This thread is the client's too: it is not to sleep once the client has what it waits for.
      client.on('data', () => rig.net.wake());
      const others: number[] = [];
      for (let i = 0; i < 12; i++) others.push((await connect(TCP4, true)).slot);
      rig.on.onClosed = () => {
        const [start, end] = rig.place('430');
        rig.net.sendStream(slot, start, end);
      };
      rig.on.onTurn = () => {
        if (rig.now() < rig.on.nextTimer) return;
        rig.on.nextTimer = Number.POSITIVE_INFINITY;
        rig.net.close(others.pop() as number, Cause.EXPIRED, false);
      };
      // Were that left for the next event, each of these would take the longest wait of the loop.
      for (let i = 1; i <= 12; i++) {
        rig.on.nextTimer = rig.now() + 20;
        rig.net.wake();
        await until(() => reader.length === 3 * i, 'nothing comes');
      }
      expect(rig.on.closes).toHaveLength(12);
    });
  });

  describe('a dial', () => {
    async function server() {
      const made = net.createServer();
      clients.push(made);
      const sockets: net.Socket[] = [];
      made.on('connection', (socket) => {
        sockets.push(socket);
        clients.push(socket);
      });
      made.listen(0, '127.0.0.1');
      await once(made, 'listening');
      return { sockets, port: (made.address() as net.AddressInfo).port, close: () => made.close() };
    }

    it('connects, and what was sent meanwhile arrives first', async () => {
      const { sockets, port } = await server();
      const to = endpoint('127.0.0.1', port);
      const slot = rig.claim(TCP4, to);
      expect(rig.net.dial(slot, to)).toBe(0);
      expect(rig.net.isOpen(slot)).toBe(true);
      expect(rig.send(slot, 'early ')).toBe(true);
      await until(() => rig.on.connects.length > 0 && sockets.length > 0, 'not connected');
      const reader = new Reader(sockets[0]);
      rig.send(slot, 'late');
      await until(() => reader.length === 10, 'bytes are missing');
      expect(reader.text).toBe('early late');
      expect(rig.on.connects).toEqual([{ slot, error: 0 }]);
      expect(rig.flows.localPort(slot)).toBe(sockets[0].remotePort);
      sockets[0].write('back');
      await until(() => rig.on.text(slot) === 'back', 'nothing comes back');
    });

    it('leaves from the address that it is told to, by any port', async () => {
      const { sockets, port } = await server();
      const to = endpoint('127.0.0.1', port);
      const slots = [rig.claim(TCP4, to), rig.claim(TCP4, to)];
      for (const slot of slots) rig.net.dial(slot, to, undefined, endpoint('127.0.0.77', 0));
      await until(() => rig.on.connects.length > 1 && sockets.length > 1, 'not connected');
      expect(sockets.map(({ remoteAddress }) => remoteAddress)).toEqual(['127.0.0.77', '127.0.0.77']);
      expect(new Set(sockets.map(({ remotePort }) => remotePort)).size).toBe(2);
      for (const slot of slots) rig.send(slot, 'bytes');
      for (const socket of sockets) {
        const reader = new Reader(socket);
        await until(() => reader.length === 5, 'bytes are missing');
      }
    });

    it('from an address that is none of ours fails', async () => {
      const { port } = await server();
      const to = endpoint('127.0.0.1', port);
      const slot = rig.claim(TCP4, to);
      if (rig.net.dial(slot, to, undefined, endpoint('192.0.2.1', 0)) !== 0) return; // at once
      await until(() => rig.on.closes.length > 0, 'not closed');
      expect(rig.on.connects).toEqual([{ slot, error: 99 }]);
      expect(rig.on.closes).toEqual([{ slot, cause: Cause.CONNECT_FAILED }]);
    });

    it('that is refused says so, and then that it is closed', async () => {
      const { port, close } = await server();
      close();
      const to = endpoint('127.0.0.1', port);
      const slot = rig.claim(TCP4, to);
      expect(rig.net.dial(slot, to)).toBe(0);
      rig.send(slot, 'ear');
      rig.send(slot, 'ly');
      await until(() => rig.on.closes.length > 0, 'not closed');
      expect(rig.on.unsents).toEqual(['early']);
      expect(rig.on.connects).toEqual([{ slot, error: 111 }]);
      expect(rig.on.closes).toEqual([{ slot, cause: Cause.CONNECT_FAILED }]);
      expect(rig.on.log.filter((line) => /connected|unsent|closed/.test(line))).toEqual([
        'connected',
        'unsent',
        'closed',
      ]);
      expect(rig.net.arena.slabs.inUse).toBe(0);
    });

    it('that is given up before it connects is only closed', async () => {
      const { port } = await server();
      const to = endpoint('127.0.0.1', port);
      const slot = rig.claim(TCP4, to);
      rig.net.dial(slot, to);
      rig.close(slot, Cause.ADMIN, true);
      await until(() => rig.on.closes.length > 0, 'not closed');
      await rig.turned();
      expect(rig.on.closes).toEqual([{ slot, cause: Cause.ADMIN }]);
      expect(rig.on.connects).toEqual([]);
    });
  });

  describe('the loop', () => {
    it('turns at the time that the last turn asked for', async () => {
      let due = 0;
      rig.on.nextTimer = rig.now() + 10;
      rig.on.onTurn = () => {
        if (rig.now() < rig.on.nextTimer) return;
        due++;
        rig.on.nextTimer = due < 150 ? rig.now() + 1 : Number.POSITIVE_INFINITY;
      };
      rig.net.wake();
      // Were the times not kept, 150 of them would take 150 of the longest waits.
      await until(() => due === 150, 'a timer is missed');
    });

    it('does not wait while the handler has work', async () => {
      let work = 30;
      rig.on.canRest = () => {
        if (--work === 0) rig.net.wake();
        return work <= 0;
      };
      rig.net.wake();
      await until(() => work <= 0, 'it waits');
    });

    it('writes what a turn queues', async () => {
      const { client, slot } = await connect();
      const reader = new Reader(client);
      rig.on.onTurn = () => {
        const [start, end] = rig.place('x');
        if (reader.length < 3) rig.net.sendStream(slot, start, end);
      };
      rig.net.wake();
      await until(() => reader.length > 0, 'nothing comes');
    });
  });

  it('closes each descriptor once when a turn stops it with streams about to be closed', async () => {
    const other = await Rig.start(name);
    others.push(other);
    const { client, slot } = await other.connect();
    const mine: number[] = [];
    other.on.onTurn = () => {
      if (mine.length > 0) return;
      other.net.close(slot, Cause.ADMIN, false);
      other.stop();
      // These get the numbers that were closed, and lose them if they are closed again.
      for (let i = 0; i < 16; i++) mine.push(openSync('/dev/null', 'r'));
    };
    other.net.wake();
    await until(() => mine.length > 0, 'no turn comes');
    const { turns } = other.on;
    for (let i = 0; i < 5; i++) await new Promise(setImmediate);
    for (const fd of mine) closeSync(fd);
    expect(other.on.closes).toEqual([]);
    expect(other.on.turns).toBe(turns);
    client.destroy();
  });

  it('closes all it has when it stops', async () => {
    const started = openDescriptors().length;
    const other = await Rig.start(name);
    others.push(other);
    const server = net.createServer((socket) => socket.resume());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const sockets = [];
    for (let i = 0; i < 5; i++) sockets.push((await other.connect()).client);
    const to = endpoint('127.0.0.1', (server.address() as net.AddressInfo).port);
    const slot = other.claim(TCP4, to);
    other.net.dial(slot, to);
    await until(() => other.on.connects.length === 1, 'not connected');
    other.close(slot, Cause.ADMIN, false);
    expect(openDescriptors().length).toBeGreaterThan(started + 5);
    other.stop();
    for (const socket of sockets) socket.destroy();
    server.close();
    await until(() => openDescriptors().length <= started, 'a descriptor is left');
    expect(other.flows.fd(slot)).toBe(-1);
    expect(other.on.closes).toEqual([]);
  });
});
