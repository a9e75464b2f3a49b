import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LmdbBackend } from '../../src/registrar/lmdb.ts';
import { MemoryBackend } from '../../src/registrar/memory.ts';
import type { Backend } from '../../src/registrar/store.ts';

/** Every store that the contract is shown for; `dispose` after the test. */
export const BACKENDS: { name: string; make: () => { backend: Backend; dispose: () => Promise<void> } }[] = [
  {
    name: 'memory',
    make() {
      const backend = new MemoryBackend();
      return { backend, dispose: () => backend.close() };
    },
  },
  {
    name: 'lmdb',
    make() {
      const dir = temporaryDirectory();
      const backend = new LmdbBackend({ dir, durability: 'process', mapSize: 2 ** 28 });
      return {
        backend,
        async dispose() {
          await backend.close();
          rmSync(dir, { recursive: true, force: true });
        },
      };
    },
  },
];

export const temporaryDirectory = (): string => mkdtempSync(join(tmpdir(), 'holdfast-registrar-'));
