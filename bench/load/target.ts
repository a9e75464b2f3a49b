/** A server that runs already, somebody else's to start and to stop. */
import { readFileSync } from 'node:fs';
import type { Options } from './options.ts';
import type { Subject } from './subject.ts';

export function target({ target, coreAddress, ca, pid }: Options): Subject {
  if (!target || !coreAddress) throw new Error('no target');
  return {
    name: `${target.host}:${target.port}`,
    address: target,
    ca: ca === undefined ? undefined : readFileSync(ca, 'utf8'),
    core: coreAddress,
    start: async () => ({ pid, stop: async () => {} }),
  };
}
