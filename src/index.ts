/**
 * The public face of the package: a node as an object. `start(loadConfig(process.env))` is what the
 * command line does.
 */
export type { Config, ListenerConfig, Network, StoreConfig, UpstreamConfig } from './config/config.ts';
export { ConfigError, loadConfig } from './config/load.ts';
export { type Running, type StartOptions, start } from './main/start.ts';
