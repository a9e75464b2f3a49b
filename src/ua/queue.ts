/**
 * What waits to be taken by `for await`, in order: bounded, for any number of takers, each item given once. Ends when
 * it is closed; what waits then is still given.
 */
type Taker<T> = (result: IteratorResult<T, undefined>) => void;

export class Queue<T> {
  readonly #most: number;
  readonly #items: T[] = [];
  #takers: Taker<T>[] = [];
  #closed = false;
  /** iterations that have begun and not ended */
  takers = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** False: closed, or full. */
  put(item: T): boolean {
    if (this.#closed) return false;
    const taker = this.#takers.shift();
    if (taker) taker({ done: false, value: item });
    else if (this.#items.length < this.#most) this.#items.push(item);
    else return false;
    return true;
  }

  close(): void {
    this.#closed = true;
    for (const taker of this.#takers.splice(0)) taker({ done: true, value: undefined });
  }

  /** Counts as a taker from this call on, not only from its first `next`. */
  items(): AsyncIterableIterator<T, undefined> {
    this.takers++;
    let open = true;
    /** of this iteration, those that wait */
    const waiting = new Set<Taker<T>>();
    const end = (): IteratorResult<T, undefined> => {
      if (open) this.takers--;
      open = false;
      return { done: true, value: undefined };
    };
    return {
      [Symbol.asyncIterator]() {
        return this;
      },
      next: async () => {
        if (!open) return end();
        const [item] = this.#items.splice(0, 1);
        if (item !== undefined) return { done: false, value: item };
        if (this.#closed) return end();
        return new Promise((resolve) => {
          const taker: Taker<T> = (result) => {
            waiting.delete(taker);
            resolve(result.done ? end() : result);
          };
          waiting.add(taker);
          this.#takers.push(taker);
        });
      },
      return: async () => {
        // whoever broke off must not swallow what comes
        this.#takers = this.#takers.filter((taker) => !waiting.has(taker));
        for (const taker of [...waiting]) taker(end());
        return end();
      },
    };
  }
}
