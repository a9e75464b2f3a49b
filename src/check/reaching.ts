/**
 * Rules about requests to the AOR: they come down the flow that was registered and no other, and another flow of the
 * device serves when one is gone. The caller is a flow of its own, without a registration, in the name of the same user.
 *
 * Over UDP an edge learns of a flow's end by ICMP or not at all. A rule that needs the end to be seen fails there only
 * by a wrong answer; silence proves nothing.
 */
import type { Incoming } from '../ua/incoming.ts';
import type { Probe } from './probe.ts';
import { expect, Failed, NotApplicable, type Rule } from './rule.ts';
import { callIdOf, lineOf, newInstance, type Trial } from './trial.ts';

const MESSAGE = 'MESSAGE';

/** The answer to a MESSAGE to the AOR. Who must log in, or may not call, cannot see these rules. */
async function called(trial: Trial, caller: Probe, callId: string): Promise<Incoming> {
  const answer = await trial.message(caller, callId);
  const { status } = answer;
  if (status === 401 || status === 403 || status === 405 || status === 407)
    throw new NotApplicable(`MESSAGE is answered ${lineOf(answer)}`);
  return answer;
}

/** It has come to this flow and to none of the others, also not on the way. */
async function arrivedAt(
  trial: Trial,
  callId: string,
  answer: Incoming,
  flow: Probe,
  others: readonly Probe[],
): Promise<void> {
  expect(flow.got(callId, MESSAGE), `not at the flow: the caller is answered ${lineOf(answer)}`);
  for (const other of others) {
    if (other.connection) await trial.ask(other);
    expect(!other.got(callId, MESSAGE), 'at another flow too');
  }
  expect(answer.status === 200, `it arrived, and the caller is answered ${lineOf(answer)}`);
}

/** Reaches one of them, and says which. */
async function reaches(trial: Trial, caller: Probe, flows: readonly Probe[]): Promise<Probe> {
  const callId = callIdOf();
  const answer = await called(trial, caller, callId);
  const there = flows.find((flow) => flow.got(callId, MESSAGE));
  if (!there) throw new Failed(`at none: the caller is answered ${lineOf(answer)}`);
  await arrivedAt(
    trial,
    callId,
    answer,
    there,
    flows.filter((flow) => flow !== there),
  );
  return there;
}

async function closed(trial: Trial, flow: Probe): Promise<void> {
  flow.close();
  await flow.until(() => flow.ended !== undefined, trial.patience);
}

/** Silence, or a timeout of the edge's, about an ended UDP flow is no verdict. */
function unseen(trial: Trial, error: unknown): never {
  if (trial.overUdp && error instanceof Failed && /\b408\b|no answer/.test(error.message))
    throw new NotApplicable(`${error.message}: it has not seen the end of a UDP flow`);
  throw error;
}

async function deviceOf(trial: Trial, flows: number): Promise<Probe[]> {
  const instance = newInstance();
  const probes: Probe[] = [];
  for (let regId = 1; regId <= flows; regId++) {
    const probe = await trial.flow();
    await trial.bound(probe, instance, regId, probe.unroutable);
    probes.push(probe);
  }
  return probes;
}

export const REACHING: Rule[] = [
  {
    id: 'EP-5.3.1-03',
    rfc: '5626 5.3.1, 6',
    level: 'MUST',
    title: 'a request to the AOR comes down the registered flow, whatever address Contact has',
    async examine(trial) {
      const [flow] = await deviceOf(trial, 1);
      await reaches(trial, await trial.flow(), [flow]);
      return `MESSAGE to ${trial.aor} at the flow, Contact ${flow.unroutable}`;
    },
  },
  {
    id: 'AP-7-01',
    rfc: '5626 7',
    level: 'MUST',
    title: 'of two flows of one device, one gets a request',
    async examine(trial) {
      const flows = await deviceOf(trial, 2);
      const there = await reaches(trial, await trial.flow(), flows);
      return `at reg-id ${flows.indexOf(there) + 1} alone`;
    },
  },
  {
    id: 'AP-7-03',
    rfc: '5626 7',
    level: 'MUST',
    title: 'what one flow of a device refuses is not sent over the next',
    async examine(trial) {
      const flows = await deviceOf(trial, 2);
      for (const flow of flows) flow.respond = (exchange) => flow.refuse(exchange, 486);
      const callId = callIdOf();
      const answer = await called(trial, await trial.flow(), callId);
      for (const flow of flows) await trial.ask(flow);
      const count = flows.filter((flow) => flow.got(callId, MESSAGE)).length;
      expect(count === 1, `486 from ${count} flows`);
      expect(answer.status === 486, `486 comes back as ${lineOf(answer)}`);
      return '486 from one of them, and the caller has it';
    },
  },
  {
    id: 'RG-6-22',
    rfc: '5626 6',
    level: 'MUST',
    title: 'registered anew, a request comes down the new flow, also after the old one has closed',
    async examine(trial) {
      const instance = newInstance();
      const [old, young, caller] = [await trial.flow(), await trial.flow(), await trial.flow()];
      await trial.bound(old, instance, 1, old.unroutable);
      await trial.bound(young, instance, 1, young.unroutable);
      expect((await reaches(trial, caller, [old, young])) === young, 'at the old flow');
      await closed(trial, old);
      await reaches(trial, caller, [young]);
      return 'at the new flow both times';
    },
  },
  {
    id: 'AP-7-02',
    rfc: '5626 7, 11.5',
    level: 'SHOULD',
    title: 'when the flow that was used has closed, the other one serves',
    async examine(trial) {
      const flows = await deviceOf(trial, 2);
      const caller = await trial.flow();
      const used = await reaches(trial, caller, flows);
      await closed(trial, used);
      const [other] = flows.filter((flow) => flow !== used);
      try {
        await reaches(trial, caller, [other]);
      } catch (error) {
        unseen(trial, error);
      }
      return `reg-id ${flows.indexOf(used) + 1} closed, at reg-id ${flows.indexOf(other) + 1}`;
    },
  },
  {
    id: 'AP-7-11',
    rfc: '5626 7, 9.3',
    level: 'rule',
    title: 'when the only flow has closed, the caller hears that nobody is there, and no 430',
    async examine(trial) {
      const [flow] = await deviceOf(trial, 1);
      await closed(trial, flow);
      try {
        const answer = await called(trial, await trial.flow(), callIdOf());
        expect([404, 410, 480].includes(answer.status), lineOf(answer));
        return lineOf(answer);
      } catch (error) {
        return unseen(trial, error);
      }
    },
  },
];
