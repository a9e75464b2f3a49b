/** What the agents of a load process have come to so far; of several processes together, the sum. */
export interface Counts {
  /** registered flows, by edge */
  up: number[];
  lost: number;
  failed: number;
  pings: number;
  pongs: number;
  /** flows, of all that there ever were, with a keep-alive that was answered */
  proven: number;
  requests: number;
}

export const noCounts = (edges: number): Counts => ({
  up: new Array(edges).fill(0),
  lost: 0,
  failed: 0,
  pings: 0,
  pongs: 0,
  proven: 0,
  requests: 0,
});

export const sum = (a: Counts, b: Counts): Counts => ({
  up: a.up.map((up, edge) => up + b.up[edge]),
  lost: a.lost + b.lost,
  failed: a.failed + b.failed,
  pings: a.pings + b.pings,
  pongs: a.pongs + b.pongs,
  proven: a.proven + b.proven,
  requests: a.requests + b.requests,
});
