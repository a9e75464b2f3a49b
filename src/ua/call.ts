/**
 * A session that INVITE has set up, on either side: its dialog, and how it ends. What is inside the bodies is the
 * program's. `ended` is settled once, by whichever comes first: a BYE of either side, an ACK that never came, or a
 * request in it that was answered 481 or not at all.
 */
import type { Dialog } from './dialog.ts';
import type { Incoming } from './incoming.ts';
import type { MessageOptions } from './payload.ts';

export type CallEnd = 'local' | 'remote' | 'no-ack' | 'lost';

export class Call {
  readonly dialog: Dialog;
  /** the peer's message that set it up: the 2xx to our INVITE, or the INVITE */
  readonly message: Incoming;
  readonly ended: Promise<CallEnd>;
  readonly #end = Promise.withResolvers<CallEnd>();
  #over = false;

  constructor(dialog: Dialog, message: Incoming) {
    this.dialog = dialog;
    this.message = message;
    this.ended = this.#end.promise;
  }

  get isOver(): boolean {
    return this.#over;
  }

  /** Hangs up. The call has ended for us when it was sent, whatever the answer is. */
  async bye(options: MessageOptions = {}): Promise<Incoming> {
    const answer = this.dialog.request('BYE', options);
    this.finish('local');
    return answer;
  }

  /** INFO, UPDATE, MESSAGE, a re-INVITE. */
  request(method: string, options: MessageOptions = {}): Promise<Incoming> {
    return this.dialog.request(method, options);
  }

  /** For the agent: it has ended. */
  finish(how: CallEnd): void {
    if (this.#over) return;
    this.#over = true;
    this.#end.resolve(how);
    this.dialog.end();
  }
}
