/**
 * A request to a GRUU that has a Route left (RFC 5627 6.1): it is in a dialog, whose Route leads to the device,
 * and the stored Path is left out. Which of the device's contacts does it lead to, and is it a way that the
 * registration itself names? If so, anybody may use it: the registrar would send him there too.
 *
 * An edge writes the same token into Path and Record-Route, so the hop with the same user and address is the
 * same flow; the same address alone is the same edge. A pure function of texts.
 */
import { parseNameAddr } from '../wire/nameaddr.ts';
import { canonicalHost, parseSipUri, type SipUri } from '../wire/uri.ts';
import type { Binding } from './binding.ts';

export interface Along {
  binding: Binding;
  /** the next Route value is a hop of the device's stored Path */
  leads: boolean;
}

/** `flow`: key of the flow of ours that Route names; `next`: URI of the value that is left. '' none. */
export function alongRoute(named: readonly Binding[], flow: string, next: string): Along | undefined {
  const uri = parseSipUri(next);
  let sameFlow: Binding | undefined;
  let sameEdge: Binding | undefined;
  for (const binding of named) {
    for (const hop of uri ? binding.path : []) {
      const at = parseSipUri(parseNameAddr(hop)?.uri ?? '');
      if (!uri || !at || addressOf(at) !== addressOf(uri)) continue;
      sameEdge ??= binding;
      if (at.user !== undefined && at.user === uri.user) sameFlow ??= binding;
    }
  }
  const ours = flow === '' ? undefined : named.find((binding) => binding.flow === flow);
  const [first] = named;
  const binding = ours ?? sameFlow ?? sameEdge ?? first;
  return binding && { binding, leads: sameEdge !== undefined };
}

const addressOf = ({ scheme, host, port }: SipUri) =>
  `${canonicalHost(host)}:${port ?? (scheme === 'sips' ? 5061 : 5060)}`;
