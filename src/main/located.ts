/**
 * Where a user agent of this process finds its proxies: by RFC 3263, over this machine's name servers. One resolver and
 * one cache for all of them; nothing is opened before a name is asked about, and nothing of it keeps the process alive.
 */
import { getServers } from 'node:dns';
import { type Locate, locateWith } from '../ua/locating.ts';
import { nameServers, Resolver } from './dns.ts';
import { HostsFile } from './hostsfile.ts';

let resolver: Resolver | undefined;

export const located: Locate = (uri, transports) =>
  locateWith(uri, transports, (name, type) => {
    resolver ??= new Resolver({
      servers: nameServers(undefined, getServers()) ?? [],
      now: () => performance.now(),
      hosts: HostsFile.read(),
    });
    return resolver.query(name, type);
  });
