/**
 * Rules about which bindings there are after a REGISTER, as its 200 lists them: one for each instance and reg-id,
 * replaced by the next one and taken away alone.
 */

import type { Incoming } from '../ua/incoming.ts';
import { headerParam, type NameAddr, unquote } from '../wire/nameaddr.ts';
import { parseSipUri } from '../wire/uri.ts';
import type { Probe } from './probe.ts';
import { expect, NotApplicable, type Rule } from './rule.ts';
import { accepted, callIdOf, contactOf, lineOf, newInstance, type Trial } from './trial.ts';

const regIdOf = ({ params }: NameAddr): string | undefined => headerParam(params, 'reg-id');
const instanceOf = ({ params }: NameAddr): string | undefined =>
  unquote(headerParam(params, '+sip.instance') ?? '');
const listed = (contacts: NameAddr[]): string =>
  contacts.length === 0
    ? 'none of ours'
    : contacts.map((contact) => `reg-id ${regIdOf(contact) ?? '-'} at ${hostOf(contact)}`).join(', ');
const hostOf = ({ uri }: NameAddr): string => {
  const parsed = parseSipUri(uri);
  if (!parsed) return uri;
  return parsed.port === undefined ? parsed.host : `${parsed.host}:${parsed.port}`;
};

/** Binds reg-id 1 and 2 of one device, over a flow each. */
async function twoFlows(trial: Trial): Promise<{ first: Probe; instance: string; answer: Incoming }> {
  const instance = newInstance();
  const [first, second] = [await trial.flow(), await trial.flow()];
  await trial.bound(first, instance, 1);
  return { first, instance, answer: await trial.bound(second, instance, 2) };
}

export const BINDINGS: Rule[] = [
  {
    id: 'RG-6-17',
    rfc: '5626 6',
    level: 'MUST',
    title: 'the 200 lists the binding with instance, reg-id and expires',
    async examine(trial) {
      const flow = await trial.flow();
      const instance = newInstance();
      const [binding, ...more] = trial.own(await trial.bound(flow, instance, 1));
      expect(
        binding !== undefined && more.length === 0,
        `${more.length + (binding ? 1 : 0)} bindings of ours`,
      );
      expect(
        instanceOf(binding)?.toLowerCase() === `<${instance}>`,
        `+sip.instance is ${headerParam(binding.params, '+sip.instance') ?? 'missing'}`,
      );
      expect(regIdOf(binding) === '1', `reg-id is ${regIdOf(binding) ?? 'missing'}`);
      const expires = headerParam(binding.params, 'expires');
      expect(/^[1-9]\d*$/.test(expires ?? ''), `expires is ${expires ?? 'missing'}`);
      return `reg-id=1, expires=${expires}`;
    },
  },
  {
    id: 'RG-6-28',
    rfc: '5626 6',
    level: 'rule',
    title: 'a second flow, reg-id 2, does not replace the first; the 200 lists both',
    async examine(trial) {
      const own = trial.own((await twoFlows(trial)).answer);
      expect(own.map(regIdOf).sort().join() === '1,2', listed(own));
      return listed(own);
    },
  },
  {
    id: 'RG-6-16',
    rfc: '5626 6',
    level: 'rule',
    title: 'a new connection with the same instance and reg-id replaces, with a new Call-ID and CSeq 1',
    async examine(trial) {
      const instance = newInstance();
      const [old, young] = [await trial.flow(), await trial.flow()];
      await trial.bound(old, instance, 1);
      const own = trial.own(await trial.bound(young, instance, 1));
      expect(own.length === 1 && own[0].uri === young.contact, listed(own));
      return listed(own);
    },
  },
  {
    id: 'RG-6-26',
    rfc: '5626 6',
    level: 'rule',
    title: 'a UUID in other letter case is the same instance',
    async examine(trial) {
      const instance = newInstance();
      const [old, young] = [await trial.flow(), await trial.flow()];
      await trial.bound(old, instance, 1);
      const own = trial.own(
        await trial.bound(young, instance.toUpperCase().replace('URN:UUID', 'urn:uuid'), 1),
      );
      expect(own.length === 1, listed(own));
      return 'replaced';
    },
  },
  {
    id: 'RG-6-13',
    rfc: '5626 6',
    level: 'MUST',
    title: 'an ordinary binding stands beside one with outbound',
    async examine(trial) {
      const [flow, other] = [await trial.flow(), await trial.flow()];
      await trial.bound(flow, newInstance(), 1);
      const answer = await trial.register(other, { contacts: [contactOf(other.contact)] });
      if (answer.status >= 300) throw new NotApplicable(`it takes no ordinary binding: ${lineOf(answer)}`);
      const own = trial.own(answer);
      expect(own.length === 2, listed(own));
      return listed(own);
    },
  },
  {
    id: 'RG-6-30',
    rfc: '3261 10.3',
    level: 'MUST',
    title: 'a REGISTER with a lower CSeq in the same Call-ID changes nothing',
    async examine(trial) {
      const [old, young] = [await trial.flow(), await trial.flow()];
      const instance = newInstance();
      const callId = callIdOf();
      const contacts = (probe: Probe) => [contactOf(probe.contact, instance, 1)];
      accepted(await trial.register(old, { contacts: contacts(old), callId, cseq: 50 }));
      const answer = await trial.register(young, { contacts: contacts(young), callId, cseq: 20 });
      const own = trial.own(await trial.ask(old));
      expect(
        own.length === 1 && own[0].uri === old.contact,
        `${lineOf(answer)}, and bound is ${listed(own)}`,
      );
      expect(answer.status >= 300, `${lineOf(answer)}, though nothing was changed`);
      return lineOf(answer);
    },
  },
  {
    id: 'RG-6-32',
    rfc: '5626 4.2.2, 6',
    level: 'rule',
    title: 'expires=0 with instance and reg-id takes away that flow alone',
    async examine(trial) {
      const { first, instance } = await twoFlows(trial);
      const answer = accepted(
        await trial.register(first, { contacts: [contactOf(first.contact, instance, 1)], expires: 0 }),
      );
      const own = trial.own(answer);
      expect(own.map(regIdOf).join() === '2', listed(own));
      return listed(own);
    },
  },
];
