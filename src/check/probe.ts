/**
 * One flow to the edge, with what a user agent keeps to itself laid open: pongs are counted, STUN answers and messages
 * are kept as they came, and requests are answered as the rule says. Messages run through the same framer, lexer and
 * transactions as those of src/ua; a response that no transaction waits for is kept too.
 *
 * It registers nothing by itself and pings nobody: an edge sees of it what a rule sends, and no more.
 */
import type { Account } from '../auth/client.ts';
import { Endpoint } from '../net/endpoint.ts';
import type { Target } from '../net/targets.ts';
import { Authentication } from '../ua/authentication.ts';
import type { Connection, Dial, Ending } from '../ua/connection.ts';
import type { Exchanges, HeaderList, ServerExchange } from '../ua/exchange.ts';
import { Incoming } from '../ua/incoming.ts';
import { reasonOf } from '../ua/request.ts';
import { contactOf, type Way } from '../ua/way.ts';
import { Message, OK } from '../wire/lexer.ts';

export interface ProbeParts {
  exchanges: Exchanges;
  account: Account | undefined;
  /** of its Contact */
  user: string;
  /** Route of what goes out, outside of dialogs */
  route: readonly string[];
}

export class Probe implements Way {
  readonly peer = new Endpoint();
  readonly authentication: Authentication;
  readonly route: readonly string[];
  readonly asksKeep = false;
  readonly user: string;
  connection: Connection | undefined;
  /** CR LF between messages */
  pongs = 0;
  readonly stun: Buffer[] = [];
  readonly requests: Incoming[] = [];
  readonly responses: Incoming[] = [];
  ended: Ending | undefined;
  /** the final answer to each request that comes */
  respond: (exchange: ServerExchange) => void = (exchange) => this.accept(exchange);
  readonly #wakers = new Set<() => void>();

  constructor({ account, user, route }: ProbeParts) {
    this.authentication = new Authentication(account);
    this.user = user;
    this.route = route;
  }

  /** The flow when it is open; undefined with `ended` set if it could not be, or not in time. */
  static async open(
    target: Target,
    dial: Dial,
    domain: string,
    ms: number,
    parts: ProbeParts,
  ): Promise<Probe> {
    const probe = new Probe(parts);
    probe.peer.copy(target.address);
    const message = new Message();
    const connection = dial(
      target,
      {
        opened: () => {
          probe.connection = connection;
          probe.#wake();
        },
        message: (buf, start, end) => {
          if (message.lex(buf, start, end, !connection.reliable) === OK)
            (message.isRequest ? probe.requests : probe.responses).push(new Incoming(message));
          parts.exchanges.receive(probe, buf, start, end);
        },
        pong: () => {
          probe.pongs++;
        },
        stun: (bytes) => {
          probe.stun.push(Buffer.from(bytes));
        },
        read: () => probe.#wake(),
        closed: (ending) => {
          probe.ended ??= ending;
          probe.connection = undefined;
          parts.exchanges.lost(probe);
          probe.#wake();
        },
      },
      { domain },
    );
    const settled = await probe.until(() => probe.connection !== undefined || probe.ended !== undefined, ms);
    if (!settled) connection.close();
    return probe;
  }

  /** The URI of its own address. */
  get contact(): string {
    return this.connection ? contactOf(this.user, this.connection) : '';
  }

  /** A URI at an address that nobody has (RFC 5737): what comes all the same came down the flow. */
  get unroutable(): string {
    return this.contact.replace(/@[^;]*/, '@192.0.2.1:5060');
  }

  joined(): void {}
  left(): void {}

  send(bytes: Uint8Array): void {
    this.connection?.send(bytes);
  }

  close(): void {
    this.connection?.close();
  }

  /** 200, with what a dialog needs. */
  accept(exchange: ServerExchange, contact = this.contact): void {
    const { method } = exchange.request;
    const forms = method === 'INVITE' || method === 'SUBSCRIBE';
    const headers: HeaderList = forms
      ? [
          ...exchange.request
            .fields('record-route')
            .map((value): [string, string] => ['Record-Route', value]),
          ['Contact', `<${contact}>`],
        ]
      : [];
    exchange.respond(200, 'OK', headers);
  }

  refuse(exchange: ServerExchange, status: number): void {
    exchange.respond(status, reasonOf(status));
  }

  /** Has a request with this Call-ID and method come? */
  got(callId: string, method: string): boolean {
    return this.requests.some((request) => request.callId === callId && request.method === method);
  }

  /** True when it holds, now or within `ms`; asked again whenever something has come. */
  until(holds: () => boolean, ms: number): Promise<boolean> {
    if (holds()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const look = () => {
        if (holds()) settle(true);
      };
      const settle = (held: boolean) => {
        clearTimeout(timer);
        this.#wakers.delete(look);
        resolve(held);
      };
      const timer = setTimeout(() => settle(false), ms);
      this.#wakers.add(look);
    });
  }

  #wake(): void {
    for (const look of [...this.#wakers]) look();
  }
}
