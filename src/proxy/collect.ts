/**
 * The responses of several places, and which of them goes up (RFC 3261 16.7 steps 6 and 7): a 6xx before
 * all, else the lowest class, and in the 4xx those first that tell the client how to do better. The
 * challenges of all 401 and 407 go up together, each place's own in its order (RFC 8760 2.5).
 */

export interface Collected {
  status: number;
  /** the response as it came, one character an octet */
  octets: string;
  /** its WWW-Authenticate and Proxy-Authenticate lines, with CRLF */
  challenges: string;
}

const TELLING = [401, 407, 415, 420, 484];

/** Smaller is better. */
function rank(status: number): number {
  if (status >= 600) return 0;
  const hundreds = Math.floor(status / 100) * 100;
  if (TELLING.includes(status)) return hundreds;
  // A 503 goes up only if there is nothing else of its class, and 408 says less than any other 4xx.
  return hundreds + (status === 503 || status === 408 ? 2 : 1);
}

/** The best of them, the earlier of equals; undefined if there is none. */
export function best(responses: readonly Collected[]): Collected | undefined {
  let chosen: Collected | undefined;
  for (const response of responses)
    if (!chosen || rank(response.status) < rank(chosen.status)) chosen = response;
  return chosen;
}

/** The challenges to add to `chosen`: those of the other places. */
export function otherChallenges(responses: readonly Collected[], chosen: Collected): string {
  if (chosen.status !== 401 && chosen.status !== 407) return '';
  return responses
    .filter((r) => r !== chosen && (r.status === 401 || r.status === 407))
    .map((r) => r.challenges)
    .join('');
}
