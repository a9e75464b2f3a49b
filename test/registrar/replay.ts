/** What a subscriber knows who applied every event, one after the other, to nothing. */
import type { Binding } from '../../src/registrar/binding.ts';
import type { BindingEvent } from '../../src/registrar/events.ts';

type Named =
  | Pick<Binding, 'contact' | 'instance' | 'regId'>
  | Pick<BindingEvent, 'contact' | 'instance' | 'regId'>;

/** What names a binding within its AOR, as the documentation of the events tells it. */
const nameOf = ({ contact, instance, regId }: Named): string =>
  regId > 0 ? `${instance};${regId}` : contact;

interface Known {
  contact: string;
  order: number;
  expiresAt: number;
}

export class Replay {
  readonly #bindings = new Map<string, Map<string, Known>>();
  readonly ids = new Set<string>();

  /** Throws where an event cannot be true of what was told before. */
  apply(event: BindingEvent): void {
    if (this.ids.has(event.id)) throw new Error(`${event.type}: told twice`);
    this.ids.add(event.id);
    const bindings = this.#bindings.get(event.aor) ?? new Map<string, Known>();
    this.#bindings.set(event.aor, bindings);
    const name = nameOf(event);
    const known = bindings.get(name);
    const { contact, order, at } = event;
    switch (event.type) {
      case 'register':
        if (known) throw new Error('a register of a binding that is there');
        break;
      case 'refresh': {
        const old = event.was !== undefined && event.regId === 0 ? event.was : name;
        if (!bindings.has(old)) throw new Error('a refresh of nothing');
        if ((bindings.get(old)?.contact !== contact) !== (event.was !== undefined))
          throw new Error('a wrong was');
        bindings.delete(old);
        break;
      }
      default:
        if (known?.order !== order) throw new Error(`${event.type} of another version, or of nothing`);
        if ((event.type === 'expire') !== known.expiresAt <= at)
          throw new Error(`${event.type} at a wrong time`);
        bindings.delete(name);
        return;
    }
    bindings.set(name, { contact, order, expiresAt: at + event.expires * 1000 });
  }

  /** By AOR, those without bindings left out. */
  get bindings(): Record<string, Record<string, Known>> {
    const entries = [...this.#bindings].filter(([, bindings]) => bindings.size > 0);
    return Object.fromEntries(entries.map(([aor, bindings]) => [aor, Object.fromEntries(bindings)]));
  }
}

/** The same of the bindings that a store has. */
export function asKnown(bindings: readonly Binding[]): Record<string, Known> {
  return Object.fromEntries(
    bindings.map((b) => [nameOf(b), { contact: b.contact, order: b.order, expiresAt: b.expiresAt }]),
  );
}
