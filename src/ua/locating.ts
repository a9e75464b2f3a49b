/**
 * From a proxy's URI to the addresses to try, by the rules of net/locate.ts. Who answers questions about names is the
 * caller's: this layer has no resolver, so without one numeric hosts alone are found. The package's public face gives
 * the resolver of src/main.
 */
import { locate, type Query } from '../net/locate.ts';
import type { Location } from '../net/targets.ts';
import { type SipUri, uriParam } from '../wire/uri.ts';
import { TRANSPORTS } from '../wire/via.ts';

/** Which addresses a URI leads to; `transports`: codes that can be dialled, preferred first. Never rejects. */
export type Locate = (uri: SipUri, transports: readonly number[]) => Promise<Location>;

const noNames: Query = () => Promise.resolve({ status: 'failed', records: [], ttl: 0 });

/** RFC 3263 over whatever answers questions about names. */
export function locateWith(
  uri: SipUri,
  transports: readonly number[],
  query: Query,
  random: () => number = Math.random,
): Promise<Location> {
  const name = (uriParam(uri, 'transport') ?? '').toUpperCase();
  const ways = transports.map((transport) => ({ transport, families: [4, 6] as const }));
  return locate(
    {
      scheme: uri.scheme,
      host: uriParam(uri, 'maddr') || uri.host,
      port: uri.port ?? 0,
      // a transport that is not spoken is one that no way fits
      transport: name === '' ? 0 : Math.max(TRANSPORTS.indexOf(name), 0) || TRANSPORTS.length,
    },
    { query, ways, random },
  );
}

export const numericOnly: Locate = (uri, transports) => locateWith(uri, transports, noNames);
