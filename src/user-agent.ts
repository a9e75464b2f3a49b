/**
 * The public face of the user agent. A program that wants no server imports this alone (`holdfast/user-agent`).
 *
 * It adds this machine's name servers: src/ua knows no resolver and is given the one of the server.
 */
import { located } from './main/located.ts';
import { UserAgent as Agent } from './ua/agent.ts';
import type { UserAgentOptions } from './ua/options.ts';

export type { Account } from './auth/client.ts';
export type { FlowChange, FlowEvent, InviteOptions, KeepAliveEvent, UserAgentEventMap } from './ua/agent.ts';
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

export class UserAgent extends Agent {
  constructor(options: UserAgentOptions) {
    super({ locate: located, ...options });
  }
}
