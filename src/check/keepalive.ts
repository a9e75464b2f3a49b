/**
 * Rules about pings on connections (RFC 5626 4.4.1, 5.4). Pongs are counted after an answer to a REGISTER that was sent
 * later on the same connection: what the edge had to say before has been said then, so that "exactly one" needs no wait.
 */
import type { Probe } from './probe.ts';
import { expect, NotApplicable, type Rule } from './rule.ts';
import { callIdOf, newInstance, type Trial } from './trial.ts';

const PING = '\r\n\r\n';
/** 4.4.1: after that a user agent takes the flow for dead */
const PONG_MS = 10_000;
/** between segments that must not be joined on the way */
const APART_MS = 50;

const count = (pongs: number): string => `${pongs} ${pongs === 1 ? 'pong' : 'pongs'}`;

/** So many pongs and no more, and how long the last one took from now. */
async function pongs(trial: Trial, flow: Probe, wanted: number): Promise<string> {
  const most = Math.min(PONG_MS, trial.patience);
  const began = performance.now();
  await flow.until(() => flow.pongs >= wanted, most);
  const ms = performance.now() - began;
  expect(flow.pongs >= wanted, `${count(flow.pongs)} in ${most / 1000} s`);
  await trial.ask(flow);
  expect(flow.pongs === wanted, count(flow.pongs));
  return `${count(wanted)} in ${ms.toFixed(1)} ms`;
}

/** A REGISTER that asks what is bound, as octets, to be put next to others in one write. */
function question(trial: Trial, flow: Probe): { octets: Buffer; answered: () => boolean } {
  const callId = callIdOf();
  const { registrar, aor } = trial.subject.settings;
  const octets = trial.octets(flow, 'REGISTER', registrar, { callId, to: `<${aor}>` });
  return { octets, answered: () => flow.responses.some((r) => r.callId === callId && r.status >= 200) };
}

const apart = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, APART_MS));

export const KEEP_ALIVES: Rule[] = [
  {
    id: 'EP-5.4-02',
    rfc: '5626 5.4, 4.4.1',
    level: 'MUST',
    over: 'connections',
    title: 'a ping is answered by one CRLF',
    async examine(trial) {
      const flow = await trial.flow();
      flow.send(Buffer.from(PING));
      return await pongs(trial, flow, 1);
    },
  },
  {
    id: 'EP-5.4-04',
    rfc: '5626 5.4',
    level: 'rule',
    over: 'streams',
    title: 'two pings in one segment are answered by two',
    async examine(trial) {
      const flow = await trial.flow();
      flow.send(Buffer.from(PING + PING));
      return await pongs(trial, flow, 2);
    },
  },
  {
    id: 'EP-5.4-03a',
    rfc: '5626 5.4',
    level: 'rule',
    over: 'streams',
    title: 'a ping in three segments is one ping',
    async examine(trial) {
      const flow = await trial.flow();
      for (const part of ['\r', '\n\r', '\n']) {
        flow.send(Buffer.from(part));
        await apart();
      }
      await pongs(trial, flow, 1);
      return '1 pong';
    },
  },
  {
    id: 'EP-5.4-03b',
    rfc: '5626 5.4',
    level: 'rule',
    over: 'streams',
    title: 'a ping right before a message, and between two, is answered, and so are they',
    async examine(trial) {
      const flow = await trial.flow();
      const asked = [question(trial, flow), question(trial, flow), question(trial, flow)];
      const [first, second, third] = asked.map(({ octets }) => octets);
      const ping = Buffer.from(PING);
      flow.send(Buffer.concat([ping, first, second, ping, third]));
      const all = () => asked.every(({ answered }) => answered());
      const whole = await flow.until(all, trial.patience);
      expect(whole, `${asked.filter(({ answered }) => answered()).length} of 3 requests answered`);
      await pongs(trial, flow, 2);
      return '3 answers, 2 pongs';
    },
  },
  {
    id: '3261-7.5-01',
    rfc: '3261 7.5',
    level: 'SHOULD',
    over: 'streams',
    title: 'a lone CRLF before a message is no ping, and the message is read',
    async examine(trial) {
      const flow = await trial.flow();
      const { octets, answered } = question(trial, flow);
      flow.send(Buffer.concat([Buffer.from('\r\n'), octets]));
      expect(await flow.until(answered, trial.patience), 'no answer to the message');
      await trial.ask(flow);
      expect(flow.pongs === 0, count(flow.pongs));
      return 'answered, no pong';
    },
  },
  {
    id: 'EP-5.4-08',
    rfc: '5626 5.4',
    level: 'MUST',
    slow: true,
    title: 'a flow that was silent for all of Flow-Timer is still there',
    async examine(trial) {
      const flow = await trial.flow();
      const answer = await trial.bound(flow, newInstance(), 1);
      const seconds = answer.seconds('flow-timer');
      if (seconds === undefined) throw new NotApplicable('no Flow-Timer');
      const closed = await flow.until(() => flow.ended !== undefined || trial.signal.aborted, seconds * 1000);
      expect(!closed, `closed (${flow.ended}) within Flow-Timer, ${seconds} s`);
      const callId = callIdOf();
      const caller = await trial.flow();
      const { status } = await trial.message(caller, callId);
      expect(flow.got(callId, 'MESSAGE'), `after ${seconds} s a MESSAGE is answered ${status}`);
      return `reached after ${seconds} s of silence`;
    },
  },
];
