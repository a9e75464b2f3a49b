/**
 * The public face of the user agent. A program that wants no server imports this alone (`holdfast/user-agent`).
 *
 * It adds this machine's name servers: src/ua knows no resolver and is given the one of the server. One resolver and
 * one cache for all agents of the process; nothing is opened before a name is asked about, and nothing of it keeps the
 * process alive.
 */
import { getServers } from 'node:dns';
import { nameServers, Resolver } from './main/dns.ts';
import { HostsFile } from './main/hostsfile.ts';
import { UserAgent as Agent } from './ua/agent.ts';
import { type Locate, locateWith } from './ua/locating.ts';
import type { UserAgentOptions } from './ua/options.ts';

export type { Account } from './auth/client.ts';
export type { FlowChange, FlowEvent, InviteOptions, UserAgentEventMap } from './ua/agent.ts';
export type { Call, CallEnd } from './ua/call.ts';
export type { Clock } from './ua/clock.ts';
export {
  type Connection,
  type ConnectionHandler,
  type Dial,
  type DialOptions,
  overStream,
} from './ua/connection.ts';
export type { Dialog } from './ua/dialog.ts';
export { UserAgentError, type UserAgentErrorCode } from './ua/errors.ts';
export type { FlowCause } from './ua/flow.ts';
export type { Incoming } from './ua/incoming.ts';
export { type Locate, locateWith } from './ua/locating.ts';
export type { UserAgentOptions } from './ua/options.ts';
export type { MessageOptions } from './ua/payload.ts';
export type { IncomingRequest, ResponseOptions } from './ua/request.ts';

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
