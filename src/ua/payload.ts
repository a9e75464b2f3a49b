/**
 * What a caller adds to a message: headers and a body. Refused before anything is sent where it could begin a header
 * of its own, or would stand against one that the agent writes.
 */
import { UserAgentError } from './errors.ts';
import type { HeaderList } from './exchange.ts';

export interface MessageOptions {
  /** in order; names as they are to stand */
  headers?: HeaderList;
  body?: string | Uint8Array;
  /** default: text/plain, application/sdp for INVITE */
  contentType?: string;
  signal?: AbortSignal;
}

const TOKEN = /^[a-zA-Z0-9\-.!%*_+`'~]+$/;
const OURS = new Set([
  'via',
  'v',
  'from',
  'f',
  'to',
  't',
  'call-id',
  'i',
  'cseq',
  'content-length',
  'l',
  'max-forwards',
]);

export function payloadOf(method: string, { headers = [], body, contentType }: MessageOptions) {
  if (!TOKEN.test(method)) throw new UserAgentError('option', `method ${JSON.stringify(method)}`);
  for (const [name, value] of headers)
    if (!TOKEN.test(name) || /[\r\n\0]/.test(value) || OURS.has(name.toLowerCase()))
      throw new UserAgentError('option', `header ${JSON.stringify(name)}`);
  const bytes = body === undefined ? Buffer.alloc(0) : Buffer.from(body as string);
  const type = contentType ?? (method === 'INVITE' ? 'application/sdp' : 'text/plain');
  if (/[\r\n\0]/.test(type)) throw new UserAgentError('option', 'contentType');
  const typed: HeaderList = bytes.length > 0 ? [['Content-Type', type]] : [];
  return { headers: [...headers, ...typed] as HeaderList, body: bytes };
}
