/**
 * The public face of the package: a node as an object (`start(loadConfig(process.env))` is what the command line
 * does), and the user agent.
 */
export type {
  Config,
  EventType,
  ListenerConfig,
  Network,
  StoreConfig,
  UpstreamConfig,
  WebhookConfig,
} from './config/config.ts';
export { ConfigError } from './config/error.ts';
export { loadConfig } from './config/load.ts';
export { type BindingEventMap, BindingEvents } from './main/events.ts';
export { type Running, type StartOptions, start } from './main/start.ts';
export type { BindingEvent } from './registrar/events.ts';
export * from './user-agent.ts';
