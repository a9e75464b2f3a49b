/**
 * HOLDFAST_EVENTS_URL, _TOKEN, _SECRET and HOLDFAST_EVENTS: where events are posted, as whom, and which. No value of the
 * first three may stand in an error as it is: any of them may hold a secret.
 */
import { EVENT_TYPES, type EventType, type WebhookConfig } from './config.ts';
import { wrong } from './error.ts';

export function webhook(
  value: string | undefined,
  token: string | undefined,
  secret: string | undefined,
  types: string | undefined,
): WebhookConfig | undefined {
  const wanted = eventTypes(types);
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token))
    throw wrong('EVENTS_TOKEN', '...', 'visible ASCII characters without blanks');
  if (value === undefined) {
    if (token !== undefined || secret !== undefined)
      throw wrong('EVENTS_URL', '', 'http(s)://HOST/... where HOLDFAST_EVENTS_TOKEN or _SECRET is set');
    return undefined;
  }
  const shown = value.replace(/\/\/.*@/, '//...@').replace(/[?#].*/, '...');
  const allowed = 'http://[USER:PASSWORD@]HOST/... or https://..., without a fragment';
  if (!/^https?:\/\/[^/\s]+/.test(value) || !URL.canParse(value)) throw wrong('EVENTS_URL', shown, allowed);
  const url = new URL(value);
  const { username, password, hash } = url;
  if (hash !== '') throw wrong('EVENTS_URL', shown, allowed);
  const inUrl = username !== '' || password !== '';
  if (inUrl && token !== undefined)
    throw wrong('EVENTS_TOKEN', '...', 'credentials in HOLDFAST_EVENTS_URL or a token, not both');
  url.username = '';
  url.password = '';
  const config: WebhookConfig = { url: url.href, types: wanted };
  if (token !== undefined) config.authorization = `Bearer ${token}`;
  else if (inUrl) {
    const pair = basicPair(username, password);
    if (pair === undefined) throw wrong('EVENTS_URL', shown, allowed);
    config.authorization = `Basic ${Buffer.from(pair, 'utf8').toString('base64')}`;
  }
  if (secret !== undefined) config.secret = secret;
  return config;
}

function basicPair(username: string, password: string): string | undefined {
  try {
    return `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  } catch {
    return undefined;
  }
}

function eventTypes(value: string | undefined): EventType[] {
  if (value === undefined) return [...EVENT_TYPES];
  const wanted = value.split(',').map((name) => name.trim());
  if (wanted.some((name) => !EVENT_TYPES.includes(name as EventType)))
    throw wrong('EVENTS', value, `${EVENT_TYPES.join(', ')}, or some of them`);
  return EVENT_TYPES.filter((name) => wanted.includes(name));
}
