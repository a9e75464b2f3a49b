/** Child of durability.test.ts: stores registrations one batch after the other and names each on stdout after its commit. */
import { writeSync } from 'node:fs';
import { LmdbBackend } from '../../src/registrar/lmdb.ts';
import { StoreService } from '../../src/registrar/service.ts';

/** The pipe may be full while its reader has no time. */
function say(line: string): void {
  for (;;) {
    try {
      writeSync(1, line);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
  }
}

const [dir, durability] = process.argv.slice(2);
const backend = new LmdbBackend({ dir, durability: durability as 'process' | 'power', mapSize: 2 ** 28 });
const service = new StoreService(backend);
for (let n = 0; ; n += 10) {
  const batch = Array.from({ length: 10 }, (_, i) => ({
    from: 1,
    id: n + i + 1,
    op: {
      kind: 'update' as const,
      aor: `sip:u${n + i}@h`,
      now: Date.now(),
      callId: 'c',
      cseq: 1,
      clear: false,
      contacts: [
        {
          key: 'o:urn:x:1;1',
          contact: `sip:u${n + i}@192.0.2.1`,
          params: [],
          regId: 1,
          q: 1000,
          expires: 3600,
        },
      ],
      path: ['<sip:edge;lr;ob>'],
      maxContacts: 4,
    },
  }));
  for (const { id, result } of service.handle(batch)) if (result.status === 'ok') say(`${id - 1}\n`);
}
