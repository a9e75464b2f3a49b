/**
 * The set-up of the registrar tests: Holdfast as registrar and authoritative proxy of `example.test`
 * on one loopback host, with the store that is asked for, and as many phones and callers as a test
 * wants. Requests to an AOR go straight to it; the caller is on loopback, which needs no password.
 *
 * A registration and its answer are strings here: what was sent, what the 200 says. The bindings that
 * the registrar holds are read as any client reads them, by a REGISTER without Contact.
 */
import { type Agent, type TcpAgent, UdpAgent } from './agent.ts';
import { proof } from './digest.ts';
import { composeRegister, type RegisterOptions } from './flows.ts';
import { Holdfast, type HoldfastOptions } from './holdfast.ts';
import { isFinal, PATIENCE_MS } from './inbox.ts';
import { freePort, freshHost } from './ports.ts';
import {
  type Header,
  type NameAddr,
  OMIT,
  parseNameAddr,
  type RequestOptions,
  type SipMessage,
  unique,
} from './sip.ts';

export const DOMAIN = 'example.test';

/** Both stores: what a registrar answers must not depend on where it keeps bindings. */
export const STORES = ['memory', 'lmdb'] as const;
export type Store = (typeof STORES)[number];

export const TRANSPORTS = ['UDP', 'TCP'] as const;
export type Transport = (typeof TRANSPORTS)[number];

/** A Contact value of a 200, taken apart. */
export type Contact = NameAddr & { regId: string | undefined; instance: string | undefined };

export function contactsOf(message: SipMessage): Contact[] {
  return message.all('Contact').map((value) => {
    const contact = parseNameAddr(value);
    return { ...contact, regId: contact.params.get('reg-id'), instance: contact.params.get('+sip.instance') };
  });
}

export interface Registered {
  aor: string;
  contactUri: string;
  callId: string;
  answer: SipMessage;
}

export class Registrar {
  readonly server: Holdfast;
  private readonly agents: Agent[] = [];

  private constructor(server: Holdfast) {
    this.server = server;
  }

  static async start(store: Store, options: HoldfastOptions = {}): Promise<Registrar> {
    const settings = {
      DOMAINS: DOMAIN,
      // lmdb in the data directory is the default
      ...(store === 'memory' ? { STORE: 'memory:' } : {}),
      ...options.settings,
    };
    return new Registrar(await Holdfast.start({ ...options, settings }));
  }

  /** A phone or caller on a host of its own. */
  async client(transport: Transport = 'UDP'): Promise<Agent> {
    return this.keep(transport === 'UDP' ? await this.server.udp() : await this.server.tcp());
  }

  async connection(): Promise<TcpAgent> {
    return this.keep(await this.server.tcp());
  }

  /** An edge proxy, or whatever is reached by its address: its URIs can stand in Path. */
  async neighbour(): Promise<UdpAgent> {
    const host = freshHost();
    return this.keep(
      await UdpAgent.open({ host, port: await freePort(host), peer: this.server.address, name: 'neighbour' }),
    );
  }

  keep<A extends Agent>(agent: A): A {
    this.agents.push(agent);
    return agent;
  }

  async close(): Promise<void> {
    for (const agent of this.agents) await agent.close().catch(() => {});
    await this.server.stop();
  }
}

/** Sends a REGISTER and waits for its final answer, whatever that is. */
export async function register(client: Agent, options: RegisterOptions = {}): Promise<Registered> {
  const { aor, contactUri, callId, bytes } = composeRegister(client, { domain: DOMAIN, ...options });
  client.send(bytes);
  const answer = (await client.next(isFinal(callId))).message;
  return { aor, contactUri, callId, answer };
}

/** A REGISTER without Contact: asks what is bound. */
export async function query(client: Agent, aor: string, headers: Header[] = []): Promise<SipMessage> {
  const callId = unique('query-');
  client.send(
    client.compose('REGISTER', `sip:${DOMAIN}`, {
      from: `<${aor}>;tag=${unique('f')}`,
      to: `<${aor}>`,
      callId,
      headers,
    }),
  );
  return (await client.next(isFinal(callId))).message;
}

/** What is bound, where that is told against a password alone. */
export async function boundByPassword(client: Agent, aor: string, password: string): Promise<Contact[]> {
  const { user } = parseNameAddr(aor);
  const challenged = await query(client, aor);
  const answer = await query(client, aor, [['Authorization', proof(challenged, { user, password })]]);
  if (answer.status !== 200) throw new Error(`${aor}: ${answer.startLine}`);
  return contactsOf(answer);
}

export const bound = async (client: Agent, aor: string): Promise<Contact[]> =>
  contactsOf(await query(client, aor));

/** Asks until what is bound fits: news of an ended flow travels on its own. */
export async function boundBecomes(
  client: Agent,
  aor: string,
  fits: (contacts: Contact[]) => boolean,
): Promise<Contact[]> {
  const until = Date.now() + PATIENCE_MS;
  for (;;) {
    const contacts = await bound(client, aor);
    if (fits(contacts)) return contacts;
    if (Date.now() > until)
      throw new Error(`${aor} is still bound to ${contacts.map((c) => c.uri).join(', ') || 'nothing'}`);
    await new Promise((r) => setTimeout(r, 20));
  }
}

/** A request to an AOR; returns its Call-ID. */
export function call(
  caller: Agent,
  aor: string,
  method = 'MESSAGE',
  options: Partial<RequestOptions> = {},
): string {
  const callId = options.callId ?? unique('call-');
  const forms = /^(INVITE|SUBSCRIBE|REFER)$/.test(method);
  caller.send(
    caller.compose(method, aor, { contact: forms ? `<${caller.uri('caller')}>` : OMIT, ...options, callId }),
  );
  return callId;
}

/** Calls and waits for the final answer: for AORs that nobody can be reached at. */
export async function statusOf(
  caller: Agent,
  aor: string,
  method = 'MESSAGE',
  options: Partial<RequestOptions> = {},
): Promise<number> {
  return (await caller.next(isFinal(call(caller, aor, method, options)))).message.status;
}
