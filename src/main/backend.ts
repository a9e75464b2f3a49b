/** Which of the two I/O backends runs, and the reason in words, for the start-up line. `secured`: TLS is wanted. */
import { ConfigError } from '../config/error.ts';
import { selfTest } from '../native/available.ts';
import { unavailable as noOpenSsl } from '../native/openssl.ts';

export function chooseBackend(
  io: 'auto' | 'ffi' | 'core',
  secured: boolean,
): { backend: 'ffi' | 'core'; reason: string } {
  if (io === 'core') return { backend: 'core', reason: 'HOLDFAST_IO=core' };
  const own = selfTest();
  const test =
    own.ok && secured && noOpenSsl !== undefined ? ({ ok: false, reason: noOpenSsl } as const) : own;
  if (test.ok) return { backend: 'ffi', reason: 'self-test passed' };
  if (io === 'ffi') throw new ConfigError(`HOLDFAST_IO=ffi: allowed is core here, since ${test.reason}`);
  return { backend: 'core', reason: test.reason };
}
