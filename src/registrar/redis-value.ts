import { hash } from 'node:crypto';
import { Packr } from 'msgpackr';
import { parseNameAddr } from '../wire/nameaddr.ts';
import { canonicalUri, isSip, parseSipUri, parseUri, uriParam } from '../wire/uri.ts';
import { type Binding, isContactKey } from './binding.ts';
import type { ContactUpdate, UpdateOp } from './store.ts';

/**
 * Bindings between a registrar and the scripts in Redis: what a script has to compare goes as arguments
 * that Lua reads, all else as one msgpack value that it only stores.
 *
 * A flow's name: a flow key is unique in one node only, so in the store it stands behind the node's number
 * ("7/slot.generation.incarnation.s"). A registration that came through another edge belongs to that edge's
 * flow: its name is the token in the last Path value, which the edge itself made. A binding that is read
 * shows a flow of its reader only: to all others, the node that has the flow is an edge in the Path.
 *
 * Times in a value are the server's; `decodeValue` shifts them to the clock of the request.
 */
type Text = string | null | undefined;

/** A field can be appended; a change of meaning needs another version (redis-script.ts). */
type Body = [
  key: string,
  contact: string,
  params: Text[],
  instance: Text,
  regId: number,
  q: number,
  path: string[],
  flow: Text,
  userAgent: Text,
];

type Head = [
  expires: number,
  order: number,
  updated: number,
  cseq: number,
  callId: string,
  flow: string,
  route: string,
  coarse: string,
  loose: string,
  instance: string,
  regId: number,
  epoch: number,
];

const VERSION = 1;
// Lua writes times as 64-bit integers
const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true, int64AsType: 'number' });

const LOCAL_FLOW = /^\d+\.\d+\.\d+\.[sd]$/;

/** What a flow is called among all nodes of the store: a token names its flow as it is. */
export const flowName = (node: number, flow: string): string =>
  LOCAL_FLOW.test(flow) ? `${node}/${flow}` : flow;

/** The flow that a registration stands and falls with; '' if nobody can tell of its end. */
export function flowOf(node: number, flow: string | undefined, path: readonly string[]): string {
  if (flow !== undefined) return flowName(node, flow);
  const last = path.at(-1);
  const address = last === undefined ? undefined : parseNameAddr(last);
  const uri = address && parseSipUri(address.uri);
  if (!uri || uriParam(uri, 'ob') === undefined) return '';
  return /^[A-Za-z0-9_-]{32,128}$/.test(uri.user ?? '') ? uri.user! : '';
}

// 19.1.4: never ignored when only one of two URIs has them
const STRICT = /^;(user|ttl|method|maddr|transport)(=|$)/;

/** What two equal Contact URIs have in common, and the parameters of this one that the other may lack. */
function likeness(key: string, contact: string): { coarse: string; loose: string } {
  const uri = isContactKey(key) ? parseUri(contact) : undefined;
  if (!uri || !isSip(uri)) return { coarse: '', loose: '' };
  const texts = canonicalUri({ scheme: 'sip', host: 'h', params: uri.params, headers: [] })
    .split(';')
    .slice(1)
    .map((text) => `;${text}`);
  const strict = texts.filter((text) => STRICT.test(text)).join('');
  const loose = texts.filter((text) => !STRICT.test(text)).join('');
  return { coarse: `${canonicalUri({ ...uri, params: [] })} ${strict}`, loose };
}

/** Equal for a retransmission, another for the same CSeq with another Contact or over another way. */
const routeOf = (contact: string, path: readonly string[], flow: string): string =>
  hash('sha1', [contact, flow, ...path].join('\n'), 'base64').slice(0, 16);

/** The arguments of UPDATE for one Contact: key, seconds, route, coarse, loose, instance, reg-id, body. */
export function contactArguments(
  node: number,
  op: UpdateOp,
  flow: string,
  contact: ContactUpdate,
): (string | Buffer)[] {
  const { coarse, loose } = likeness(contact.key, contact.contact);
  const body = encodeBody(node, { ...contact, path: op.path, flow: op.flow, userAgent: op.userAgent });
  return [
    contact.key,
    `${contact.expires}`,
    routeOf(contact.contact, op.path, flow),
    coarse,
    loose,
    contact.instance ?? '',
    `${contact.regId}`,
    contact.expires > 0 ? body : '',
  ];
}

/** The arguments of RESTORE for one binding. `now`: of the clock that its times are of. */
export function restoreArguments(node: number, binding: Binding, now: number): (string | Buffer)[] {
  const { coarse, loose } = likeness(binding.key, binding.contact);
  const flow = flowOf(node, binding.flow, binding.path);
  return [
    binding.key,
    `${binding.expiresAt - now}`,
    `${binding.cseq}`,
    binding.callId,
    flow,
    routeOf(binding.contact, binding.path, flow),
    coarse,
    loose,
    binding.instance ?? '',
    `${binding.regId}`,
    `${binding.epoch ?? ''}`,
    encodeBody(node, binding),
  ];
}

type Stored = Pick<Binding, 'key' | 'contact' | 'params' | 'regId' | 'q' | 'path'> & {
  [name in 'instance' | 'flow' | 'userAgent']?: string | undefined;
};

function encodeBody(node: number, b: Stored): Buffer {
  const flow = b.flow === undefined ? undefined : flowName(node, b.flow);
  const { key, contact, params, instance, regId, q, path, userAgent } = b;
  const body: Body = [key, contact, params.flat(), instance, regId, q, path, flow, userAgent];
  return Buffer.from(packr.pack(body));
}

/**
 * `shift`: what is added to the server's times. `node`: whose flows to show; undefined: all, by their names in
 * the store. Undefined for another version or damaged octets.
 */
export function decodeValue(bytes: Uint8Array, node: number | undefined, shift: number): Binding | undefined {
  if (bytes[0] !== VERSION) return undefined;
  try {
    const parts = packr.unpackMultiple(bytes.subarray(1)) as unknown as [Head, Body];
    const [expires, order, updated, cseq, callId] = parts[0];
    const epoch = parts[0][11];
    const [key, contact, flat, instance, regId, q, path, flow, userAgent] = parts[1];
    const params: Binding['params'] = [];
    for (let i = 0; i + 1 < flat.length; i += 2) params.push([flat[i] as string, flat[i + 1] ?? undefined]);
    const expiresAt = expires + shift;
    const updatedAt = updated + shift;
    const binding: Binding = {
      key,
      contact,
      params,
      regId,
      q,
      path,
      callId,
      cseq,
      expiresAt,
      updatedAt,
      order,
    };
    if (instance != null) binding.instance = instance;
    if (node === undefined && flow != null) binding.flow = flow;
    else if (flow?.startsWith(`${node}/`)) binding.flow = flow.slice(`${node}/`.length);
    if (userAgent != null) binding.userAgent = userAgent;
    if (instance != null && epoch) binding.epoch = epoch;
    return binding;
  } catch {
    return undefined;
  }
}
