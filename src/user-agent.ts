/**
 * The user agent with this machine's name servers: src/ua knows no resolver, the package's public face gives it the
 * one of the server. One resolver and one cache for all agents of the process; nothing is opened before a name is asked
 * about, and nothing of it keeps the process alive.
 */
import { getServers } from 'node:dns';
import { nameServers, Resolver } from './main/dns.ts';
import { HostsFile } from './main/hostsfile.ts';
import { UserAgent as Agent } from './ua/agent.ts';
import { type Locate, locateWith } from './ua/locating.ts';
import type { UserAgentOptions } from './ua/options.ts';

let resolver: Resolver | undefined;

const located: Locate = (uri, transports) =>
  locateWith(uri, transports, (name, type) => {
    resolver ??= new Resolver({
      servers: nameServers(undefined, getServers()) ?? [],
      now: () => performance.now(),
      hosts: HostsFile.read(),
    });
    return resolver.query(name, type);
  });

export class UserAgent extends Agent {
  constructor(options: UserAgentOptions) {
    super({ locate: located, ...options });
  }
}
