/**
 * A call from one flow to another, with both ends in hand: the INVITE to the AOR, the dialog as either side has it, and
 * requests inside it over whichever flow, with the Route values of the dialog or with others.
 */
import { Dialog } from '../ua/dialog.ts';
import type { Draft, HeaderList, ServerExchange } from '../ua/exchange.ts';
import type { Incoming } from '../ua/incoming.ts';
import type { Probe } from './probe.ts';
import { NotApplicable } from './rule.ts';
import { callIdOf, lineOf, newInstance, SUPPORTED, type Trial } from './trial.ts';

/** Above all that the dialogs count by themselves. */
let nextSeq = 1000;

export interface Call {
  callId: string;
  caller: { probe: Probe; dialog: Dialog };
  callee: { probe: Probe; dialog: Dialog };
}

/** Calls the AOR; a device of its own answers. `from`: the caller's flow, if it is there already. */
export async function call(trial: Trial, from?: Probe): Promise<Call> {
  const callId = callIdOf();
  const callee = await trial.flow();
  await trial.bound(callee, newInstance(), 1, callee.unroutable);
  const caller = from ?? (await trial.flow());
  const contact = (probe: Probe) => `${probe.unroutable};ob`;
  let invited: ServerExchange | undefined;
  callee.respond = (exchange) => {
    if (exchange.request.method === 'INVITE') invited = exchange;
    callee.accept(exchange, contact(callee));
  };
  const dialog = await invite(trial, caller, contact(caller), callId);
  if (!invited) throw new NotApplicable('the INVITE came to somebody else');
  return {
    callId,
    caller: { probe: caller, dialog },
    callee: {
      probe: callee,
      dialog: called(trial, callee, invited.request, invited.tag, contact(callee)),
    },
  };
}

/** The caller's dialog, acknowledged; the other end answers by its `respond`. `contact`: the caller's. */
async function invite(trial: Trial, probe: Probe, contact: string, callId: string): Promise<Dialog> {
  const headers: HeaderList = [
    ['Contact', `<${contact}>`],
    ['Supported', SUPPORTED],
  ];
  const make = trial.draft(probe, 'INVITE', trial.aor, { callId, headers });
  let last: Draft | undefined;
  const answer = await trial.transact(probe, 'INVITE', (cseq) => {
    last = make(cseq);
    return last;
  });
  if (answer.status >= 300) throw new NotApplicable(`INVITE to the AOR is answered ${lineOf(answer)}`);
  const dialog = Dialog.ofAnswer(answer, last as Draft, partsOf(trial, probe, contact));
  if (!dialog) throw new NotApplicable('the 200 to INVITE came without Contact');
  const ack = dialog.ack(answer.cseq);
  if (ack) probe.send(ack);
  trial.keep(dialog);
  return dialog;
}

/** The called end's side of it, from the INVITE and the tag of its 200. */
function called(trial: Trial, probe: Probe, request: Incoming, tag: string, contact: string): Dialog {
  const dialog = Dialog.ofRequest(request, tag, partsOf(trial, probe, contact));
  if (!dialog) throw new NotApplicable('the INVITE came without Contact');
  return dialog;
}

/** A request inside a dialog and its answer. `routes`: in place of the dialog's. */
export function within(
  trial: Trial,
  { probe, dialog }: { probe: Probe; dialog: Dialog },
  method: string,
  routes?: readonly string[],
): Promise<Incoming> {
  const make = (cseq: number): Draft => {
    const draft = dialog.draft(method, cseq, [], Buffer.alloc(0));
    if (routes === undefined) return draft;
    const rest = draft.headers.filter(([name]) => name !== 'Route');
    return { ...draft, headers: [...routes.map((r): [string, string] => ['Route', r]), ...rest] };
  };
  return trial.transact(probe, method, make, { cseq: nextSeq++ });
}

function partsOf({ exchanges }: Trial, probe: Probe, contact: string) {
  return {
    exchanges,
    way: probe,
    contact: `<${contact}>`,
    common: [['Supported', SUPPORTED]] as HeaderList,
    onEnd: () => {},
  };
}
