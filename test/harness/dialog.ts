/**
 * A dialog between two agents as two user agents have it: each side has a remote target, a route set taken from
 * Record-Route, and both tags. What a side sends inside it goes over its connection, or by UDP to the host and port of
 * the first Route: exactly where RFC 3261 12.2.1.1 sends it, and nowhere else.
 */
import type { Agent } from './agent.ts';
import { isRequest, isResponse } from './inbox.ts';
import { parseNameAddr, type SipMessage, unique } from './sip.ts';

/** One side of a dialog: what it puts into a request inside it. */
export interface Side {
  agent: Agent;
  /** the other one's Contact */
  target: string;
  route: string[];
  from: string;
  to: string;
}

/** Sends a request inside the dialog. */
export function within(side: Side, method: string, callId: string, cseq: number): void {
  const { agent, target, route, from, to } = side;
  const next = parseNameAddr(route[0]);
  const contact = method === 'INVITE' ? { contact: `<${agent.uri('u')};ob>` } : {};
  const bytes = agent.compose(method, target, { callId, cseq, route, from, to, ...contact });
  agent.send(bytes, { host: next.host.replace(/^\[|\]$/g, ''), port: next.port ?? 5060 });
}

export interface Dialog {
  callId: string;
  caller: Side;
  callee: Side;
  /** as the callee has it */
  invite: SipMessage;
  /** as the caller has it */
  ok: SipMessage;
}

/** INVITE to this URI and its 200. It is for the caller to send the ACK. */
export async function call(
  caller: Agent,
  callee: Agent,
  uri: string,
  contact = `${caller.uri('u')};ob`,
): Promise<Dialog> {
  const callId = unique('call-');
  const from = `<sip:caller@example.test>;tag=${unique('f')}`;
  const contacts = [contact, `${callee.uri('u')};ob`];
  caller.send(caller.compose('INVITE', uri, { callId, from, contact: `<${contacts[0]}>` }));
  const arrival = await callee.next(isRequest('INVITE', callId));
  callee.reply(arrival, 200, 'OK', [['Contact', `<${contacts[1]}>`]]);
  const ok = (await caller.next(isResponse(200, callId))).message;
  const to = ok.header('To') as string;
  return {
    callId,
    invite: arrival.message,
    ok,
    caller: { agent: caller, target: contacts[1], route: ok.all('Record-Route').reverse(), from, to },
    callee: {
      agent: callee,
      target: contacts[0],
      route: arrival.message.all('Record-Route'),
      from: to,
      to: from,
    },
  };
}

/** The caller's ACK, as the callee has it. */
export async function acknowledge({ callId, caller, callee }: Dialog, cseq = 1): Promise<SipMessage> {
  within(caller, 'ACK', callId, cseq);
  return (await callee.agent.next(isRequest('ACK', callId))).message;
}

/** A request inside the dialog and its 200, as the two sides have them. */
export async function ask(
  { callId }: Dialog,
  from: Side,
  to: Side,
  method: string,
  cseq: number,
): Promise<{ got: SipMessage; ok: SipMessage }> {
  within(from, method, callId, cseq);
  const arrival = await to.agent.next(isRequest(method, callId));
  to.agent.reply(arrival, 200, 'OK', method === 'INVITE' ? [['Contact', `<${from.target}>`]] : []);
  const answer = await from.agent.next(
    (a) => isResponse(200, callId)(a) && a.message.cseq.method === method && a.message.cseq.number === cseq,
  );
  return { got: arrival.message, ok: answer.message };
}
