/**
 * The gate of a shard: credentials as the configuration has them, nonces under the node's keys and in its
 * shared table, so that a nonce made by one shard is good, and spent, on all.
 */
import type { Credentials } from '../auth/credentials.ts';
import { FileCredentials } from '../auth/file.ts';
import { Gate } from '../auth/gate.ts';
import { Nonces } from '../auth/nonce.ts';
import { Keyring } from '../flow/keyring.ts';
import type { Logger } from '../observe/log.ts';
import { NonceTable } from '../shared/nonce-table.ts';
import { canonicalHost } from '../wire/uri.ts';
import type { ShardBoot } from './boot.ts';

export interface ShardGate {
  gate: Gate;
  credentials: Credentials;
}

/** Undefined where nobody is asked. Throws if the credentials cannot be read at all. */
export async function openGate(
  boot: ShardBoot,
  log: Logger,
  now: () => number,
): Promise<ShardGate | undefined> {
  const { config, nonces } = boot;
  const { auth, domains, algorithms } = config;
  if (!nonces || auth.kind === 'none') return undefined;
  const credentials =
    auth.kind === 'file' ? FileCredentials.open(auth.path, log).watch() : await service(auth.url, log, now);
  const keyring = new Keyring(boot.keyring);
  const table = new NonceTable(nonces);
  const served = new Set(domains.map(canonicalHost));
  const own = new Set(config.listen.flatMap((l) => [l.host, l.advertisedHost]).map(canonicalHost));
  const gate = new Gate(
    new Nonces({ keyring, table, node: config.node, incarnation: boot.incarnation }),
    credentials,
    {
      algorithms,
      serves: (host) => served.has(host) || own.has(host),
      realm: domains[0],
      withoutQop: true,
    },
  );
  return { gate, credentials };
}

/** An HTTP client is a hundred modules in each shard: only where one is asked. */
async function service(url: string, log: Logger, now: () => number): Promise<Credentials> {
  const { ServiceCredentials } = await import('../auth/service.ts');
  return new ServiceCredentials({ url, log, now });
}
