/**
 * The target set of an address-of-record (RFC 3261 16.5, RFC 5626 section 7): what is registered, grouped
 * so that one device is one target. A target's places are the flows of the device, tried one at a time;
 * targets of equal q are tried at once, those of lower q after them.
 */

/** What a place to try must tell; a binding of the location store does. */
export interface Place {
  /** the normalised instance URN */
  instance?: string;
  /** thousandths */
  q: number;
}

export interface Target<P extends Place> {
  q: number;
  /** in the order in which they are tried */
  places: P[];
}

/**
 * Groups of targets, highest q first. `places` come best first (the store's order: q, then the most recently
 * registered, then the lowest reg-id), which is then also the order within a device (AP-7-09).
 */
export function targetGroups<P extends Place>(places: readonly P[]): Target<P>[][] {
  const devices = new Map<string, Target<P>>();
  const targets: Target<P>[] = [];
  for (const place of places) {
    const known = place.instance === undefined ? undefined : devices.get(place.instance);
    if (known) {
      known.places.push(place); // AP-7-01: never two of one instance at a time
      known.q = Math.max(known.q, place.q); // a better place may stand behind, demoted
      continue;
    }
    const target = { q: place.q, places: [place] };
    targets.push(target);
    if (place.instance !== undefined) devices.set(place.instance, target);
  }
  const groups: Target<P>[][] = [];
  for (const target of targets.sort((a, b) => b.q - a.q)) {
    const last = groups.at(-1);
    if (last && last[0].q === target.q) last.push(target);
    else groups.push([target]);
  }
  return groups;
}
