/**
 * Does the location store's cost grow with its content? Look-up and refresh in LMDB over a thousand, a hundred
 * thousand and a million bindings, and what the location service keeps in memory for each.
 *
 * A tree may cost its depth: twice as much for a million as for a thousand is logarithmic. The notes say the growth.
 * It takes 2 GB of disk in the system's temporary folder and as much page cache.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { LmdbBackend } from '../../src/registrar/lmdb.ts';
import { Location } from '../../src/registrar/location.ts';
import type { Suite } from '../suite.ts';
import { locationCases } from './location.ts';

const COUNTS = [1_000, 100_000, 1_000_000];

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function heap(): number {
  collect();
  return process.memoryUsage().heapUsed;
}

export default function prepare(): Suite {
  const stores = COUNTS.map((count) => {
    const dir = mkdtempSync(join(tmpdir(), 'holdfast-bench-'));
    const backend = new LmdbBackend({ dir, durability: 'process', mapSize: 2 ** 33 });
    const before = heap();
    const cases = locationCases(backend, count);
    return { dir, backend, count, cases, octets: (heap() - before) / count };
  });
  const [least, , most] = stores;
  const names = ['update', 'look-up', 'update alone'];
  const growths = (fastest: ReadonlyMap<string, number>): string =>
    names
      .map((name, i) => {
        const [from, to] = [least, most].map(({ cases }) => fastest.get(cases[i].name) as number);
        return `${name} ${(to / from).toFixed(2)}`;
      })
      .join(', ');
  return {
    cases: stores.flatMap(({ cases }) => cases),
    notes(fastest) {
      const began = performance.now();
      new Location(most.backend);
      const seconds = (performance.now() - began) / 1000;
      return [
        `growth from ${least.count} to ${most.count}, where 2 is logarithmic: ${growths(fastest)}`,
        `flow map of ${most.count}: ${most.octets.toFixed(0)} octets of heap a binding; the store is read at a start in ${seconds.toFixed(1)} s`,
      ];
    },
    async close() {
      for (const { dir, backend } of stores) {
        await backend.close();
        rmSync(dir, { recursive: true, force: true });
      }
    },
  };
}
