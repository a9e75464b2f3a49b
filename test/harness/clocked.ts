/**
 * Entry of the server on a test's clock: the monotonic clock is one number of milliseconds in shared
 * memory that only moves when the parent process says so over the IPC channel. Everything else is
 * the server as the CLI starts it.
 *
 * Messages: the child says 'ready' once, then answers each { advance: ms } with 'advanced'.
 */
import { loadConfig } from '../../src/config/load.ts';
import { start } from '../../src/main/start.ts';

/** Not zero: a forgotten initialisation must not pass for "now". */
const FIRST_MS = 1_000_000;

const clock = new SharedArrayBuffer(Float64Array.BYTES_PER_ELEMENT);
const now = new Float64Array(clock);
now[0] = FIRST_MS;

const running = await start(loadConfig(process.env), { clock });

process.on('message', (message: { advance: number }) => {
  now[0] += message.advance;
  running.poke();
  process.send?.('advanced');
});
process.on('disconnect', () => void running.stop().finally(() => process.exit(0)));
process.on('SIGTERM', () => void running.stop().finally(() => process.exit(0)));
process.send?.('ready');
