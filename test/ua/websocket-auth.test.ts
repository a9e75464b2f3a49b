/**
 * A server of HTTP that wants to know who is there before it opens a WebSocket: 401 and Digest (RFC 6455 4.1, RFC 7235,
 * RFC 7616). The server is Node's; it checks what is proven with node:crypto and not with the code under test.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import type { TlsOptions } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { passwordAccount } from '../../src/auth/client.ts';
import { Endpoint } from '../../src/net/endpoint.ts';
import { Agent } from '../harness/agent.ts';
import { Authority } from '../harness/certificates.ts';
import { type Algorithm, ha1, parameter } from '../harness/digest.ts';
import { arrivalOf } from '../harness/inbox.ts';
import { Desk, registered } from '../harness/phone.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { accepting, WsConnection } from '../harness/websocket-edge.ts';

const REALM = 'web.example.test';
const HASHES: Record<Algorithm, string> = { 'SHA-512-256': 'sha512-256', 'SHA-256': 'sha256', MD5: 'md5' };

interface GuardOptions {
  algorithm: Algorithm;
  user: string;
  password: string;
  /** what a 401 looks like on the wire; `response` has the challenges set. Default: text with its length */
  refuse: (response: ServerResponse, request: IncomingMessage) => void;
  /** values of WWW-Authenticate around or in place of the one that can be answered */
  challenges: (digest: string) => string | string[];
  /** the nonce of an answer is too old this many times */
  stale: number;
  tls: TlsOptions | undefined;
}

const withLength = (response: ServerResponse): void => {
  response.end('who is there?\r\n\r\n');
};

class Guard extends Agent {
  readonly transport: 'WS' | 'WSS';
  /** Authorization of each request */
  readonly asked: (string | undefined)[] = [];
  readonly keys: (string | undefined)[] = [];
  connections = 0;
  private readonly server: Server;
  private readonly options: GuardOptions;
  private readonly opened: WsConnection[] = [];
  private readonly sockets = new Set<Socket>();
  private nonce = 'n0nc3-0';

