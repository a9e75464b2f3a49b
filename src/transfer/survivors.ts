import { KeyFault, type Keyring, parseKeys, readKeyring } from '../flow/keyring.ts';
import { TOKEN_UDP, TokenReader, TokenVerdict } from '../flow/token.ts';
import { type Binding, incarnationOf, isStreamFlow } from '../registrar/binding.ts';
import { parseNameAddr } from '../wire/nameaddr.ts';
import { parseSipUri } from '../wire/uri.ts';

/**
 * Which imported bindings can still be reached, as far as it can be told: one whose flow ended with its
 * process must not come alive again.
 *
 * A stream flow of a registrar's own lives as long as that process, so it counts only where the process is
 * known to be at work on the store. A datagram flow outlives the process; what a later life needs is the token
 * in the Path, and that must be one by keys of this node. Of other nodes' datagram flows, and of flows that
 * edges have (no flow, a token of theirs in the Path), nothing is known: they stay, and a 430 ends them.
 */
export interface SurvivorsOptions {
  node: number;
  /** undefined: the node has no keys yet, so no token is good */
  keyring: Keyring | undefined;
  /** which life of a node is at work on the store; undefined: none */
  atWork: (node: number) => Promise<number | undefined>;
}

export class Survivors {
  readonly #node: number;
  readonly #reader: TokenReader | undefined;
  readonly #atWork: (node: number) => Promise<number | undefined>;
  readonly #lives = new Map<number, Promise<number | undefined>>();

  constructor({ node, keyring, atWork }: SurvivorsOptions) {
    this.#node = node;
    this.#reader = keyring && new TokenReader(keyring);
    this.#atWork = atWork;
  }

  async has({ flow, path }: Binding): Promise<boolean> {
    if (flow === undefined) return true;
    const [node, key] = flow.split('/');
    if (isStreamFlow(key)) return (await this.#life(Number(node))) === incarnationOf(key);
    return Number(node) !== this.#node || this.#isOurs(path);
  }

  /** As of the first time that it was asked. */
  #life(node: number): Promise<number | undefined> {
    let life = this.#lives.get(node);
    if (!life) {
      life = this.#atWork(node);
      this.#lives.set(node, life);
    }
    return life;
  }

  #isOurs(path: readonly string[]): boolean {
    const last = parseNameAddr(path.at(-1) ?? '');
    const token = Buffer.from((last && parseSipUri(last.uri)?.user) ?? '', 'latin1');
    const reader = this.#reader;
    return (
      reader !== undefined &&
      reader.read(token, 0, token.length) === TokenVerdict.OK &&
      reader.node === this.#node &&
      reader.transport === TOKEN_UDP
    );
  }
}

/** The keys that the server will have, from the same places; none are made. Throws where they cannot be read. */
export function keysOf(keys: string | undefined, dataDir: string): Keyring | undefined {
  const ring = keys === undefined ? readKeyring(dataDir) : parseKeys(keys);
  if (ring instanceof KeyFault) throw ring;
  return ring;
}
