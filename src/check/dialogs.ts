/**
 * Rules about dialogs (RFC 5626 4.3, 5.3). One flow without a registration calls the AOR, with `ob` in a Contact that
 * nobody can be reached at; a registered flow answers, with such a Contact too. So what comes inside the dialog has come
 * by the tokens that the edge put into Record-Route, and by nothing else.
 *
 * The token of the caller's flow is learned from there. It is the only one that a user agent can get at and use: Path is
 * the registrar's, and Route down a flow comes from the core.
 */
import { parseNameAddr } from '../wire/nameaddr.ts';
import { formatUri, parseSipUri } from '../wire/uri.ts';
import { type Call, call, within } from './calls.ts';
import type { Probe } from './probe.ts';
import { expect, NotApplicable, type Rule } from './rule.ts';
import { resettable, somePort } from './sameport.ts';
import { lineOf, type Trial } from './trial.ts';

/** Goes through every proxy, and a probe answers it by itself. */
const INSIDE = 'OPTIONS';
/** in use, most likely, is none of them */
const MOST_PORTS = 5;

const userOf = (route: string): string => parseSipUri(parseNameAddr(route)?.uri ?? '')?.user ?? '';

/** The Route values that lead from the called end back, and the token of the caller's flow: the last user among them. */
function tokenIn({ callee }: Call): { routes: readonly string[]; token: string } {
  const { routes } = callee.dialog;
  const token = routes.map(userOf).findLast((user) => user !== '');
  if (token === undefined) throw new NotApplicable('no token in Record-Route');
  return { routes, token };
}

/** Another character in the middle of the token, also where an edge names itself twice. */
function tampered(route: string, token: string): string {
  const uri = parseSipUri(parseNameAddr(route)?.uri ?? '');
  if (uri?.user !== token) return route;
  const middle = token.length >> 1;
  const other = token[middle] === 'A' ? 'B' : 'A';
  return `<${formatUri({ ...uri, user: token.slice(0, middle) + other + token.slice(middle + 1) })}>`;
}

/** A flow from a port that can be used again. */
async function fromSomePort(trial: Trial): Promise<{ port: number; reset: () => void; probe: Probe }> {
  for (let tries = 1; ; tries++) {
    const port = somePort();
    const { dial, reset } = resettable(port);
    try {
      return { port, reset, probe: await trial.flow(dial) };
    } catch (error) {
      if (tries === MOST_PORTS) throw error;
    }
  }
}

export const DIALOGS: Rule[] = [
  {
    id: 'EP-5.3.1-01',
    rfc: '5626 5.3.1',
    level: 'rule',
    title: 'inside a dialog a request of the caller comes down the flow of who was called',
    async examine(trial) {
      const { callId, caller, callee } = await call(trial);
      const answer = await within(trial, caller, INSIDE);
      expect(callee.probe.got(callId, INSIDE), `not at the flow: ${lineOf(answer)}`);
      expect(answer.status === 200, lineOf(answer));
      return `${INSIDE} at the flow`;
    },
  },
  {
    id: 'EP-5.3.2-01',
    rfc: '5626 4.3, 5.3.2',
    level: 'rule',
    title: 'inside a dialog a request of who was called comes down the flow of the caller, by ob',
    async examine(trial) {
      const { callId, caller, callee } = await call(trial);
      const answer = await within(trial, callee, INSIDE);
      expect(caller.probe.got(callId, INSIDE), `not at the flow: ${lineOf(answer)}`);
      expect(answer.status === 200, lineOf(answer));
      return `${INSIDE} at the flow`;
    },
  },
  {
    id: 'EP-5.3.1-04',
    rfc: '5626 5.3.1',
    level: 'SHOULD',
    title: 'a flow token that somebody has changed is refused with 403',
    async examine(trial) {
      const made = await call(trial);
      const { callId, caller, callee } = made;
      const { routes, token } = tokenIn(made);
      const wrong = routes.map((route) => tampered(route, token));
      const answer = await within(trial, callee, INSIDE, wrong);
      expect(!caller.probe.got(callId, INSIDE), `it came to the flow all the same: ${lineOf(answer)}`);
      expect(answer.status === 403, lineOf(answer));
      return lineOf(answer);
    },
  },
  {
    id: 'EP-5.3.1-05',
    rfc: '5626 5.3.1, 11.5',
    level: 'SHOULD',
    title: 'the token of a flow that has closed is answered 430, at once',
    async examine(trial) {
      const made = await call(trial);
      const { caller, callee } = made;
      tokenIn(made);
      caller.probe.close();
      await caller.probe.until(() => caller.probe.ended !== undefined, trial.patience);
      const began = performance.now();
      const asked = within(trial, callee, INSIDE);
      const answer = await asked.catch((error: Error) => {
        if (trial.overUdp) throw new NotApplicable(`${error.message}: it has not seen the end of a UDP flow`);
        throw error;
      });
      if (trial.overUdp && answer.status === 408)
        throw new NotApplicable('408: it has not seen the end of a UDP flow');
      expect(answer.status === 430, lineOf(answer));
      return `${lineOf(answer)}, ${(performance.now() - began).toFixed(0)} ms`;
    },
  },
  {
    id: 'EP-3.4-01',
    rfc: '5626 3.4, 5.2',
    level: 'rule',
    over: 'tcp',
    title: 'the token of a closed connection does not lead to the next one from the same address and port',
    async examine(trial) {
      const { port, reset, probe } = await fromSomePort(trial);
      const made = await call(trial, probe);
      const { callId, callee } = made;
      tokenIn(made);
      reset();
      await probe.until(() => probe.ended !== undefined, trial.patience);
      const again = resettable(port);
      const stranger = await trial.flow(again.dial).catch((error: Error) => {
        throw again.taken ? new NotApplicable(`port ${port} of this machine was taken meanwhile`) : error;
      });
      await trial.ask(stranger);
      const answer = await within(trial, callee, INSIDE);
      expect(!stranger.got(callId, INSIDE), 'it came down the new connection');
      return `${lineOf(answer)}, and nothing at the new connection`;
    },
  },
];