  private constructor(server: Server, options: GuardOptions) {
    const { address, port } = server.address() as AddressInfo;
    super('guarded edge', address, port);
    this.transport = options.tls ? 'WSS' : 'WS';
    this.server = server;
    this.options = options;
    server.on(options.tls ? 'secureConnection' : 'connection', (socket: Socket) => {
      this.connections++;
      this.sockets.add(socket);
      socket.once('close', () => this.sockets.delete(socket));
    });
    server.on('upgrade', (request: IncomingMessage, socket: Socket) => this.let(request, socket));
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      const { asked } = this;
      // one that is asked anew has proven that it can answer: only the nonce is old
      const stale = asked.at(-1) !== undefined && asked.length - 1 <= options.stale;
      this.nonce = `n0nc3-${asked.length}`;
      const digest =
        `Digest realm="${REALM}", nonce="${this.nonce}", algorithm=${options.algorithm}, qop="auth", ` +
        `opaque="0pa\\"que"${stale ? ', stale=TRUE' : ''}`;
      response.statusCode = 401;
      response.setHeader('WWW-Authenticate', options.challenges(digest));
      options.refuse(response, request);
    });
  }

  static async open(desk: Desk, some: Partial<GuardOptions> = {}): Promise<Guard> {
    const options: GuardOptions = {
      algorithm: 'SHA-256',
      user: 'dora',
      password: 'tin-whistle-42',
      refuse: withLength,
      challenges: (digest) => digest,
      stale: 0,
      tls: undefined,
      ...some,
    };
    let guard: Guard | undefined;
    const rules = { shouldUpgradeCallback: (request: IncomingMessage) => guard?.admits(request) ?? false };
    const server = options.tls ? createSecureServer({ ...rules, ...options.tls }) : createServer(rules);
    const host = freshHost();
    server.listen({ host, port: await freePort(host), exclusive: true });
    await once(server, 'listening');
    guard = new Guard(server, options);
    return desk.keep(guard);
  }

  private admits({ headers, method = '', url }: IncomingMessage): boolean {
    const { authorization } = headers;
    this.asked.push(authorization);
    this.keys.push(headers['sec-websocket-key']);
    if (authorization === undefined || this.asked.length - 1 <= this.options.stale) return false;
    const { algorithm, user, password } = this.options;
    const said = (name: string) => parameter(authorization, name) ?? '';
    const hex = (text: string) => createHash(HASHES[algorithm]).update(text).digest('hex');
    const counted = `${said('nc')}:${said('cnonce')}:${said('qop')}`;
    const proof = hex(
      `${ha1(algorithm, user, REALM, password)}:${this.nonce}:${counted}:${hex(`${method}:${url}`)}`,
    );
    return (
      authorization.startsWith('Digest ') &&
      said('username') === Buffer.from(user, 'utf8').toString('latin1') &&
      said('realm') === REALM &&
      said('nonce') === this.nonce &&
      said('uri') === url &&
      said('response') === proof &&
      /^[0-9a-f]{24}$/.test(said('cnonce')) &&
      authorization.includes(', opaque="0pa\\"que"')
    );
  }

  /** From here on it is a WebSocket; the octets of the request are gone, so it is written down again. */
  private let(request: IncomingMessage, socket: Socket): void {
    const from = { host: socket.remoteAddress as string, port: socket.remotePort as number };
    const connection = new WsConnection(
      socket,
      () => {},
      (to, payload, opcode) =>
        this.deliver({ ...arrivalOf(payload, from, (bytes) => to.send(bytes)), opcode }),
    );
    connection.request = `GET ${request.url} HTTP/1.1\r\nSec-WebSocket-Key: ${request.headers['sec-websocket-key']}\r\n\r\n`;
    this.opened.push(connection);
    socket.write(accepting(connection.request));
    socket.resume();
  }

  send(bytes: Buffer): void {
    this.opened.at(-1)?.send(bytes);
  }

  async probe(): Promise<void> {
    throw new Error(`${this.name}: a client answers no probe`);
  }

  async close(): Promise<void> {
    this.abandon('closed');
    for (const socket of this.sockets) socket.destroy();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }
}

const desk = new Desk();
afterEach(() => desk.close());

const password = 'tin-whistle-42';
const count = (authorization: string | undefined) => parameter(authorization ?? '', 'nc');

