import { type Binding, contactKey, instanceOf, outboundKey, parseRegId } from '../registrar/binding.ts';
import type { HeaderParam } from '../wire/nameaddr.ts';
import { parseNameAddr } from '../wire/nameaddr.ts';
import { canonicalAor, parseSipUri, parseUri } from '../wire/uri.ts';

/**
 * The file of `holdfast bindings`: lines of JSON. The first is the header; then one line an address-of-record
 * with its bindings, longest registered first; the last line counts them, so that a file that was cut off is
 * recognised.
 *
 *   {"holdfast":"bindings","version":1,"time":"2026-...Z","node":1,"from":"lmdb in data/location","aors":2}
 *   {"aor":"sip:alice@example.net","bindings":[{"contact":"sip:alice@192.0.2.7","regId":1,...}]}
 *   {"end":true,"aors":1,"bindings":1}
 *
 * Times are unix milliseconds, absolute: a file that lies for an hour has bindings with an hour less. A flow is
 * told by its name among nodes, NODE/SLOT.GENERATION.INCARNATION.s (or .d for datagrams). The key of a binding
 * is not in the file, it follows from the rest. Names that are not known are passed over, so a field can be
 * added; a change of meaning needs another version.
 *
 * What is read is believed as little as what comes from the network: these texts go into messages.
 */
export interface FileHeader {
  time: string;
  node: number;
  /** for people */
  from: string;
  /** about as many lines follow; absent where nobody knew */
  aors?: number;
}

export interface AorLine {
  kind: 'aor';
  aor: string;
  bindings: Binding[];
}

export interface EndLine {
  kind: 'end';
  aors: number;
  bindings: number;
}

const VERSION = 1;

export const formatHeader = (header: FileHeader): string =>
  `${JSON.stringify({ holdfast: 'bindings', version: VERSION, ...header })}\n`;

export const formatEnd = (aors: number, bindings: number): string =>
  `${JSON.stringify({ end: true, aors, bindings })}\n`;

/** `bindings` with the names of their flows. */
export function formatAor(aor: string, bindings: readonly Binding[]): string {
  const rows = bindings.toSorted((a, b) => a.order - b.order).map(({ key: _, ...rest }) => rest);
  return `${JSON.stringify({ aor, bindings: rows })}\n`;
}

/** Or what is wrong with it. */
export function parseHeader(line: string): FileHeader | string {
  const header = parseObject(line);
  if (header?.holdfast !== 'bindings') return 'this is no file of `holdfast bindings export`';
  if (header.version !== VERSION)
    return `the file has version ${header.version}, this Holdfast reads ${VERSION}`;
  const { time, node, from, aors } = header;
  return {
    time: String(time),
    node: Number(node),
    from: String(from),
    ...(whole(aors) && { aors: aors as number }),
  };
}

/** Or what is wrong with it. */
export function parseLine(line: string): AorLine | EndLine | string {
  const object = parseObject(line);
  if (!object) return 'not a JSON object';
  const { end, aor, aors, bindings } = object;
  if (end === true) {
    return whole(aors) && whole(bindings) ? { kind: 'end', aors, bindings } : 'the end has no counts';
  }
  const uri = typeof aor === 'string' && isClean(aor) ? parseSipUri(aor) : undefined;
  if (!uri) return 'aor: not a SIP URI';
  if (!Array.isArray(bindings)) return 'bindings: not an array';
  const list: Binding[] = [];
  for (const [i, row] of bindings.entries()) {
    const binding = bindingOf(row);
    if (typeof binding === 'string') return `bindings[${i}].${binding}`;
    list.push(binding);
  }
  return { kind: 'aor', aor: canonicalAor(uri), bindings: list };
}

function parseObject(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return value !== null && typeof value === 'object' && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

/** No control character: nothing of a file can start a header line where it is written into a message. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u0008\u000a-\u001f\u007f]/;
const isClean = (value: unknown): value is string => typeof value === 'string' && !CONTROL.test(value);
/** A header's value as it came: it may be folded. */
const isValue = (value: unknown): boolean =>
  typeof value === 'string' && isClean(value.replace(/\r\n[ \t]+/g, ' '));
const whole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

const FLOW = /^\d{1,5}\/\d{1,10}\.\d{1,10}\.\d{1,10}\.[sd]$/;

type Field = keyof Omit<Binding, 'key'>;

/** Every field of a binding has its line here, or it would be lost on the way. */
const CHECKS: Record<Field, [allowed: (value: unknown) => boolean, isOptional?: boolean]> = {
  contact: [(value) => isClean(value) && parseUri(value) !== undefined],
  params: [(value) => Array.isArray(value) && value.every(isParam)],
  instance: [(value) => isClean(value) && instanceOf(`"<${value}>"`) === value, true],
  regId: [(value) => value === 0 || parseRegId(String(value)) === value],
  q: [(value) => whole(value) && value <= 1000],
  path: [(value) => Array.isArray(value) && value.every((hop) => isClean(hop) && parseNameAddr(hop))],
  callId: [isValue],
  cseq: [(value) => whole(value) && value < 2 ** 32],
  expiresAt: [whole],
  updatedAt: [whole],
  // of the size of times, which the next order is made of
  order: [(value) => whole(value) && value < 2 ** 48],
  epoch: [(value) => whole(value) && value < 2 ** 48, true],
  flow: [(value) => typeof value === 'string' && FLOW.test(value), true],
  userAgent: [isValue, true],
};

/** `["name", "value"]`, `["name", null]` or `["name"]`: one parameter also where it is written out */
function isParam(param: unknown): boolean {
  if (!Array.isArray(param) || param.length > 2 || !isClean(param[0])) return false;
  const [name, value] = param as [string, unknown];
  if (value != null && !isClean(value)) return false;
  const read = parseNameAddr(`<sip:x>;${name}${value == null ? '' : `=${value}`}`)?.params;
  return read?.length === 1 && read[0][0] === name && read[0][1] === (value ?? undefined);
}

/** Or the field that is wrong. */
function bindingOf(row: unknown): Binding | string {
  const fields = (row ?? {}) as Record<string, unknown>;
  const binding: Record<string, unknown> = {};
  for (const [name, [allowed, isOptional]] of Object.entries(CHECKS)) {
    const value = fields[name];
    if (isOptional && value == null) continue;
    if (value === undefined) return `${name}: missing`;
    if (!allowed(value)) return `${name}: not allowed`;
    binding[name] = value;
  }
  binding.params = (binding.params as string[][]).map(([n, v]): HeaderParam => [n, v ?? undefined]);
  const { instance, regId, contact } = binding as unknown as Binding;
  if (regId > 0 && instance === undefined) return 'instance: missing';
  const key = instance !== undefined && regId > 0 ? outboundKey(instance, regId) : contactKey(contact);
  return { key, ...(binding as unknown as Omit<Binding, 'key'>) };
}
