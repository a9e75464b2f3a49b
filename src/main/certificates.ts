/**
 * The certificates that this node shows and believes: read from files, checked, and made into what shards serve
 * with (net/serving.ts). A key that is encrypted or does not fit, or a file that cannot be read, ends the start;
 * later it is logged and changes nothing.
 *
 * The files are looked at every WATCH_MS. A change is taken up when it has stood still for that long, since a
 * certificate and its key are two files; `reload` (SIGHUP) takes it up at once. Connections that stand keep what
 * they have.
 *
 * Tickets stay good over a reload, and for TICKET_KEYS_MS at most. A session made under another policy, or other
 * authorities, for clients' certificates is not resumed: the client shows his certificate again.
 */
import { createHash, createPrivateKey, randomBytes, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { rootCertificates } from 'node:tls';
import type { TlsConfig } from '../config/config.ts';
import { ConfigError } from '../config/error.ts';
import { TICKET_KEYS } from '../native/openssl.ts';
import { clientContext, freeContext, serverContext } from '../native/sslcontext.ts';
import { tryContext } from '../native/ssltrial.ts';
import type { ClientIdentity, ServerIdentity, Serving } from '../net/serving.ts';
import { serverNames } from '../net/sipidentity.ts';
import type { Logger } from '../observe/log.ts';

const WATCH_MS = 2_000;
const TICKET_KEYS_MS = 86_400_000;
/** Node takes that many. */
const CORE_TICKET_KEYS = 48;

interface Pair {
  cert: string;
  key: string;
  leaf: X509Certificate;
}

interface Files {
  pairs: Pair[];
  ca: string | undefined;
}

export class Certificates {
  readonly #config: TlsConfig;
  readonly #native: boolean;
  readonly #log: Logger;
  #serving: Serving;
  #ticketKeys: Buffer[] = [];
  #ticketKeysUntil = 0;
  /** of the files that were looked at last, good or not; and at the look before, if they are others */
  #seen: string;
  #news = '';
  #timer: NodeJS.Timeout | undefined;
  #changed: (serving: Serving) => Promise<void> = async () => {};

  /** Throws a ConfigError that names the file. */
  static open(config: TlsConfig, backend: 'ffi' | 'core', log: Logger): Certificates {
    try {
      return new Certificates(config, backend === 'ffi', log);
    } catch (error) {
      throw new ConfigError((error as Error).message);
    }
  }

  private constructor(config: TlsConfig, native: boolean, log: Logger) {
    this.#config = config;
    this.#native = native;
    this.#log = log;
    this.#seen = this.#signature();
    this.#serving = this.#make(1);
    this.#tell();
  }

  get serving(): Serving {
    return this.#serving;
  }

  /** `changed` gives a new one to all shards; settled when none uses the old one for new connections. */
  watch(changed: (serving: Serving) => Promise<void>): void {
    this.#changed = changed;
    this.#timer = setInterval(() => this.#look(), WATCH_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const now = this.#signature();
    if (now === this.#seen) {
      if (Date.now() > this.#ticketKeysUntil) this.reload();
    } else if (now === this.#news) this.reload();
    this.#news = now;
  }

  /** Reads the files again, whether they have changed or not. */
  reload(): void {
    const old = this.#serving;
    this.#seen = this.#signature();
    try {
      this.#serving = this.#make(old.generation + 1);
    } catch (error) {
      this.#log.error({ event: 'tls-not-reloaded', error: (error as Error).message });
      return;
    }
    this.#tell();
    void this.#changed(this.#serving).then(() => free(old));
  }

  #tell(): void {
    const { generation, identities } = this.#serving;
    const certificates = identities.map(({ names, fingerprint, until }) => ({ names, fingerprint, until }));
    const isLate = identities.some(({ until }) => Date.parse(until) < Date.now());
    this.#log[isLate ? 'warn' : 'info']({ event: 'tls-certificates', generation, certificates });
  }

  #signature(): string {
    const { certs, keys, ca } = this.#config;
    return [...certs, ...keys, ...(ca === undefined ? [] : [ca])]
      .map((path) => {
        const stats = statSync(path, { throwIfNoEntry: false });
        return stats ? `${stats.ino} ${stats.size} ${stats.mtimeMs}` : 'gone';
      })
      .join('|');
  }

  #make(generation: number): Serving {
    const { pairs, ca } = this.#read();
    const { client } = this.#config;
    if (Date.now() > this.#ticketKeysUntil) {
      this.#ticketKeys = pairs.map(() => randomBytes(this.#native ? TICKET_KEYS : CORE_TICKET_KEYS));
      this.#ticketKeysUntil = Date.now() + TICKET_KEYS_MS;
    }
    const policy = createHash('sha256')
      .update(`${client}\n${ca ?? ''}`)
      .digest('hex')
      .slice(0, 32);
    const made: bigint[] = [];
    try {
      const identities = pairs.map(({ cert, key, leaf }, i): ServerIdentity => {
        let context = 0n;
        const ticketKeys = this.#ticketKeys[i];
        if (this.#native) {
          const sessionContext = Buffer.from(policy, 'latin1');
          context = serverContext({ cert, key, ca, client, sessionContext, ticketKeys });
          made.push(context);
          tryContext(context);
        }
        return {
          names: serverNames(leaf),
          fingerprint: leaf.fingerprint256,
          until: new Date(leaf.validTo).toISOString(),
          context,
          cert: this.#native ? '' : cert,
          key: this.#native ? '' : key,
          ticketKeys,
        };
      });
      const outgoing = this.#outgoing(pairs[0], ca);
      return { generation, client, ca, sessionContext: policy, identities, outgoing };
    } catch (error) {
      for (const context of made) freeContext(context);
      throw error;
    }
  }

  /** We show the first certificate where a server asks for one. */
  #outgoing(own: Pair, ca: string | undefined): ClientIdentity {
    const trusted = ca ?? rootCertificates.join('\n');
    if (this.#native) return { context: clientContext(trusted, own), cert: '', key: '', ca: '' };
    return { context: 0n, cert: own.cert, key: own.key, ca: trusted };
  }

  #read(): Files {
    const { certs, keys, ca } = this.#config;
    const pairs = certs.map((path, i): Pair => {
      const cert = text(path);
      const key = text(keys[i]);
      const leaf = attempt(path, () => new X509Certificate(cert));
      // asks nobody: an encrypted key fails
      const secret = attempt(keys[i], () => createPrivateKey(key));
      if (!leaf.checkPrivateKey(secret)) throw new Error(`${keys[i]} is not the key of ${path}`);
      return { cert, key, leaf };
    });
    const authorities = ca === undefined ? undefined : text(ca);
    if (ca !== undefined) attempt(ca, () => new X509Certificate(authorities ?? ''));
    return { pairs, ca: authorities };
  }
}

function free({ identities, outgoing }: Serving): void {
  for (const context of [outgoing.context, ...identities.map((identity) => identity.context)])
    if (context !== 0n) freeContext(context);
}

const text = (path: string): string => attempt(path, () => readFileSync(path, 'latin1'));

function attempt<T>(path: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw new Error(`${path} cannot be used: ${(error as Error).message}`);
  }
}