describe('a 401 to the request for a WebSocket', () => {
  it.each<Algorithm>(['SHA-256', 'MD5', 'SHA-512-256'])(
    'is answered by the digest of the account, %s, over the same connection, behind its body',
    async (algorithm) => {
      const edge = await Guard.open(desk, { algorithm });
      await registered(desk.phone([edge], { password, webSocketPath: '/sip?line=2,b' }), edge);
      expect(edge.asked.map(count)).toEqual([undefined, '00000001']);
      expect(edge.connections).toBe(1);
      expect(new Set(edge.keys).size).toBe(2);
    },
  );

  it('whose body comes in pieces is read to its end before anything is said', async () => {
    let early: boolean | undefined;
    const edge = await Guard.open(desk, {
      refuse: async (response) => {
        response.setHeader('Content-Length', '30');
        for (let piece = 0; piece < 2; piece++) {
          response.write('0123456789');
          for (let turns = 0; turns < 20; turns++) await setImmediate();
        }
        early = edge.asked.length > 1;
        response.end('9876543210');
      },
    });
    await registered(desk.phone([edge], { password }), edge);
    expect(early).toBe(false);
    expect(edge.connections).toBe(1);
  });

  it('may come octet by octet', async () => {
    const edge = await Guard.open(desk, {
      refuse: async (response, { socket }) => {
        const challenge = response.getHeader('WWW-Authenticate');
        response.detachSocket(socket);
        const text = `HTTP/1.1 401 No\r\nWWW-Authenticate: ${challenge}\r\nContent-Length: 2\r\n\r\nno`;
        for (const octet of text) {
          socket.write(octet);
          await setImmediate();
        }
        socket.end();
      },
    });
    await registered(desk.phone([edge], { password }), edge);
    expect(count(edge.asked.at(-1))).toMatch(/^0000000[12]$/);
  });

  it('without a body is one too', async () => {
    const edge = await Guard.open(desk, { refuse: (response) => response.end() });
    await registered(desk.phone([edge], { password }), edge);
    expect(edge.connections).toBe(1);
  });

  it.each<[string, GuardOptions['refuse']]>([
    [
      'that closes the connection',
      (response) => {
        response.setHeader('Connection', 'close');
        withLength(response);
      },
    ],
    [
      'in chunks',
      (response) => {
        response.write('who is ');
        response.end('there?');
      },
    ],
    [
      'with more behind it than it says',
      (response, { socket }) => {
        const challenge = response.getHeader('WWW-Authenticate');
        socket.write(
          `HTTP/1.1 401 No\r\nWWW-Authenticate: ${challenge}\r\nContent-Length: 2\r\n\r\nnoHTTP/1.1 101 Yes\r\n\r\n`,
        );
      },
    ],
    [
      'of HTTP/1.0',
      (response, { socket }) => {
        const challenge = response.getHeader('WWW-Authenticate');
        socket.end(`HTTP/1.0 401 No\r\nWWW-Authenticate: ${challenge}\r\nContent-Length: 2\r\n\r\nno`);
      },
    ],
    [
      'that hangs up in the middle of its body',
      (response, { socket }) => {
        const challenge = response.getHeader('WWW-Authenticate');
        socket.end(`HTTP/1.1 401 No\r\nWWW-Authenticate: ${challenge}\r\nContent-Length: 9\r\n\r\nno`);
      },
    ],
  ])('%s is answered over another connection', async (_what, refuse) => {
    const edge = await Guard.open(desk, { refuse });
    await registered(desk.phone([edge], { password }), edge);
    expect(edge.asked.map(count)).toEqual([undefined, '00000001']);
    expect(edge.connections).toBe(2);
  });

  it('behind which the server hangs up without a word is answered over another connection', async () => {
    const edge = await Guard.open(desk, {
      refuse: (response, { socket }) => {
        // it is whole, the connection stays, and then it does not
        response.end('no', () => socket.destroySoon());
      },
    });
    await registered(desk.phone([edge], { password }), edge);
    expect(count(edge.asked.at(-1))).toMatch(/^0000000[12]$/);
    expect(edge.connections).toBe(2);
  });

  it('is answered over wss too, its certificate checked each time', async () => {
    const authority = new Authority();
    desk.keep({ close: async () => authority.remove() });
    const { cert, key } = authority.issue(['DNS:edge.example.test']);
    const edge = await Guard.open(desk, {
      tls: { cert: readFileSync(cert), key: readFileSync(key) },
      refuse: (response) => {
        response.setHeader('Connection', 'close');
        withLength(response);
      },
    });
    const address = Endpoint.parse(edge.host, edge.port) as Endpoint;
    const phone = desk.phone(['sip:edge.example.test;transport=wss'], {
      password,
      tls: { ca: authority.trusted },
      locate: async () => ({
        targets: [{ transport: 5, host: 'edge.example.test', address, priority: 0, weight: 0 }],
        failure: '',
        ttl: 1,
      }),
    });
    await registered(phone, edge);
    expect(edge.connections).toBe(2);
  });

  it.each<[string, (digest: string) => string | string[]]>([
    ['behind another scheme in the same header', (digest) => `Basic realm="a, b=\\"c", ${digest}`],
    ['before another scheme in the same header', (digest) => `${digest}, Negotiate, Bearer realm="x"`],
    ['in a header of its own', (digest) => ['Basic realm="x"', 'Negotiate YWJj==', digest]],
    ['behind one of an algorithm that is not known', (d) => `${d.replace('SHA-256', 'SHA-3')}, ${d}`],
    ['with empty members in the list', (digest) => `, ${digest.replace(', ', ',,')} ,`],
  ])('is found %s', async (_what, challenges) => {
    const edge = await Guard.open(desk, { challenges });
    await registered(desk.phone([edge], { password }), edge);
    expect(edge.asked.map(count)).toEqual([undefined, '00000001']);
  });

  it('is answered in the name of an account of its own, as UTF-8', async () => {
    const edge = await Guard.open(desk, { user: 'дора', password: 'жесть' });
    const account = passwordAccount('дора', 'жесть', REALM);
    await registered(desk.phone([edge], { account }), edge);
    expect(edge.asked).toHaveLength(2);
  });

  it('is answered again where the nonce has grown stale', async () => {
    const edge = await Guard.open(desk, { stale: 1 });
    await registered(desk.phone([edge], { password }), edge);
    expect(edge.asked.map(count)).toEqual([undefined, '00000001', '00000001']);
  });

  it('is answered with the next attempt as with the first', async () => {
    const edge = await Guard.open(desk, { stale: 9 });
    const phone = desk.phone([edge], { password });
    phone.start();
    await phone.event('failed');
    edge.asked.length = 0;
    await phone.advance(30.02);
    expect(await phone.event('failed')).toMatchObject({ cause: 'unauthorized' });
    expect(edge.asked.map(count)).toEqual([undefined, '00000001', '00000001']);
  });
});

