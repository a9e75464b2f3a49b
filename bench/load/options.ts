/** What `npm run bench:load` can be asked for: names, defaults, limits. A wrong value is an OptionError that says it. */
import { parseArgs } from 'node:util';

export const MODES = ['register', 'downstream', 'keepalive', 'churn', 'idle'] as const;
export const TRANSPORTS = ['udp', 'tcp', 'tls', 'ws', 'wss'] as const;
export const FORWARDINGS = ['stateless', 'stateful'] as const;
export const CORES = ['udp', 'tcp'] as const;

export type Mode = (typeof MODES)[number];
export type Transport = (typeof TRANSPORTS)[number];
export type Forwarding = (typeof FORWARDINGS)[number];
export type CoreTransport = (typeof CORES)[number];

/** The work, and the server's settings that it is done with. */
export interface Load {
  mode: Mode;
  transport: Transport;
  core: CoreTransport;
  flows: number;
  /** transactions a second; 0: as many as `window` in flight let through */
  rate: number;
  window: number;
  /** seconds */
  duration: number;
  /** transactions before the measurement */
  warmup: number;
  /** seconds after which a transaction counts as lost */
  timeout: number;
  workers: number;
  forwarding: Forwarding;
}

export interface Address {
  host: string;
  port: number;
}

export interface Options extends Load {
  /** server on the first core, generator on the last one */
  pin: boolean;
  /** a server that runs already: its listener of `transport` */
  target: Address | undefined;
  /** its process id, for CPU and memory */
  pid: number | undefined;
  /** where the core listens; the upstream of `target` */
  coreAddress: Address | undefined;
  /** authority of `target`'s certificate; without one it is not checked */
  ca: string | undefined;
  json: string | undefined;
  svg: string | undefined;
}

export class OptionError extends Error {
  readonly code = 'ERR_BENCH_OPTION';
}

export const HELP = `npm run bench:load -- [options]

Load on an edge over real sockets. The generator plays the clients and the core, on loopback; Holdfast runs as a
process of its own, started for this run, with any HOLDFAST_ variable of the environment that is not set here.

  --mode MODE           register    a REGISTER over an existing flow, answered by the core (default)
                        downstream  a request from the core down a random flow, answered by the client
                        keepalive   CR LF CR LF on tcp and tls, a Ping frame on ws and wss, STUN on udp
                        churn       connect, REGISTER, 200, close; on udp a new address pair each
                        idle        open and register the flows, then silence: memory a flow
  --transport T         of the flows: udp (default), tcp, tls, ws, wss
  --core T              between edge and core: udp (default), tcp
  --flows N             default 1000; on udp up to 4194304, else as many as there are descriptors (some 19,900)
  --window N            transactions in flight, default 64 (closed loop: rate is what comes out)
  --rate N              transactions a second, sent on time whatever has been answered; --window does not count then
  --duration S          of the measurement, seconds, default 5
  --warmup N            transactions before it, default 50000, or a fifth of that for churn (the compiler needs them)
  --timeout S           a transaction without an answer is lost, default 5; nothing is sent twice
  --forwarding F        stateless, stateful (default: what HOLDFAST_FORWARDING says, or stateful)
  --workers N           worker threads of the server, default 1
  --pin                 the server on the first core, the generator on the last one (needs taskset)
  --target HOST:PORT    do not start a server: this is its listener of --transport, IPv4
  --pid N               process id of that server, for CPU and memory (with all its children)
  --core-address H:P    where the core listens: the upstream of that server
  --ca FILE             authority of that server's certificate
  --json FILE           the result as JSON, - for standard output
  --svg FILE            rate and latency over time, as a picture

Latency is from the moment at which a transaction was written (with --rate: was due) to its last message.
Exit code: 0, or 1 if a transaction failed or was lost, 2 for a wrong option.
`;

function choice<T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((each) => each === value);
  if (found === undefined) throw new OptionError(`--${name} ${value}: one of ${allowed.join(', ')}`);
  return found;
}

function number(name: string, value: string, least: number, most: number, whole = true): number {
  const n = Number(value);
  if (!(n >= least && n <= most) || (whole && !Number.isInteger(n)))
    throw new OptionError(
      `--${name} ${value}: ${whole ? 'a whole number' : 'a number'} of ${least} to ${most}`,
    );
  return n;
}

function address(name: string, value: string | undefined): Address | undefined {
  if (value === undefined) return undefined;
  const match = /^(\d+\.\d+\.\d+\.\d+):(\d+)$/.exec(value);
  if (!match) throw new OptionError(`--${name} ${value}: an IPv4 address and a port, 127.0.0.1:5060`);
  return { host: match[1], port: number(name, match[2], 1, 65535) };
}

export const MAX_FLOWS = 4_194_304;
/** Descriptors that are not a flow's: of node, of listeners, of epoll. */
const OTHER_DESCRIPTORS = 100;
export const MAX_WINDOW = 65_536;

/** `help` is undefined if it was not asked for. */
export function parse(args: string[], env: NodeJS.ProcessEnv, descriptors: number): Options | 'help' {
  const { values } = parsed(args);
  if (values.help) return 'help';
  const mode = choice('mode', values.mode, MODES);
  const transport = choice('transport', values.transport, TRANSPORTS);
  const most = transport === 'udp' ? MAX_FLOWS : descriptors - OTHER_DESCRIPTORS;
  const target = address('target', values.target);
  const coreAddress = address('core-address', values['core-address']);
  if (target && !coreAddress)
    throw new OptionError('--target needs --core-address: the upstream of that server');
  const { HOLDFAST_FORWARDING = 'stateful' } = env;
  const defaultWarmup = mode === 'churn' ? 10_000 : 50_000;
  return {
    mode,
    transport,
    core: choice('core', values.core, CORES),
    flows: number('flows', values.flows, 1, most),
    rate: number('rate', values.rate, 0, 10_000_000, false),
    window: number('window', values.window, 1, MAX_WINDOW),
    duration: number('duration', values.duration, 0.05, 86_400, false),
    warmup: number('warmup', values.warmup ?? String(defaultWarmup), 0, 100_000_000),
    timeout: number('timeout', values.timeout, 0.1, 60, false),
    workers: number('workers', values.workers, 1, 64),
    forwarding: choice('forwarding', values.forwarding ?? HOLDFAST_FORWARDING, FORWARDINGS),
    pin: values.pin,
    target,
    pid: values.pid === undefined ? undefined : number('pid', values.pid, 1, 4_194_304),
    coreAddress,
    ca: values.ca,
    json: values.json,
    svg: values.svg,
  };
}

function parsed(args: string[]) {
  const text = { type: 'string' } as const;
  try {
    return parseArgs({
      args,
      options: {
        mode: { ...text, default: 'register' },
        transport: { ...text, default: 'udp' },
        core: { ...text, default: 'udp' },
        flows: { ...text, default: '1000' },
        rate: { ...text, default: '0' },
        window: { ...text, default: '64' },
        duration: { ...text, default: '5' },
        warmup: text,
        timeout: { ...text, default: '5' },
        workers: { ...text, default: '1' },
        forwarding: text,
        pin: { type: 'boolean', default: false },
        target: text,
        pid: text,
        'core-address': text,
        ca: text,
        json: text,
        svg: text,
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    throw new OptionError((error as Error).message);
  }
}
