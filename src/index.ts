/**
 * The public face of the package: a node as an object (`start(loadConfig(process.env))` is what the command line
 * does), and the user agent.
 */

export type { Account } from './auth/client.ts';
export type {
  Config,
  EventType,
  ListenerConfig,
  Network,
  StoreConfig,
  UpstreamConfig,
  WebhookConfig,
} from './config/config.ts';
export { ConfigError, loadConfig } from './config/load.ts';
export { type BindingEventMap, BindingEvents } from './main/events.ts';
export { type Running, type StartOptions, start } from './main/start.ts';
export type { BindingEvent } from './registrar/events.ts';
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
export { UserAgent } from './user-agent.ts';
