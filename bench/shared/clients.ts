/** A flow table with as many UDP clients as asked for, each with its own address. */
import { FlowIndex } from '../../src/shared/flow-index.ts';
import { TRANSPORT_UDP } from '../../src/shared/flow-record.ts';
import { FlowTable, OPEN } from '../../src/shared/flow-table.ts';

const SELF = 1;
const LOCAL = 0x0a000001;

/** Words of the n-th client's address and its port. */
export const addressOf = (n: number): number => (0x0b000000 + Math.imul(n, 2_654_435)) | 0;
export const portOf = (n: number): number => 1024 + ((n * 7919) % 60_000);

export class Clients {
  readonly table: FlowTable;
  readonly index: FlowIndex;

  constructor(count: number, capacity = count) {
    this.table = new FlowTable(FlowTable.allocate(capacity));
    this.index = new FlowIndex(FlowIndex.allocate(capacity, 0x1234567, -0x2345678), this.table);
    for (let n = 0; n < count; n++) this.open(n);
  }

  open(n: number): number {
    const { table, index } = this;
    const slot = table.claim(SELF);
    table.setKind(slot, TRANSPORT_UDP, 4);
    table.setListener(slot, 0);
    table.setRemote(slot, 0, 0, 0xffff, addressOf(n), portOf(n));
    table.setLocal(slot, 0, 0, 0xffff, LOCAL, 5060);
    table.publish(slot, OPEN);
    index.insert(slot);
    return slot;
  }

  close(slot: number): void {
    const generation = this.table.generation(slot);
    this.table.close(slot, generation);
    this.index.remove(slot);
    this.table.release(slot, generation, 1);
  }

  find(n: number): number {
    return this.index.lookup(0, 0, 0, 0xffff, addressOf(n), portOf(n), 0, 0, 0xffff, LOCAL);
  }
}
