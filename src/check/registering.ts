/**
 * Rules about REGISTER and what its 200 says: outbound accepted, Path, Flow-Timer and `keep`, rport, and which bindings
 * there are afterwards. What an edge with a registrar behind it does, shows in the 200 alone; so a rule about the
 * registrar fails also where a proxy on the way is at fault.
 */
import type { Incoming } from '../ua/incoming.ts';
import { keepOf } from '../ua/registration.ts';
import { headerParam, type NameAddr, parseNameAddr, unquote } from '../wire/nameaddr.ts';
import { parseSipUri, uriParam } from '../wire/uri.ts';
import { Via } from '../wire/via.ts';
import type { Probe } from './probe.ts';
import { expect, Failed, NotApplicable, type Rule } from './rule.ts';
import { callIdOf, contactOf, lineOf, newInstance, type Trial } from './trial.ts';

/** Longer than a day is no interval for keep-alives. */
const MOST_FLOW_TIMER_S = 86_400;

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

function accepted(answer: Incoming): Incoming {
  expect(answer.status < 300, lineOf(answer));
  return answer;
}

/** The rule is about what is done with a REGISTER that is accepted: a refusal is an answer of its own. */
function ordinary(answer: Incoming, what: string): string {
  expect(answer.status !== 439, '439 although it did not ask for outbound');
  if (answer.status >= 300) return `refused: ${lineOf(answer)}`;
  expect(!answer.hasTag('require', 'outbound'), `${what} is answered with Require: outbound`);
  return `${answer.status} without outbound in Require`;
}

function pathOf(answer: Incoming): string[] {
  const path = answer.list('path');
  if (path.length === 0)
    throw new NotApplicable('the 200 has no Path: the registrar may see the flow itself');
  return path;
}

/** Binds reg-id 1 and 2 of one device, over a flow each. */
async function twoFlows(trial: Trial): Promise<{ first: Probe; instance: string; answer: Incoming }> {
  const instance = newInstance();
  const [first, second] = [await trial.flow(), await trial.flow()];
  await trial.bound(first, instance, 1);
  return { first, instance, answer: await trial.bound(second, instance, 2) };
}

const via = new Via();

/** The topmost Via of an answer, as the edge filled it in. */
export function seenFrom(answer: Incoming): { received: string; rport: number } {
  const bytes = Buffer.from(`${answer.header('via') ?? ''}\0`, 'latin1');
  expect(via.parse(bytes, 0, bytes.length - 1), 'the Via of the answer cannot be read');
  return { received: bytes.toString('latin1', via.receivedStart, via.receivedEnd), rport: via.rport };
}

