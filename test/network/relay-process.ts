/** Entry of a relay as a process of its own: told what to open, says where it listens. */
import type { Address } from '../harness/agent.ts';
import { Relay, type Transport } from './relay.ts';

process.on('message', async ({ transport, to }: { transport: Transport; to: Address }) => {
  process.send?.((await Relay.open(transport, to)).address);
});
process.on('disconnect', () => process.exit(0));
