/**
 * Headless Chromium with one page, driven over the DevTools protocol: the page comes from a server of the test's own
 * on loopback, expressions are evaluated in it, and what it logs is kept for the failure message.
 */
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { eventually, folderFor, Program } from './program.ts';

interface Reply {
  id?: number;
  method?: string;
  params?: { args?: { value?: unknown; description?: string }[]; exceptionDetails?: { text: string } };
  result?: { result?: { value?: unknown }; exceptionDetails?: { exception?: { description?: string } } };
}

export class Browser {
  /** what the page has logged */
  readonly console: string[] = [];
  readonly #program: Program;
  readonly #server: Server;
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (reply: Reply) => void>();
  #lastId = 0;

  private constructor(program: Program, server: Server, socket: WebSocket) {
    this.#program = program;
    this.#server = server;
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => this.#received(JSON.parse(String(data))));
  }

  /** `script` runs in the page. Its microphone gives a tone, and asks nobody. */
  static async open(script: string): Promise<Browser> {
    const server = createServer((request, response) => {
      response.setHeader('content-type', request.url === '/' ? 'text/html' : 'text/javascript');
      if (request.url === '/')
        response.end('<!doctype html><title>phone</title><script src="/phone.js"></script>');
      else response.end(script);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const folder = await folderFor('chromium');
    const program = new Program('chromium', folder, [
      ...['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'],
      ...['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream'],
      // calls without media: nothing is sent to any other address than the page's server and the WebSocket's
      ...['--force-webrtc-ip-handling-policy=disable_non_proxied_udp'],
      '--disable-features=WebRtcHideLocalIpsWithMdns',
      ...['--ignore-certificate-errors', '--disable-background-networking', '--disable-component-update'],
      ...[
        `--user-data-dir=${join(folder, 'profile')}`,
        '--remote-debugging-port=0',
        `http://127.0.0.1:${port}/`,
      ],
    ]);
    try {
      const page = await eventually(() => pageOf(folder), 20_000);
      const socket = new WebSocket(page);
      await new Promise((resolve, reject) => {
        socket.addEventListener('open', resolve);
        socket.addEventListener('error', reject);
      });
      const browser = new Browser(program, server, socket);
      await browser.#ask('Runtime.enable');
      await browser.becomes("document.title === 'phone' && document.readyState === 'complete'");
      return browser;
    } catch (error) {
      await program.stop();
      server.close();
      throw new Error(`Chromium did not start: ${error}\n${program.output.slice(-3_000)}`);
    }
  }

  /** The value of an expression, of what it resolves to if it is a promise. */
  async evaluate(expression: string): Promise<unknown> {
    const { result } = await this.#ask('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    const thrown = result?.exceptionDetails;
    if (thrown) throw new Error(`in the page: ${thrown.exception?.description}\n${this.console.join('\n')}`);
    return result?.result?.value;
  }

  /** Evaluates again and again until it is true. */
  async becomes(expression: string, timeoutMs = 15_000): Promise<void> {
    await eventually(async () => {
      if ((await this.evaluate(expression)) !== true)
        throw new Error(`${expression} is not so:\n${this.console.slice(-40).join('\n')}`);
    }, timeoutMs);
  }

  #ask(method: string, params: object = {}): Promise<Reply> {
    const id = ++this.#lastId;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }

  #received(reply: Reply): void {
    if (reply.id !== undefined) {
      this.#waiting.get(reply.id)?.(reply);
      this.#waiting.delete(reply.id);
    } else if (reply.method === 'Runtime.consoleAPICalled')
      this.console.push((reply.params?.args ?? []).map((a) => a.value ?? a.description).join(' '));
    else if (reply.method === 'Runtime.exceptionThrown')
      this.console.push(`exception: ${JSON.stringify(reply.params?.exceptionDetails)}`);
  }

  async close(): Promise<void> {
    this.#socket.close();
    this.#server.close();
    await this.#program.stop();
  }
}

/** Where the one page is debugged. */
async function pageOf(folder: string): Promise<string> {
  const [port] = readFileSync(join(folder, 'profile', 'DevToolsActivePort'), 'latin1').split('\n');
  const list = (await (await fetch(`http://127.0.0.1:${port}/json/list`)).json()) as {
    type: string;
    webSocketDebuggerUrl: string;
  }[];
  const page = list.find(({ type }) => type === 'page');
  if (!page) throw new Error('there is no page');
  return page.webSocketDebuggerUrl;
}
