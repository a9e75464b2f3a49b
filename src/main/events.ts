/**
 * Events of the registrar for the program that it runs in: one typed emitter, given to `start`.
 *
 *     const events = new BindingEvents();
 *     events.on('flow-lost', ({ aor, cause }) => ...);
 *     events.on('event', (event) => ...);              // each of them, whatever it is
 *     await start(config, { events });
 *
 * Listeners run on the main thread after the change is as durable as the store promises, in the order of the
 * changes; a slow one holds up what else main does (accepting connections), not the shards. One that throws is
 * logged, and the others are called all the same. Nothing is kept for a listener that comes later.
 */
import { EventEmitter } from 'node:events';
import type { EventType } from '../config/config.ts';
import type { BindingEvent } from '../registrar/events.ts';

export type BindingEventMap = {
  [Type in EventType]: [event: Extract<BindingEvent, { type: Type }>];
} & { event: [event: BindingEvent] };

export class BindingEvents extends EventEmitter<BindingEventMap> {
  /** Calls who listens to the event; `failed` gets what they throw. */
  tell(event: BindingEvent, failed: (error: unknown) => void): void {
    for (const name of [event.type, 'event'] as const)
      for (const listener of this.rawListeners(name)) {
        try {
          Reflect.apply(listener, this, [event]);
        } catch (error) {
          failed(error);
        }
      }
  }
}
