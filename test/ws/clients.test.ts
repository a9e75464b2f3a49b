/**
 * The WebSocket of the runtime that runs the tests, which nobody here has written: what its handshake, its
 * frames and its rules of closing make of the server.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Arrival,
  arrivalOf,
  Inbox,
  isCrlf,
  isRequest,
  isResponse,
  PATIENCE_MS,
} from '../harness/inbox.ts';
import { newBranch, request, unique } from '../harness/sip.ts';
import { startWebEdge, takesSignals, type WebEdge } from './rig.ts';

interface Closing {
  code: number;
  clean: boolean;
}

class Client extends Inbox {
  readonly socket: WebSocket;
  readonly closed: Promise<Closing>;

  private constructor(socket: WebSocket, closed: Promise<Closing>) {
    super('runtime client');
    this.socket = socket;
    this.closed = closed;
    socket.binaryType = 'arraybuffer';
    socket.addEventListener('message', ({ data }: { data: string | ArrayBuffer }) => {
      const bytes = typeof data === 'string' ? Buffer.from(data) : Buffer.from(data);
      const from = { host: '', port: 0 };
      const arrival: Arrival = arrivalOf(bytes, from, (answer) => socket.send(answer.toString()));
      this.deliver({ ...arrival, opcode: typeof data === 'string' ? 1 : 2 });
    });
  }

  static async open(url: string, protocols: string[]): Promise<Client> {
    const socket = new WebSocket(url, protocols);
    const closed = new Promise<Closing>((resolve) =>
      socket.addEventListener('close', ({ code, wasClean }) => resolve({ code, clean: wasClean })),
    );
    const opened = new Promise<void>((resolve, reject) => {
      socket.addEventListener('open', () => resolve());
      socket.addEventListener('error', () => reject(new Error('not opened')));
      setTimeout(() => reject(new Error('late')), PATIENCE_MS).unref();
    });
    await opened;
    return new Client(socket, closed);
  }
}

describe("the runtime's own WebSocket", () => {
  let web: WebEdge;
  let url: string;
  beforeAll(async () => {
    web = await startWebEdge('ws');
    url = `ws://${web.door.address.host}:${web.door.address.port}/any/path`;
  });
  afterAll(() => web?.close());

  const compose = (method: string, callId: string, body = '') =>
    request(method, 'sip:example.test', {
      via: `SIP/2.0/WS ${unique('h')}.invalid;branch=${newBranch()}`,
      callId,
      body,
    });

  it('is let in with sip, and not without [7118-4.1-02]', async () => {
    const client = await Client.open(url, ['chat', 'sip']);
    expect(client.socket.protocol).toBe('sip');
    expect(client.socket.extensions).toBe(''); // it offers permessage-deflate
    client.socket.close();
    await expect(Client.open(url, ['chat'])).rejects.toThrow('not opened');
  });

  it('sends messages of any size in text and in binary, and is answered in text [7118-4.2-01]', async () => {
    const client = await Client.open(url, ['sip']);
    for (const body of ['', 'grün', 'x'.repeat(300), 'y'.repeat(60_000)]) {
      for (const binary of [false, true]) {
        const callId = unique('call-');
        const bytes = compose('OPTIONS', callId, body);
        client.socket.send(binary ? new Uint8Array(bytes) : bytes.toString());
        const got = await web.edge.core.next(isRequest('OPTIONS', callId));
        expect(got.message.body.toString()).toBe(body);
        web.edge.core.reply(got, 200, 'OK', [], body.slice(0, 50_000));
        const ok = await client.next(isResponse(200, callId));
        expect(ok.opcode).toBe(1);
        expect(ok.message.body.toString()).toBe(body.slice(0, 50_000));
      }
    }
    client.socket.send('\r\n\r\n');
    expect((await client.next(isCrlf)).opcode).toBe(1);
    client.socket.close();
    expect(await client.closed).toEqual({ code: 1005, clean: true });
  });

  it('closes in order, with its code or none, and hears ours', async () => {
    const first = await Client.open(url, ['sip']);
    first.socket.close(1000, 'done');
    expect(await first.closed).toEqual({ code: 1000, clean: true });
    const second = await Client.open(url, ['sip']);
    second.socket.close(3_001);
    expect(await second.closed).toEqual({ code: 3_001, clean: true });
    const third = await Client.open(url, ['sip']);
    third.socket.send('hello');
    expect(await third.closed).toMatchObject({ code: 1002 });
    const fourth = await Client.open(url, ['sip']);
    fourth.socket.send('x'.repeat(262_145));
    expect(await fourth.closed).toMatchObject({ code: 1009 });
  });

  it('is told that the process stops', async () => {
    const passing = await startWebEdge('ws');
    const { host, port } = passing.door.address;
    const client = await Client.open(`ws://${host}:${port}/`, ['sip']);
    client.socket.send('\r\n\r\n');
    await client.next(isCrlf);
    await takesSignals(passing.edge.server);
    const stopping = passing.edge.server.stop();
    expect(await client.closed).toMatchObject({ code: 1012 });
    await stopping;
    await passing.close().catch(() => {});
  });

  it('gets what is no UTF-8 as binary [7118-4.2-02]', async () => {
    const client = await Client.open(url, ['sip']);
    const callId = unique('call-');
    client.socket.send(compose('OPTIONS', callId).toString());
    const got = await web.edge.core.next(isRequest('OPTIONS', callId));
    web.edge.core.reply(got, 200, 'OK', [], Buffer.from([0xff, 0xfe]));
    const ok = await client.next(isResponse(200, callId));
    expect(ok.opcode).toBe(2);
    expect(ok.message.body).toEqual(Buffer.from([0xff, 0xfe]));
    client.socket.close();
  });
});
