import { type Binding, indexOfBinding } from './binding.ts';
import type { Backend } from './store.ts';

/**
 * Bindings as another store had them, put into a backend that no location service uses at the time: what
 * RESTORE (redis-script.ts) is in Redis. One that is there already stays, whichever of the two is newer, and
 * so does one that RFC 3261 19.1.4 calls the same. Of several in a row with one key the first is put. A device
 * that is there keeps its epoch, so temporary GRUUs of the other store end with it.
 *
 * It keeps their order among each other, and nothing in memory. Within a transaction of the backend.
 */
export function restore(backend: Backend, aor: string, bindings: readonly Binding[], now: number): number {
  const live = (backend.get(aor) ?? []).filter((binding) => binding.expiresAt > now);
  let put = 0;
  for (const binding of bindings) {
    if (binding.expiresAt <= now || indexOfBinding(live, binding) >= 0) continue;
    const { instance } = binding;
    const epoch = instance === undefined ? undefined : live.find((b) => b.instance === instance)?.epoch;
    live.push(epoch === undefined ? binding : { ...binding, epoch });
    put++;
  }
  if (put > 0) backend.put(aor, live);
  return put;
}
