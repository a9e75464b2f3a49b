/**
 * The order in which the servers of an SRV answer are tried (RFC 2782, "Usage rules"): priorities ascending, and
 * inside one priority a draw without putting back, in which each server's chance is its weight among those left.
 * A server of weight 0 comes behind all weighted ones of its priority; where all are 0, all are alike.
 *
 * Before the draw the records are put in an order of their own (name, then port), so that equal answers with equal
 * random numbers give equal lists, however the name server rotates them (RFC 3263 4.4).
 */

export interface SrvRecord {
  type: 'SRV';
  name: string;
  priority: number;
  weight: number;
  port: number;
  target: string;
}

/** `random` gives numbers in [0, 1). The records returned have the weight 1 where their whole priority has 0. */
export function orderSrv(records: readonly SrvRecord[], random: () => number): SrvRecord[] {
  const left = records.toSorted(
    (a, b) =>
      a.priority - b.priority || (a.target < b.target ? -1 : a.target > b.target ? 1 : a.port - b.port),
  );
  const ordered: SrvRecord[] = [];
  while (left.length > 0) {
    const end = left.findIndex((r) => r.priority !== left[0].priority);
    const group = left.splice(0, end < 0 ? left.length : end);
    const even = group.every((r) => r.weight === 0);
    draw(even ? group.map((r) => ({ ...r, weight: 1 })) : group, random, ordered);
  }
  return ordered;
}

function draw(group: SrvRecord[], random: () => number, ordered: SrvRecord[]): void {
  let sum = group.reduce((total, r) => total + r.weight, 0);
  while (group.length > 0) {
    // A real number, not an integer: with integers from 0 to the sum a weight of 1 beside 3 would get two draws in five.
    const index = indexAt(group, random() * sum);
    const [drawn] = group.splice(index, 1);
    sum -= drawn.weight;
    ordered.push(drawn);
  }
}

/** The record in whose stretch the point lies, if the weights are laid end to end. */
function indexAt(group: readonly SrvRecord[], point: number): number {
  let behind = 0;
  let last = 0;
  for (let i = 0; i < group.length; i++) {
    if (group[i].weight === 0) continue;
    behind += group[i].weight;
    last = i;
    if (point < behind) break;
  }
  return last;
}
