/**
 * Rules about what the answer to a REGISTER says: outbound or not, Path, Flow-Timer and `keep`, rport. An edge with a
 * registrar behind it shows in the 200 alone; so a rule about the registrar fails also where a proxy on the way is at
 * fault.
 */
import type { Incoming } from '../ua/incoming.ts';
import { keepOf } from '../ua/registration.ts';
import { parseNameAddr } from '../wire/nameaddr.ts';
import { parseSipUri, uriParam } from '../wire/uri.ts';
import { Via } from '../wire/via.ts';
import { expect, Failed, NotApplicable, type Rule } from './rule.ts';
import { accepted, contactOf, lineOf, newInstance } from './trial.ts';

/** Longer than a day is no interval for keep-alives. */
const MOST_FLOW_TIMER_S = 86_400;

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
];
