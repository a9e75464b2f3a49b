/** GRUUs (RFC 5627) as a phone learns and uses them: from the Contacts of a 200, unquoted. */
import type { Agent } from './agent.ts';
import { newInstance, type RegisterOptions } from './flows.ts';
import type { Place, Site } from './places.ts';
import { contactsOf, type Registered, register } from './registrar.ts';
import { newBranch, type SipMessage, unique } from './sip.ts';

export interface Gruus {
  public: string;
  temporary: string;
}

export const GRUU = 'path, outbound, gruu';

/** Those of each Contact, in order; '' where there is none. */
export const gruusOf = (answer: SipMessage): Gruus[] =>
  contactsOf(answer).map(({ params }) => ({
    public: unquoted(params.get('pub-gruu')),
    temporary: unquoted(params.get('temp-gruu')),
  }));

const unquoted = (value: string | undefined): string => /^"(.*)"$/.exec(value ?? '')?.[1] ?? '';

/** Registers and learns: the Contact of the 200 that is this registration's. */
export async function learn(client: Agent, options: RegisterOptions): Promise<Registered & { gruus: Gruus }> {
  const registered = await register(client, { supported: GRUU, ...options });
  const { answer, contactUri } = registered;
  const at = contactsOf(answer).findIndex(({ uri }) => uri === contactUri);
  const gruus = gruusOf(answer)[at];
  if (!gruus) throw new Error(`REGISTER: ${answer.startLine}`);
  return { ...registered, gruus };
}

/** A place that has learnt its GRUUs. */
export type Device = Place & { gruus: Gruus };

export interface DeviceOptions {
  user: string;
  instance?: string;
  /** null: without outbound */
  regId?: number | null;
  q?: string;
  over?: 'UDP' | 'TCP' | 'edge';
}

export async function device(
  site: Site,
  { user, instance = newInstance(), regId = 1, q = '', over = 'UDP' }: DeviceOptions,
): Promise<Device> {
  const agent = over === 'edge' ? await site.edge() : await site.caller(over);
  const address = over === 'edge' ? `sip:${user}@192.0.2.44:5070` : agent.uri(user);
  const contactUri = `${address};p=${unique('p')}`;
  const params = `${regId === null ? '' : `;reg-id=${regId}`}${q === '' ? '' : `;q=${q}`}`;
  const path = over === 'edge' ? `<${agent.uri(unique('token'))};lr;ob>` : undefined;
  const registered = await learn(agent, {
    user,
    contactUri,
    contact: `<${contactUri}>;+sip.instance="<${instance}>"${params}`,
    ...(path === undefined
      ? {}
      : {
          via: agent.via(),
          moreVia: [`SIP/2.0/UDP 192.0.2.44;branch=${newBranch()}`],
          headers: [['Path', path]],
        }),
  });
  return { ...registered, agent, user, path };
}
