/**
 * A message through the whole packet path, without the kernel: the edge's work for a registration, for
 * a request down a flow, and for a call's INVITE.
 */
import { invite, message, register, registerOk } from '../fixtures.ts';
import type { Case, Suite } from '../suite.ts';
import { BATCH, headerOf, Rig, viasOf } from './rig.ts';

const each = (text: (n: number) => string): string[] => Array.from({ length: BATCH }, (_, n) => text(n));

function passing(name: string, rig: Rig, one: (n: number) => void): Case {
  return { name, ops: BATCH, run: () => rig.turn(one) };
}

/** A rig whose slots hold these messages; `before` sees another set first and gives them. */
function loaded(before: (rig: Rig) => string[]): Rig {
  const rig = new Rig();
  rig.load(before(rig));
  return rig;
}

const fromClient = (rig: Rig) => (n: number) => rig.datagram(n, false);
const fromCore = (rig: Rig) => (n: number) => rig.datagram(n, true);
const fromStream = (rig: Rig) => (n: number) => rig.stream(n);

/** Lets all clients register and be answered; returns what the core was sent. */
function registered(rig: Rig, transport: string, arrive: (n: number) => void): string[] {
  rig.load(each((n) => register(n, transport)));
  const forwarded = rig.pass(arrive);
  rig.load(forwarded.map((text, n) => registerOk(n, viasOf(text), headerOf(text, 'Path'))));
  rig.pass(fromCore(rig));
  return forwarded;
}

const answers = (rig: Rig, transport: string, arrive: (n: number) => void): string[] =>
  registered(rig, transport, arrive).map((text, n) => registerOk(n, viasOf(text), headerOf(text, 'Path')));

const messages = (rig: Rig, transport: string, arrive: (n: number) => void): string[] =>
  registered(rig, transport, arrive).map((text, n) =>
    message(n, /<sip:([^;>]*)/.exec(headerOf(text, 'Path'))?.[1] ?? ''),
  );

export default function prepare(): Suite {
  const cases: Case[] = [];
  const add = (name: string, from: (rig: Rig) => (n: number) => void, before: (rig: Rig) => string[]) => {
    const rig = loaded(before);
    cases.push(passing(name, rig, from(rig)));
  };
  add('REGISTER in and out, UDP', fromClient, (rig) => {
    registered(rig, 'UDP', fromClient(rig));
    return each((n) => register(n));
  });
  add('its 200 in and out, UDP', fromCore, (rig) => answers(rig, 'UDP', fromClient(rig)));
  add('MESSAGE down a flow, UDP', fromCore, (rig) => messages(rig, 'UDP', fromClient(rig)));
  add('INVITE with SDP in and out, UDP', fromClient, (rig) => {
    registered(rig, 'UDP', fromClient(rig));
    return each((n) => invite(n));
  });
  add('REGISTER in and out, TCP', fromStream, (rig) => {
    registered(rig, 'TCP', fromStream(rig));
    return each((n) => register(n, 'TCP'));
  });
  add('its 200 in and out, to TCP', fromCore, (rig) => answers(rig, 'TCP', fromStream(rig)));
  add('MESSAGE down a flow, TCP', fromCore, (rig) => messages(rig, 'TCP', fromStream(rig)));
  return { cases };
}
