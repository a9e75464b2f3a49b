/**
 * A call from one flow to another, with both ends in hand: the INVITE to the AOR, the dialog as either side has it, and
 * requests inside it over whichever flow, with the Route values of the dialog or with others.
 */
import { Dialog } from '../ua/dialog.ts';
import type { Draft, HeaderList, ServerExchange } from '../ua/exchange.ts';
import type { Incoming } from '../ua/incoming.ts';
import { transact } from '../ua/transact.ts';
import type { Probe } from './probe.ts';
import { NotApplicable } from './rule.ts';
import { callIdOf, lineOf, newInstance, SUPPORTED, type Trial } from './trial.ts';

/** Of all requests inside dialogs, BYE too: above all that the dialogs count by themselves, and rising. */
let nextSeq = 1000;
/** that the answer to a BYE may take */
const BYE_MS = 1_000;

interface End {
  probe: Probe;
  dialog: Dialog;
}

export interface Call {
  callId: string;
  caller: End;
  callee: End;
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
  const ends: End[] = [{ probe: caller, dialog: await invite(trial, caller, contact(caller), callId) }];
  trial.atEnd(() => hangUp(trial, ends));
  if (!invited) throw new NotApplicable('the INVITE came to somebody else');
  ends.push({
    probe: callee,
    dialog: called(trial, callee, invited.request, invited.tag, contact(callee)),
  });
  return { callId, caller: ends[0], callee: ends[1] };
}

/** BYE from the caller; from who was called where that has no flow any more, or is not heard. */
async function hangUp({ exchanges }: Trial, ends: readonly End[]): Promise<void> {
  for (const { probe, dialog } of ends) {
    if (!probe.connection) continue;
    const answer = await transact({
      exchanges,
      carrier: probe,
      signal: AbortSignal.timeout(BYE_MS),
      draft: () => dialog.draft('BYE', nextSeq++, [], Buffer.alloc(0)),
    }).catch(() => undefined);
    if (answer && answer.status < 300) return;
  }
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
  { probe, dialog }: End,
  method: string,
  routes?: readonly string[],
): Promise<Incoming> {
  const make = (): Draft => {
    const draft = dialog.draft(method, nextSeq++, [], Buffer.alloc(0));
    if (routes === undefined) return draft;
    const rest = draft.headers.filter(([name]) => name !== 'Route');
    return { ...draft, headers: [...routes.map((r): [string, string] => ['Route', r]), ...rest] };
  };
  return trial.transact(probe, method, make);
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