describe('a 401 that is the end of the attempt', () => {
  it.each<[string, number, Partial<GuardOptions>, object]>([
    ['to wrong credentials', 2, {}, { password: 'wrong' }],
    ['where every nonce is stale', 3, { stale: 100 }, { password }],
    ['where there is no account', 1, {}, {}],
    ['of a realm that the account is not for', 1, {}, { account: passwordAccount('dora', password, 'b') }],
    ['for Basic alone', 1, { challenges: () => 'Basic realm="x"' }, { password }],
    ['without a challenge', 1, { challenges: () => [] }, { password }],
    [
      'to credentials of the program',
      1,
      {},
      { password, webSocketHeaders: { authorization: 'Bearer dG9rZW4' } },
    ],
  ])('%s', async (_what, requests, some, options) => {
    const edge = await Guard.open(desk, some);
    const phone = desk.phone([edge], options);
    phone.start();
    expect(await phone.event('failed')).toMatchObject({ cause: 'unauthorized', retryIn: 30_000 });
    expect(edge.asked).toHaveLength(requests);
    expect(edge.arrivals).toEqual([]);
  });

  it('asked for another realm the second time, nobody is told more', async () => {
    const edge = await Guard.open(desk, {
      challenges: (digest) => (edge.asked.length > 1 ? digest.replace(REALM, 'other.test') : digest),
    });
    const phone = desk.phone([edge], { password: 'wrong' });
    phone.start();
    expect(await phone.event('failed')).toMatchObject({ cause: 'unauthorized' });
    expect(edge.asked).toHaveLength(2);
  });

  it('a 407 is not for us', async () => {
    const edge = await Guard.open(desk, {
      refuse: (response) => {
        response.setHeader('Proxy-Authenticate', response.getHeader('WWW-Authenticate') as string);
        response.statusCode = 407;
        withLength(response);
      },
    });
    const phone = desk.phone([edge], { password });
    phone.start();
    expect(await phone.event('failed')).toMatchObject({ cause: 'no-websocket' });
    expect(edge.asked).toHaveLength(1);
  });

  it('one that is stopped while it asks again says nothing more', async () => {
    const edge = await Guard.open(desk, {
      refuse: (response) => {
        response.setHeader('Content-Length', '9');
        response.write('no');
      },
    });
    const phone = desk.phone([edge], { password });
    phone.start();
    while (edge.asked.length === 0) await setImmediate();
    await phone.agent.stop({ remove: false });
    for (let turns = 0; turns < 20; turns++) await setImmediate();
    expect(edge.asked).toHaveLength(1);
    expect(phone.events).toEqual([]);
  });
});
