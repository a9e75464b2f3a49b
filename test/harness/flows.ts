/**
 * The two exchanges nearly every outbound test starts with: a client registers through the server
 * under test and the core (the test too) answers; and the core sends a request down the flow that
 * the Path of that registration names.
 */
import { randomUUID } from 'node:crypto';
import type { Address, Agent } from './agent.ts';
import { type Arrival, isRequest, isResponse } from './inbox.ts';
import { type Header, OMIT, parseNameAddr, type SipMessage, unique } from './sip.ts';

export interface RegisterOptions {
  /** Request-URI host and domain of the AOR */
  domain?: string;
  user?: string;
  instance?: string;
  /** null: no reg-id parameter */
  regId?: number | string | null;
  supported?: string;
  contactUri?: string;
  contact?: string;
  expires?: number;
  callId?: string;
  cseq?: number;
  via?: string;
  moreVia?: string[];
  route?: string[];
  headers?: Header[];
}

export interface Registration {
  aor: string;
  contactUri: string;
  callId: string;
  bytes: Buffer;
}

export const newInstance = (): string => `urn:uuid:${randomUUID()}`;

/** A REGISTER as an outbound client sends it, and what it stands for. */
export function composeRegister(client: Agent, options: RegisterOptions = {}): Registration {
  const domain = options.domain ?? 'example.test';
  const user = options.user ?? unique('u');
  const aor = `sip:${user}@${domain}`;
  const contactUri = options.contactUri ?? client.uri(user);
  const regId = options.regId === undefined ? 1 : options.regId;
  const callId = options.callId ?? unique('reg-');
  const instance = options.instance ?? newInstance();
  const contact =
    options.contact ??
    `<${contactUri}>;+sip.instance="<${instance}>"${regId === null ? '' : `;reg-id=${regId}`}`;
  const bytes = client.compose('REGISTER', `sip:${domain}`, {
    from: `<${aor}>;tag=${unique('f')}`,
    to: `<${aor}>`,
    callId,
    cseq: options.cseq ?? 1,
    ...(options.via === undefined ? {} : { via: options.via }),
    moreVia: options.moreVia ?? [],
    route: options.route ?? [],
    contact,
    headers: [
      ['Supported', options.supported ?? 'path, outbound'],
      ['Expires', String(options.expires ?? 600)],
      ...(options.headers ?? []),
    ],
  });
  return { aor, contactUri, callId, bytes };
}

export interface Flow extends Registration {
  /** top Path value as the core received it: the Route to this flow */
  path: string;
  /** its user part */
  token: string;
  /** where the core has to send a request with that Route */
  edge: Address;
  /** the REGISTER as the core received it */
  forwarded: Arrival;
  /** the 200 as the client received it */
  ok: SipMessage;
}

export interface AnswerOptions {
  requireOutbound?: boolean;
  headers?: Header[];
}

/** The core's 200 to a REGISTER: Contact and Path copied, Require: outbound unless told otherwise. */
export function answerRegister(core: Agent, got: Arrival, options: AnswerOptions = {}): Buffer {
  const headers: Header[] = [];
  for (const value of got.message.fields('Path')) headers.push(['Path', value]);
  for (const value of got.message.fields('Contact')) headers.push(['Contact', value]);
  headers.push(['Supported', 'path, outbound']);
  if (options.requireOutbound ?? true) headers.push(['Require', 'outbound']);
  headers.push(...(options.headers ?? []));
  return core.reply(got, 200, 'OK', headers);
}

/** A whole registration through the edge; the client's flow is usable afterwards. */
export async function registerFlow(
  client: Agent,
  core: Agent,
  options: RegisterOptions & AnswerOptions & { responseHeaders?: Header[] } = {},
): Promise<Flow> {
  const registration = composeRegister(client, options);
  client.send(registration.bytes);
  const forwarded = await core.next(isRequest('REGISTER', registration.callId));
  answerRegister(core, forwarded, {
    requireOutbound: options.requireOutbound ?? true,
    headers: options.responseHeaders ?? [],
  });
  const ok = (await client.next(isResponse(200, registration.callId))).message;
  const path = forwarded.message.all('Path')[0] ?? '';
  const uri = parseNameAddr(path);
  const edge = { host: uri.host.replace(/^\[|\]$/g, ''), port: uri.port ?? 5060 };
  return { ...registration, path, token: uri.user, edge, forwarded, ok };
}

export interface DownOptions {
  callId?: string;
  cseq?: number;
  route?: string[];
  uri?: string;
  headers?: Header[];
  contact?: string;
  maxForwards?: number | string;
  via?: string;
  to?: string;
  from?: string;
  body?: string;
}

/** A request of the core with the flow's Path as Route, sent to where that Path points. */
export function sendDown(core: Agent, flow: Flow, method: string, options: DownOptions = {}): string {
  const callId = options.callId ?? unique('down-');
  core.send(
    core.compose(method, options.uri ?? flow.contactUri, {
      callId,
      cseq: options.cseq ?? 1,
      route: options.route ?? [flow.path],
      maxForwards: options.maxForwards ?? 70,
      contact:
        options.contact ??
        (/^(INVITE|SUBSCRIBE|REFER|UPDATE)$/.test(method) ? `<${core.uri('core')}>` : OMIT),
      headers: options.headers ?? [],
      ...(options.via === undefined ? {} : { via: options.via }),
      to: options.to ?? `<${flow.aor}>`,
      from: options.from ?? `<sip:core@example.test>;tag=${unique('c')}`,
      ...(options.body === undefined ? {} : { body: options.body }),
    }),
    flow.edge,
  );
  return callId;
}