export const REGISTERING: Rule[] = [
  {
    id: 'RG-6-18',
    rfc: '5626 6',
    level: 'MUST',
    title: 'REGISTER with reg-id and +sip.instance is accepted with outbound in Require',
    async examine(trial) {
      const flow = await trial.flow();
      const answer = await trial.register(flow, { contacts: [contactOf(flow.contact, newInstance(), 1)] });
      if (answer.status === 401 || answer.status === 407)
        throw new Failed(
          trial.subject.settings.account
            ? `${lineOf(answer)}: it does not take the password`
            : `${lineOf(answer)}: it wants a password (--password-file)`,
        );
      accepted(answer);
      expect(answer.hasTag('require', 'outbound'), `${lineOf(answer)} without outbound in Require`);
      return `${lineOf(answer)}, Require: outbound`;
    },
  },
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
    id: 'EP-5.1-08',
    rfc: '5626 5.1',
    level: 'MUST',
    title: 'the Path of the first hop is a loose route with a flow token and ob',
    async examine(trial) {
      const path = pathOf(await trial.bound(await trial.flow(), newInstance(), 1));
      const last = path[path.length - 1];
      const uri = parseSipUri(parseNameAddr(last)?.uri ?? '');
      expect(uri !== undefined, `Path is ${last}`);
      expect(uriParam(uri, 'ob') !== undefined, `no ob: ${last}`);
      expect(uriParam(uri, 'lr') !== undefined, `no lr: ${last}`);
      expect((uri.user ?? '') !== '', `no token: ${last}`);
      return `token of ${uri.user?.length} characters, lr, ob`;
    },
  },
  {
    id: 'EP-5.1-06',
    rfc: '5626 5.1',
    level: 'MUST',
    title: 'two flows have two tokens',
    async examine(trial) {
      const instance = newInstance();
      const one = pathOf(await trial.bound(await trial.flow(), instance, 1)).join();
      const other = pathOf(await trial.bound(await trial.flow(), instance, 2)).join();
      expect(one !== other, `both have ${one}`);
      return 'they differ';
    },
  },
  {
    id: 'EP-5.4-06',
    rfc: '5626 5.4, 10',
    level: 'MAY',
    title: 'Flow-Timer tells the interval of keep-alives',
    async examine(trial) {
      const answer = await trial.bound(await trial.flow(), newInstance(), 1);
      const values = answer.fields('flow-timer');
      expect(values.length > 0, 'no Flow-Timer: a dead flow is found by the default intervals');
      expect(values.length === 1, `${values.length} Flow-Timer headers`);
      const seconds = answer.seconds('flow-timer');
      expect(seconds !== undefined, `Flow-Timer: ${values[0]}`);
      expect(seconds > 0 && seconds <= MOST_FLOW_TIMER_S, `Flow-Timer: ${seconds}`);
      return `Flow-Timer: ${seconds}`;
    },
  },
  {
    id: '6223-4.4-01',
    rfc: '6223 4.4, 5',
    level: 'MUST',
    title: 'keep in Via gets a value, that of Flow-Timer where there is one',
    async examine(trial) {
      const flow = await trial.flow();
      const answer = accepted(
        await trial.register(flow, { contacts: [contactOf(flow.contact, newInstance(), 1)], keep: true }),
      );
      const keep = keepOf(answer);
      if (keep === undefined) throw new NotApplicable('it offers no keep-alives by RFC 6223');
      const timer = answer.seconds('flow-timer');
      expect(timer === undefined || timer === keep, `keep=${keep}, Flow-Timer: ${timer}`);
      return `keep=${keep}`;
    },
  },
  {
    id: '3581-4-01',
    rfc: '3581 4',
    level: 'MUST',
    title: 'rport and received are filled in',
    async examine(trial) {
      const flow = await trial.flow();
      const { received, rport } = seenFrom(await trial.ask(flow));
      const { localHost = '', localPort = 0 } = flow.connection ?? {};
      if (trial.overWebSocket) {
        // a browser knows no address of its own to compare with
        if (rport <= 0 || received === '')
          throw new NotApplicable('over a WebSocket it may be left out (7118 5.3)');
        return `received=${received}, rport=${rport}`;
      }
      expect(rport > 0, 'rport has no value');
      expect(received !== '', 'no received');
      // behind a NAT it is another address, and then another port is right too
      expect(received !== localHost || rport === localPort, `rport=${rport}, sent from ${localPort}`);
      return `received=${received}, rport=${rport}${received === localHost ? '' : `, through a NAT from ${localHost}:${localPort}`}`;
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
    id: 'RG-6-08',
    rfc: '5626 6',
    level: 'MUST',
    title: 'an instance without reg-id is no outbound registration',
    async examine(trial) {
      const flow = await trial.flow();
      const answer = await trial.register(flow, { contacts: [contactOf(flow.contact, newInstance())] });
      return ordinary(answer, 'it');
    },
  },
  {
    id: 'RG-6-09',
    rfc: '5626 6',
    level: 'MUST',
    title: 'reg-id without an instance is ignored',
    async examine(trial) {
      const flow = await trial.flow();
      const answer = await trial.register(flow, { contacts: [contactOf(flow.contact, undefined, 1)] });
      return ordinary(answer, 'it');
    },
  },
  {
    id: 'RG-6-19',
    rfc: '5626 6',
    level: 'rule',
    title: 'who does not support outbound gets no outbound in Require, and no 439',
    async examine(trial) {
      const flow = await trial.flow();
      const contacts = [contactOf(flow.contact, newInstance(), 1)];
      return ordinary(await trial.register(flow, { contacts, supported: 'path' }), 'it');
    },
  },
  {
    id: 'GR-10-01',
    rfc: '5626 10',
    level: 'MUST',
    title: 'reg-id 0 is refused or ignored',
    async examine(trial) {
      const flow = await trial.flow();
      const answer = await trial.register(flow, { contacts: [contactOf(flow.contact, newInstance(), 0)] });
      return ordinary(answer, 'reg-id 0');
    },
  },
  {
    id: 'RG-6-11',
    rfc: '5626 6',
    level: 'SHOULD',
    title: 'two Contacts to bind at once, one with reg-id, are refused with 400',
    async examine(trial) {
      const [flow, other] = [await trial.flow(), await trial.flow()];
      const answer = await trial.register(flow, {
        contacts: [contactOf(flow.contact, newInstance(), 1), contactOf(other.contact)],
      });
      expect(answer.status === 400, lineOf(answer));
      return lineOf(answer);
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
