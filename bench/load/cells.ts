/** What bench:peer measures: one cell a kind of work, transport, forwarding and core. */
import type { CoreTransport, Forwarding, Load, Mode, Transport } from './options.ts';

export interface Cell {
  mode: Mode;
  transport: Transport;
  core: CoreTransport;
  forwarding: Forwarding;
}

export interface Pace {
  rounds: number;
  /** seconds a measurement */
  duration: number;
  /** transactions before it; a compiler needs more of them than a program that was compiled */
  warmup: number;
}

export const THOROUGH: Pace = { rounds: 3, duration: 2, warmup: 50_000 };
export const QUICK: Pace = { rounds: 1, duration: 1, warmup: 20_000 };

const FLOWS = 1000;
/** Memory is that of many flows, or a few pages of something else would count as theirs. */
const IDLE_FLOWS = 10_000;
const WINDOW = 64;

const cross = (
  modes: Mode[],
  transports: Transport[],
  forwardings: Forwarding[],
  core: CoreTransport = 'udp',
): Cell[] =>
  modes.flatMap((mode) =>
    transports.flatMap((transport) =>
      forwardings.map((forwarding) => ({ mode, transport, core, forwarding })),
    ),
  );

export const CELLS: Cell[] = [
  ...cross(['register', 'downstream'], ['udp', 'tcp', 'tls', 'ws'], ['stateless', 'stateful']),
  ...cross(['register', 'downstream'], ['udp', 'tcp'], ['stateless', 'stateful'], 'tcp'),
  ...cross(['keepalive'], ['udp', 'tcp', 'tls', 'ws'], ['stateless']),
  ...cross(['churn'], ['tcp', 'tls', 'ws'], ['stateless']),
  ...cross(['idle'], ['tcp', 'tls', 'ws'], ['stateless']),
];

export const nameOf = ({ mode, transport, core, forwarding }: Cell): string =>
  `${mode} ${transport} core-${core} ${forwarding}`;

/** `compiled`: the server needs no warming up to speak of. */
export function loadOf(cell: Cell, { duration, warmup }: Pace, compiled: boolean): Load {
  const churn = cell.mode === 'churn';
  return {
    ...cell,
    flows: cell.mode === 'idle' ? IDLE_FLOWS : FLOWS,
    rate: 0,
    window: WINDOW,
    duration,
    warmup: compiled ? (churn ? 500 : 2000) : churn ? warmup / 10 : warmup,
    timeout: 5,
    workers: 1,
  };
}
