/**
 * Looks between the steps of a call: Atomics are replaced, for the time of one act, by ones that run `event` at the n-th
 * place, which are before and after each use. What happens there is a thread's death (it throws) or another thread's
 * whole call (it runs to the end).
 */
const OPERATIONS = ['load', 'store', 'add', 'sub', 'and', 'or', 'exchange', 'compareExchange'] as const;
const real = Object.fromEntries(OPERATIONS.map((name) => [name, Atomics[name]]));

/** Runs it with the event at place n. Returns the number of places that there were. */
export function atStep(n: number, event: () => void, act: () => void): number {
  return atSteps([n], [event], act);
}

/** Runs it with events[i] at place at[i], for places in ascending order. */
export function atSteps(at: readonly number[], events: readonly (() => void)[], act: () => void): number {
  let places = 0;
  let next = 0;
  const replaced: Record<string, unknown> = {};
  const place = () => {
    if (places++ !== at[next]) return;
    Object.assign(Atomics, real);
    events[next++]();
    Object.assign(Atomics, replaced);
  };
  for (const name of OPERATIONS) {
    const operation = real[name] as (...operands: unknown[]) => number;
    replaced[name] = (...operands: unknown[]) => {
      place();
      const result = operation(...operands);
      place();
      return result;
    };
  }
  try {
    Object.assign(Atomics, replaced);
    act();
    return places;
  } finally {
    Object.assign(Atomics, real);
  }
}

class Death extends Error {}

/** True if it died at place n, false if it was over before. */
export function dies(n: number, act: () => void): boolean {
  try {
    atStep(
      n,
      () => {
        throw new Death();
      },
      act,
    );
    return false;
  } catch (error) {
    if (error instanceof Death) return true;
    throw error;
  }
}
