import type { ContactUpdate, UpdateOp } from '../../src/registrar/store.ts';

export const START = 1_800_000_000_000;
export const DORA = 'sip:dora@example.net';
export const EVE = 'sip:eve@example.net';

/** The Contact of an outbound registration. */
export const flowContact = (regId: number, changes: Partial<ContactUpdate> = {}): ContactUpdate => ({
  key: `o:urn:x:1;${regId}`,
  contact: 'sip:d@192.0.2.1',
  params: [['reg-id', `${regId}`]],
  instance: 'urn:x:1',
  regId,
  q: 1000,
  expires: 3600,
  ...changes,
});

export const update = (changes: Partial<UpdateOp> = {}): UpdateOp => ({
  kind: 'update',
  aor: DORA,
  now: START,
  callId: 'a',
  cseq: 1,
  clear: false,
  contacts: [flowContact(1)],
  path: [],
  maxContacts: 16,
  ...changes,
});
