/** The location service over either store: a re-registration, a look-up, with few and with many bindings. */
import { Journal } from '../../src/registrar/events.ts';
import { Location } from '../../src/registrar/location.ts';
import type { Backend, ContactUpdate, UpdateOp } from '../../src/registrar/store.ts';
import type { Case } from '../suite.ts';

const START = 1_800_000_000_000;
const BATCH = 64;
const FILL = 4096;

const aor = (n: number): string => `sip:dora${n}@example.net`;

function contact(n: number): ContactUpdate {
  const instance = `urn:uuid:6f1d7c52-3b0e-4a7e-9d57-${String(n).padStart(12, '0')}`;
  return {
    key: `o:${instance};1`,
    contact: `sip:dora${n}@192.168.1.23:5060;ob`,
    params: [
      ['reg-id', '1'],
      ['+sip.instance', `"<${instance}>"`],
    ],
    instance,
    regId: 1,
    q: 1000,
    expires: 600,
  };
}

function update(n: number, cseq: number): UpdateOp {
  return {
    kind: 'update',
    aor: aor(n),
    now: START + cseq,
    callId: `${n}-6c1e-4f0b-9d1a-3b8e5c7d2a90`,
    cseq,
    clear: false,
    contacts: [contact(n)],
    path: ['<sip:ARAAAGid2KsAAAAAAAAAAcYzZAdOIMsAcQoTxPZ3QkBrq2hT0mWm@203.0.113.10:5060;lr;ob>'],
    flow: `${n}.1.1773480413.d`,
    userAgent: 'Larkphone/4.2.1',
    maxContacts: 16,
  };
}

/** A location service with `count` addresses-of-record of one binding each, each over a flow of its own. */
export function filled(backend: Backend, count: number, journal?: Journal): Location {
  const location = new Location(backend, journal);
  for (let n = 0; n < count; n += FILL)
    location.batch(() => {
      for (let i = n; i < Math.min(n + FILL, count); i++) location.update(update(i, 1));
    });
  return location;
}

/**
 * Cases over `count` bindings. An update is one of a batch of 64 in one transaction, as the store thread works when it
 * is busy; `alone` it has its own. Where it is `watched`, with the events of the batch, up to where they are posted.
 * Neighbours in time are none in the order of keys: what a cache or a page has from the last one is of no use.
 */
export function locationCases(
  backend: Backend,
  count: number,
  watched = false,
): [update: Case, lookup: Case, alone: Case] {
  const journal = watched ? new Journal(1, () => START) : undefined;
  const location = filled(backend, count, journal);
  journal?.take();
  const suffix = `${count.toLocaleString('en')} bindings${watched ? ', watched' : ''}`;
  let n = 0;
  let cseq = 1;
  const next = (): number => {
    n = (n + 7919) % count;
    return n;
  };
  return [
    {
      name: `update, ${suffix}`,
      ops: BATCH,
      run() {
        cseq++;
        location.batch(() => {
          for (let i = 0; i < BATCH; i++)
            if (location.update(update(next(), cseq)).status !== 'ok')
              throw new Error('an update is refused');
        });
        if (journal && journal.take().length !== BATCH) throw new Error('an event is missing');
      },
    },
    {
      name: `look-up, ${suffix}`,
      ops: BATCH,
      run() {
        for (let i = 0; i < BATCH; i++)
          if (location.lookup(aor(next()), START).length !== 1) throw new Error('a binding is not found');
      },
    },
    {
      name: `update alone, ${suffix}`,
      run() {
        cseq++;
        if (location.batch(() => location.update(update(next(), cseq))).status !== 'ok')
          throw new Error('an update is refused');
      },
    },
  ];
}
