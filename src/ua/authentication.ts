/**
 * Answers to the challenges of one flow's servers (RFC 3261 22, RFC 8760): a session for each realm and header, used
 * ahead of the next challenge, so that a refresh costs one round trip. A nonce that the server no longer takes is
 * answered anew once in a request; the same account refused twice in one request is the end of it.
 */
import { randomBytes } from 'node:crypto';
import { type Account, answerChallenge, type Session } from '../auth/client.ts';
import type { Incoming } from './incoming.ts';

type Header = 'Authorization' | 'Proxy-Authorization';

export class Authentication {
  readonly #account: Account | undefined;
  readonly #sessions = new Map<string, { header: Header; session: Session }>();

  constructor(account: Account | undefined) {
    this.#account = account;
  }

  /** The credentials for a request, for every realm that has asked so far. */
  headers(method: string, uri: string, body: Buffer): [string, string][] {
    const cnonce = () => randomBytes(12).toString('hex');
    return [...this.#sessions.values()].map(({ header, session }) => [
      header,
      session.answer(method, uri, cnonce(), body.toString('latin1')),
    ]);
  }

  /**
   * Takes up the challenge of a 401 or 407. False: it cannot be answered. `tried`: what was answered within this
   * request already; the caller keeps it from one try to the next.
   */
  challenged(response: Incoming, tried: Session[]): boolean {
    if (!this.#account) return false;
    const proxy = response.status === 407;
    const header: Header = proxy ? 'Proxy-Authorization' : 'Authorization';
    const values = response.fields(proxy ? 'proxy-authenticate' : 'www-authenticate');
    const session = answerChallenge(values, this.#account, tried);
    if (!session || tried.length > 8) return false;
    tried.push(session);
    this.#sessions.set(`${header} ${session.challenge.realm}`, { header, session });
    return true;
  }
}
