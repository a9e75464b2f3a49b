/**
 * A small edge and registrar in the test's own process, well-mannered unless it is told to be wrong in one thing: so a
 * test sees that the rule about this thing fails, and that it does not fail otherwise.
 *
 * It keeps bindings by instance and reg-id, answers pings and STUN, and passes a MESSAGE on to the flow that registered
 * last. It has no dialogs, and does not notice that a flow ends.
 */
import { type Agent, TcpCore, UdpAgent } from '../harness/agent.ts';
import type { Arrival } from '../harness/inbox.ts';
import { bindingAnswer } from '../harness/phone.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { compose, type Header, newBranch, parseNameAddr, response, type SipMessage } from '../harness/sip.ts';
import { stun } from '../harness/stun.ts';

export interface Manners {
  /** CR LFs in answer to one ping */
  pongs: number;
  /** what makes a ping: a pair of CR LF, or each of them */
  crlfs: number;
  flowTimer: string[];
  /** in Require of the 200 */
  outbound: boolean;
  path: string;
  keep: string;
  rport: boolean;
  /** key of a binding */
  key: (instance: string, regId: string, uri: string) => string;
  regIdZero: boolean;
  lowCseq: boolean;
  /** which of the bindings, newest first, get a MESSAGE */
  reached: (newestFirst: Binding[]) => Binding[];
  /** tries the next binding after a refusal */
  insists: boolean;
  mapped: (port: number) => number | undefined;
  unknownRequired: 'refused' | 'ignored';
  indications: 'ignored' | 'answered';
  silentTo: (message: SipMessage) => boolean;
}

const GOOD: Manners = {
  pongs: 1,
  crlfs: 2,
  flowTimer: ['120'],
  outbound: true,
  path: '<sip:TOKEN@edge.test;lr;ob>',
  keep: '120',
  rport: true,
  key: (instance, regId) => `${instance.toLowerCase()} ${regId}`,
  regIdZero: false,
  lowCseq: false,
  reached: ([newest]) => [newest],
  insists: false,
  mapped: (port) => port,
  unknownRequired: 'refused',
  indications: 'ignored',
  silentTo: () => false,
};

interface Binding {
  key: string;
  contact: string;
  callId: string;
  cseq: number;
  arrival: Arrival;
}

export class SmallEdge {
  readonly #agent: Agent;
  readonly #manners: Manners;
  #bindings: Binding[] = [];
  /** CR LFs since the last message, by the port of the client */
  readonly #crlfs = new Map<number, number>();
  /** by branch: who asked, and who may be asked next */
  readonly #forwarded = new Map<string, { caller: Arrival; rest: Binding[] }>();

  private constructor(agent: Agent, manners: Partial<Manners>) {
    this.#agent = agent;
    this.#manners = { ...GOOD, ...manners };
    agent.deliver = (arrival) => this.#take(arrival);
  }

  static async open(transport: 'udp' | 'tcp', manners: Partial<Manners> = {}): Promise<SmallEdge> {
    const host = freshHost();
    const at = { host, port: await freePort(host) };
    return new SmallEdge(await (transport === 'udp' ? UdpAgent.open(at) : TcpCore.open(at)), manners);
  }

  get uri(): string {
    return `sip:${this.#agent.hostPort};transport=${this.#agent.transport.toLowerCase()}`;
  }

  /** How many Contacts are bound. */
  get bound(): number {
    return this.#bindings.length;
  }

  close(): Promise<void> {
    return this.#agent.close();
  }

  #take(arrival: Arrival): void {
    const { kind, message, from } = arrival;
    if (kind === 'crlf') {
      const count = (this.#crlfs.get(from.port) ?? 0) + 1;
      this.#crlfs.set(from.port, count);
      if (count % this.#manners.crlfs === 0) arrival.answer(Buffer.from('\r\n'.repeat(this.#manners.pongs)));
      return;
    }
    this.#crlfs.delete(from.port);
    if (kind === 'stun') this.#stun(arrival);
    else if (kind === 'sip' && !this.#manners.silentTo(message)) {
      if (message.method === 'REGISTER') this.#register(arrival);
      else if (message.isRequest)
        this.#forward(arrival, this.#manners.reached([...this.#bindings].reverse()));
      else this.#back(arrival);
    }
  }

  #stun({ stun: request, bytes, from, answer }: Arrival): void {
    const { mapped, unknownRequired, indications } = this.#manners;
    if (!request) return;
    const strange = request.attributes.some(({ type }) => type < 0x8000);
    const isRequest = bytes[1] === 0x01;
    if (!isRequest && indications === 'ignored') return;
    if (strange && unknownRequired === 'refused') {
      const types = Buffer.alloc(2);
      types.writeUInt16BE(request.attributes[0].type);
      const attributes = [
        { type: 0x0009, value: Buffer.from([0, 0, 4, 20]) },
        { type: 0x000a, value: types },
      ];
      answer(stun({ type: 0x0111, id: request.id, attributes }));
      return;
    }
    const port = mapped(from.port);
    if (port === undefined) return;
    answer(bindingAnswer(request.id, { host: from.host, port }));
  }

