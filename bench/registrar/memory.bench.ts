/** Bindings in a Map. */
import { MemoryBackend } from '../../src/registrar/memory.ts';
import type { Suite } from '../suite.ts';
import { locationCases } from './location.ts';

export default function prepare(): Suite {
  const cases = [1000, 100_000].flatMap((count) => locationCases(new MemoryBackend(), count));
  const [watched] = locationCases(new MemoryBackend(), 100_000, true);
  return { cases: [...cases, watched] };
}