  /** The response, with the top Via filled in. */
  #answer(arrival: Arrival, status: number, headers: Header[] = []): void {
    const { rport, keep } = this.#manners;
    const filled = arrival.message.headers.map(([name, value], i): Header => {
      if (i > 0 || name !== 'Via') return [name, value];
      const seen = rport
        ? value.replace(';rport', `;received=${arrival.from.host};rport=${arrival.from.port}`)
        : value;
      return [name, keep === '' ? seen : seen.replace(/;keep$/, `;keep=${keep}`)];
    });
    const request = Object.assign(Object.create(arrival.message), { headers: filled }) as SipMessage;
    arrival.answer(response(request, status, status === 200 ? 'OK' : 'Refused', headers));
  }

  #register(arrival: Arrival): void {
    const { message } = arrival;
    const manners = this.#manners;
    const contacts = message.all('Contact').map((text) => ({ text, ...parseNameAddr(text) }));
    const supports = message.all('Supported').includes('outbound');
    const uses = contacts.some(({ params }) => params.has('reg-id') && params.has('+sip.instance'));
    const refused = (status: number) => this.#answer(arrival, status);
    if (contacts.length > 1 && uses) {
      refused(400);
      return;
    }
    for (const { text, uri, params } of contacts) {
      const regId = params.get('reg-id') ?? '';
      if (regId === '0' && !manners.regIdZero) {
        refused(400);
        return;
      }
      const instance = params.get('+sip.instance') ?? '';
      const key = instance && regId ? manners.key(instance, regId, uri) : uri;
      const known = this.#bindings.find((binding) => binding.key === key);
      const low = known?.callId === message.callId && known.cseq >= message.cseq.number;
      if (low && !manners.lowCseq) {
        refused(500);
        return;
      }
      this.#bindings = this.#bindings.filter((binding) => binding !== known);
      if ((params.get('expires') ?? message.header('Expires')) === '0') continue;
      const { callId } = message;
      this.#bindings.push({ key, contact: text, callId, cseq: message.cseq.number, arrival });
    }
    this.#answer(arrival, 200, [
      ...(uses && supports && manners.outbound ? [['Require', 'outbound'] as const] : []),
      ...(uses ? manners.flowTimer.map((value) => ['Flow-Timer', value] as const) : []),
      ...(manners.path === '' ? [] : [['Path', manners.path] as const]),
      ...this.#bindings.map(({ contact }) => ['Contact', `${contact};expires=600`] as const),
    ]);
  }

  #forward(caller: Arrival, to: Binding[]): void {
    if (to[0] === undefined) {
      this.#answer(caller, 480);
      return;
    }
    const together = this.#manners.insists ? to.slice(0, 1) : to;
    for (const { arrival } of together) {
      const branch = newBranch();
      const via: Header = [
        'Via',
        `SIP/2.0/${this.#agent.transport} ${this.#agent.hostPort};branch=${branch}`,
      ];
      const { method, uri, headers, body } = caller.message;
      this.#forwarded.set(branch, { caller, rest: this.#manners.insists ? to.slice(1) : [] });
      arrival.answer(compose(`${method} ${uri} SIP/2.0`, [via, ...headers], body));
    }
  }

  #back({ message }: Arrival): void {
    const forwarded = this.#forwarded.get(message.via[0]?.branch ?? '');
    if (!forwarded || message.status < 200) return;
    const { caller, rest } = forwarded;
    if (message.status >= 300 && rest.length > 0) this.#forward(caller, rest);
    else this.#answer(caller, message.status);
  }
}
