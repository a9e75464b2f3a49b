import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { answerRegister, type RegisterAnswer } from '../../src/registrar/answer.ts';
import { flowKey } from '../../src/registrar/binding.ts';
import { Gruus } from '../../src/registrar/gruu.ts';
import { Location } from '../../src/registrar/location.ts';
import {
  DEFAULT_POLICY,
  decideRegister,
  type RegisterPolicy,
  type RegisterRequest,
} from '../../src/registrar/register.ts';
import { BACKENDS } from './backends.ts';

const DORA = 'sip:dora@example.net';
const URN = 'urn:uuid:6f1d7c52-3b0e-4a7e-9d57-0c2b9e51a4d8';
const INSTANCE = `+sip.instance="<${URN}>"`;
const PATH_OB = '<sip:TOK-A1@edge-a.example.net;lr;ob>';
const START = 1_800_000_000_000;

/** By default: one outbound contact, as the first hop. */
function request(changes: Partial<RegisterRequest> = {}): RegisterRequest {
  return {
    aor: DORA,
    contacts: [`<sip:dora@198.51.100.7:40002;transport=tcp>;reg-id=1;${INSTANCE}`],
    path: [],
    supported: ['path, outbound'],
    require: [],
    viaCount: 1,
    callId: 'reg-a-51c9',
    cseq: 1,
    now: START,
    ...changes,
  };
}

const contactsOf = (answer: RegisterAnswer) => answer.headers.filter((line) => line.startsWith('Contact: '));
const pathOf = (answer: RegisterAnswer) => answer.headers.filter((line) => line.startsWith('Path: '));
const requires = (answer: RegisterAnswer) => answer.headers.includes('Require: outbound');

describe.each(BACKENDS)('a registrar with the $name store', ({ make }) => {
  let location: Location;
  let dispose: () => Promise<void>;
  beforeEach(() => {
    const made = make();
    location = new Location(made.backend);
    dispose = made.dispose;
  });
  afterEach(() => dispose());

  function register(
    changes: Partial<RegisterRequest> = {},
    policy: Partial<RegisterPolicy> = {},
  ): RegisterAnswer {
    const decision = decideRegister(request(changes), { ...DEFAULT_POLICY, ...policy });
    if (decision.kind === 'reject') return decision;
    if (decision.kind === 'update') return answerRegister(decision, location.handle(decision.op));
    return answerRegister(
      decision,
      location.handle({ kind: 'lookup', aor: decision.aor, now: decision.now }),
    );
  }
  const stored = (aor = DORA, now = START) => location.lookup(aor, now);

  it('stores Path and gives it back in its order, from one header or two [RG-6-01 3327-4-01 3327-5.3-01]', () => {
    const path = ['<sip:p2.example.net;lr>', PATH_OB];
    for (const values of [path, [path.join(', ')]]) {
      const answer = register({ path: values, viaCount: 3, callId: `${values.length}` });
      expect(answer.status).toBe(200);
      expect(pathOf(answer)).toEqual(path.map((hop) => `Path: ${hop}`));
      expect(stored()[0].path).toEqual(path);
      location.remove(DORA, stored()[0].key);
    }
  });

  it('takes one Via value for the first hop, more for an edge that must have outbound [RG-6-02 RG-6-03]', () => {
    expect(register({ viaCount: 1 }).status).toBe(200);
    expect(register({ viaCount: 2, cseq: 2 }).status).toBe(439);
    expect(register({ viaCount: 2, cseq: 3, path: [PATH_OB] }).status).toBe(200);
  });

  it('answers 439 when no Path or no ob says that the first hop has outbound [RG-6-04 RG-6-05 RG-6-27 GR-11.6-01]', () => {
    for (const path of [[], ['<sip:TOK@edge.example.net;lr>']]) {
      const answer = register({ viaCount: 2, path });
      expect(answer).toMatchObject({ status: 439, reason: 'First Hop Lacks Outbound Support' });
      expect(stored()).toEqual([]);
    }
  });

  it('ignores reg-id there if the client did not list outbound [RG-6-06 RG-6-12 RG-6-27]', () => {
    const answer = register({ viaCount: 2, supported: ['path'] });
    expect(answer.status).toBe(200);
    expect(requires(answer)).toBe(false);
    expect(stored()[0]).toMatchObject({ key: 'c:sip:dora@198.51.100.7:40002;transport=tcp', regId: 0 });
  });

  it('reads ob from the last Path value, the first hop [RG-6-07]', () => {
    const inner = '<sip:p2.example.net;lr>';
    expect(register({ viaCount: 3, path: [PATH_OB, inner] }).status).toBe(439);
    expect(register({ viaCount: 3, path: [inner, PATH_OB] }).status).toBe(200);
  });

  it('takes ob in any letter case and with a value [GR-11.3-01]', () => {
    expect(register({ viaCount: 2, path: ['<sip:t@e.example.net;lr;OB>'] }).status).toBe(200);
    expect(register({ viaCount: 2, path: ['<sip:t@e.example.net;lr;ob=1>'], cseq: 2 }).status).toBe(200);
  });

  it('takes an instance-id without reg-id as an ordinary contact [RG-6-08 RG-6-12]', () => {
    const answer = register({ contacts: [`<sip:dora@198.51.100.7:5070>;${INSTANCE}`] });
    expect(answer.status).toBe(200);
    expect(requires(answer)).toBe(false);
    expect(stored()[0]).toMatchObject({ key: 'c:sip:dora@198.51.100.7:5070', instance: URN, regId: 0 });
  });

  it('ignores reg-id without an instance-id, or with a malformed one [RG-6-09 GR-10-03]', () => {
    for (const instance of [
      '',
      ';+sip.instance="urn:uuid:1"',
      ';+sip.instance=<urn:uuid:1>',
      ';+sip.instance="<>"',
    ]) {
      const answer = register({
        contacts: [`<sip:dora@198.51.100.7:5070>;reg-id=1${instance}`],
        callId: instance,
      });
      expect(answer.status).toBe(200);
      expect(requires(answer)).toBe(false);
      expect(stored()).toHaveLength(1);
      expect(stored()[0]).toMatchObject({ key: 'c:sip:dora@198.51.100.7:5070', regId: 0 });
    }
  });

  it('adds a flow and removes another contact in one request [RG-6-10]', () => {
    register({ contacts: ['<sip:dora@198.51.100.9>'], callId: 'b' });
    const answer = register({
      contacts: [
        `<sip:dora@198.51.100.7>;reg-id=1;${INSTANCE};expires=3600, <sip:dora@198.51.100.9>;expires=0`,
      ],
    });
    expect(answer.status).toBe(200);
    expect(stored().map((binding) => binding.contact)).toEqual(['sip:dora@198.51.100.7']);
  });

  it('refuses two live contacts when one has reg-id, and changes nothing [RG-6-11]', () => {
    register({ contacts: ['<sip:dora@198.51.100.9>'], callId: 'b' });
    const answer = register({
      contacts: [`<sip:dora@198.51.100.7>;reg-id=1;${INSTANCE}`, '<sip:dora@198.51.100.8>'],
    });
    expect(answer.status).toBe(400);
    expect(stored().map((binding) => binding.contact)).toEqual(['sip:dora@198.51.100.9']);
  });

  it('keeps outbound and ordinary bindings side by side [RG-6-13]', () => {
    register();
    const answer = register({ contacts: ['<sip:dora@203.0.113.5>'], callId: 'b' });
    expect(contactsOf(answer)).toHaveLength(2);
  });

  it('refuses ordinary registrations if that is the policy [RG-6-14]', () => {
    const policy = { outboundOnly: true };
    expect(register({ contacts: ['<sip:dora@203.0.113.5>'] }, policy).status).toBe(403);
    expect(register({ viaCount: 2, supported: ['path'], path: ['<sip:e;lr>'] }, policy).status).toBe(403);
    expect(stored()).toEqual([]);
    expect(register({}, policy).status).toBe(200);
  });

  it('refreshes the same Contact URI and adds another one [RG-6-15]', () => {
    register({ contacts: ['<sip:dora@203.0.113.5;transport=tcp>'] });
    register({ contacts: ['<sip:dora@203.0.113.5;Transport=TCP;ob>'], cseq: 2 });
    expect(stored()).toHaveLength(1);
    register({ contacts: ['<sip:dora@203.0.113.6;transport=tcp>'], cseq: 3 });
    expect(stored()).toHaveLength(2);
  });

  it('keys a flow by instance-id and reg-id, not by its Contact [RG-6-16]', () => {
    register();
    register({ contacts: [`<sip:dora@198.51.100.7:49999>;reg-id=1;${INSTANCE}`], cseq: 2 });
    expect(stored()).toHaveLength(1);
    expect(stored()[0].contact).toBe('sip:dora@198.51.100.7:49999');
    register({ contacts: [`<sip:dora@198.51.100.7:49999>;reg-id=2;${INSTANCE}`], cseq: 3 });
    expect(stored().map((binding) => binding.regId)).toEqual([2, 1]);
  });

  it('gives back the Contact with all its parameters in a query [RG-6-17 3261-10.3-03]', () => {
    register({ contacts: [`<sip:dora@198.51.100.7;x=1>;q=0.5;reg-id=1;${INSTANCE};audio;+g.foo="<a,b>"`] });
    const answer = register({ contacts: [], now: START + 600_500 });
    expect(contactsOf(answer)).toEqual([
      `Contact: <sip:dora@198.51.100.7;x=1>;q=0.5;reg-id=1;${INSTANCE};audio;+g.foo="<a,b>";expires=3000`,
    ]);
    expect(answer.headers).toContain('Supported: path, outbound');
    expect(answer.headers.some((line) => /^record-route/i.test(line))).toBe(false);
  });

  it('requires outbound in the 200 to who offered it, also on removal [RG-6-18 GR-11.4-01]', () => {
    expect(requires(register())).toBe(true);
    expect(requires(register({ cseq: 2, expires: '0' }))).toBe(true);
    expect(requires(register({ contacts: [] }))).toBe(false);
  });

  it('applies outbound keys without Require to who did not offer it [RG-6-19 RG-6-12]', () => {
    const first = register({ supported: ['path'] });
    register({ supported: ['path'], contacts: [`<sip:dora@198.51.100.8>;reg-id=1;${INSTANCE}`], cseq: 2 });
    expect(requires(first)).toBe(false);
    expect(stored().map((binding) => binding.key)).toEqual([`o:${URN};1`]);
  });

  it('keeps the flow of a direct registration in its Path, unseen by the client [RG-6-20 RG-6-21 RG-6-22]', () => {
    const direct = (slot: number, cseq: number) =>
      register({
        cseq,
        localPath: `<sip:TOK${slot}@hub.example.net;lr;ob>`,
        flowKey: flowKey(slot, 1, 7, false),
      });
    expect(pathOf(direct(1, 1))).toEqual([]);
    expect(stored()[0]).toMatchObject({ path: ['<sip:TOK1@hub.example.net;lr;ob>'], flow: '1.1.7.s' });
    direct(2, 2);
    expect(stored()[0]).toMatchObject({ path: ['<sip:TOK2@hub.example.net;lr;ob>'], flow: '2.1.7.s' });
    expect(location.flowClosed('1.1.7.s')).toBe(0);
    expect(location.flowClosed('2.1.7.s')).toBe(1);
  });

  it('prefers the flow that was registered last, in one millisecond too [RG-6-23 AP-7-09]', () => {
    const second = [`<sip:dora@198.51.100.7>;reg-id=2;${INSTANCE}`];
    register();
    register({ contacts: second, callId: 'b' });
    expect(stored().map((binding) => binding.regId)).toEqual([2, 1]);
    register({ cseq: 2 });
    expect(stored().map((binding) => binding.regId)).toEqual([1, 2]);
    register({ contacts: second, callId: 'b', cseq: 2, now: START + 1 });
    expect(stored()).toMatchObject([{ regId: 2, updatedAt: START + 1 }, { regId: 1 }]);
  });

  it('compares a UUID without letter case, another URN by RFC 2141 [RG-6-26]', () => {
    const as = (urn: string, cseq: number) =>
      register({ contacts: [`<sip:dora@198.51.100.7>;reg-id=1;+sip.instance="<${urn}>"`], cseq });
    as(URN, 1);
    as('URN:UUID:6F1D7C52-3B0E-4A7E-9D57-0C2B9E51A4D8', 2);
    expect(stored()).toHaveLength(1);
    as('urn:foo:a%2Cb', 3);
    as('URN:FOO:a%2cb', 4);
    expect(stored()).toHaveLength(2);
    as('urn:foo:A%2cb', 5);
    expect(stored()).toHaveLength(3);
  });

  it('lists all contacts but only the Path of this registration [RG-6-28]', () => {
    register({ viaCount: 2, path: [PATH_OB] });
    const answer = register({
      viaCount: 2,
      path: ['<sip:TOK-B1@edge-b.example.net;lr;ob>'],
      contacts: [`<sip:dora@198.51.100.7:40003>;reg-id=2;${INSTANCE}`],
      callId: 'reg-b-77e0',
    });
    expect(contactsOf(answer)).toHaveLength(2);
    expect(pathOf(answer)).toEqual(['Path: <sip:TOK-B1@edge-b.example.net;lr;ob>']);
  });

  it("finds nothing of one user by another's instance-id [RG-6-29]", () => {
    register();
    register({ aor: 'sip:eve@example.net', contacts: [`<sip:eve@192.0.2.66>;reg-id=1;${INSTANCE}`] });
    expect(stored().map((binding) => binding.contact)).toEqual(['sip:dora@198.51.100.7:40002;transport=tcp']);
  });

  it('refuses a lower CSeq of one Call-ID and takes a new Call-ID with any CSeq [RG-6-30 3261-10.3-01]', () => {
    register({ cseq: 5 });
    const late = register({ cseq: 4, contacts: [`<sip:dora@192.0.2.1>;reg-id=1;${INSTANCE}`] });
    expect(late.status).toBe(500);
    expect(stored()).toMatchObject([{ cseq: 5, contact: 'sip:dora@198.51.100.7:40002;transport=tcp' }]);
    const rebooted = register({ callId: 'new', cseq: 1 });
    expect(rebooted.status).toBe(200);
    expect(stored()).toMatchObject([{ callId: 'new', cseq: 1 }]);
  });

  it('answers a retransmission again without a change, but no other request of that CSeq [RG-6-30]', () => {
    register({ flowKey: '1.1.7.s', localPath: '<sip:T1@hub;lr;ob>' });
    const [before] = stored();
    const again = register({ flowKey: '1.1.7.s', localPath: '<sip:T1@hub;lr;ob>', now: START + 1000 });
    expect(again.status).toBe(200);
    expect(contactsOf(again)[0]).toMatch(/;expires=3599$/);
    expect(stored()).toEqual([before]);
    expect(register({ flowKey: '2.1.7.s', localPath: '<sip:T2@hub;lr;ob>' }).status).toBe(500);
    expect(register({ expires: '0' }).status).toBe(500);
    expect(stored()).toEqual([before]);
  });

  it.each(['0', '2147483648', '-1', 'abc', '', '1.0', '0x1'])(
    'refuses reg-id=%s [RG-6-31 GR-10-01]',
    (regId) => {
      const answer = register({ contacts: [`<sip:dora@198.51.100.7>;reg-id=${regId};${INSTANCE}`] });
      expect(answer.status).toBe(400);
      expect(stored()).toEqual([]);
    },
  );

  it('takes the largest reg-id and any letter case of its name [RG-6-31 GR-10-01]', () => {
    register({ contacts: [`<sip:dora@198.51.100.7>;Reg-ID=2147483647;${INSTANCE}`] });
    expect(stored()[0].regId).toBe(2147483647);
  });

  it('removes exactly the flow that is given expires=0 [RG-6-32]', () => {
    register();
    register({ contacts: [`<sip:dora@198.51.100.7>;reg-id=2;${INSTANCE}`], callId: 'b' });
    const answer = register({ contacts: [`<sip:dora@0.0.0.0>;reg-id=1;${INSTANCE};expires=0`], cseq: 2 });
    expect(answer.status).toBe(200);
    expect(stored().map((binding) => binding.regId)).toEqual([2]);
  });

  it('removes all bindings for * with Expires 0 [RG-6-33 3261-10.3-01]', () => {
    register();
    register({ contacts: ['<sip:dora@203.0.113.5>'], callId: 'b' });
    const answer = register({ contacts: ['*'], expires: '0', callId: 'c' });
    expect(answer.status).toBe(200);
    expect(contactsOf(answer)).toEqual([]);
    expect(location.count).toBe(0);
  });

  it('refuses * without Expires 0 or beside another contact [3261-10.3-01]', () => {
    register();
    expect(register({ contacts: ['*'], cseq: 2 }).status).toBe(400);
    expect(register({ contacts: ['*'], expires: '60', cseq: 2 }).status).toBe(400);
    expect(register({ contacts: ['*', '<sip:dora@203.0.113.5>'], expires: '0', cseq: 2 }).status).toBe(400);
    expect(register({ contacts: ['*, <sip:dora@203.0.113.5>'], expires: '0', cseq: 2 }).status).toBe(400);
    expect(register({ contacts: ['*;q=1'], expires: '0', cseq: 2 }).status).toBe(400);
    expect(stored()).toHaveLength(1);
  });

  it('refuses * whose CSeq is not higher than that of a binding [3261-10.3-01]', () => {
    register({ cseq: 5 });
    expect(register({ contacts: ['*'], expires: '0', cseq: 5 }).status).toBe(500);
    expect(stored()).toHaveLength(1);
    expect(register({ contacts: ['*'], expires: '0', cseq: 6 }).status).toBe(200);
  });

  it('does not change anything if one contact of several fails [3261-10.3-01]', () => {
    register({ contacts: ['<sip:a@192.0.2.1>'], cseq: 9 });
    const answer = register({ contacts: ['<sip:b@192.0.2.2>, <sip:a@192.0.2.1>'], cseq: 8 });
    expect(answer.status).toBe(500);
    expect(stored().map((binding) => binding.contact)).toEqual(['sip:a@192.0.2.1']);
  });

  it('names the extensions it does not have [3261-10.3-01]', () => {
    const answer = register({ require: ['path, foo', 'Bar'] });
    expect(answer).toMatchObject({ status: 420, headers: ['Unsupported: foo, bar'] });
    expect(register({ require: ['path, outbound'] }).status).toBe(200);
  });

  it('answers 423 only to a wish between 0 and the minimum [3261-10.3-02]', () => {
    expect(register({ expires: '5' })).toMatchObject({ status: 423, headers: ['Min-Expires: 60'] });
    expect(register({ expires: '59' }).status).toBe(423);
    expect(register({ expires: '60' }).status).toBe(200);
    expect(register({ expires: '0', cseq: 2 }).status).toBe(200);
    const hours = { minExpires: 7200 };
    expect(register({ expires: '3599', cseq: 3 }, hours).status).toBe(423);
    expect(register({ expires: '3600', cseq: 4 }, hours).status).toBe(200);
  });

  it('grants the expiry of the Contact, else of Expires, else its own, and not more than its most [3261-10.3-03]', () => {
    const granted = (contact: string, expires: string | undefined, cseq: number) => {
      const changes = expires === undefined ? {} : { expires };
      const answer = register({ contacts: [`<sip:d@192.0.2.1>${contact}`], cseq, ...changes });
      return contactsOf(answer)[0]?.match(/expires=(\d+)$/)?.[1];
    };
    expect(granted(';expires=100', '200', 1)).toBe('100');
    expect(granted('', '200', 2)).toBe('200');
    expect(granted('', undefined, 3)).toBe('3600');
    expect(granted(';expires=abc', undefined, 4)).toBe('3600');
    expect(granted(';expires=99999999999', undefined, 5)).toBe('7200');
  });

  it('takes or refuses Path from a client that does not offer path, by policy [3327-5.3-02]', () => {
    const changes = { supported: [], path: [PATH_OB], viaCount: 2 };
    expect(register(changes).status).toBe(200);
    const refused = register({ ...changes, cseq: 2 }, { refuseUnofferedPath: true });
    expect(refused).toMatchObject({ status: 420, headers: ['Unsupported: path'] });
  });

  it.each([
    { contacts: ['<sip:dora@>'] },
    { contacts: ['<sip:dora@h'] },
    { contacts: [''] },
    { contacts: ['<sip:d@h>;x="\r\nEvil: 1'] },
    { path: ['<tel:1>'] },
    { path: ['<sip:e;lr>, <'] },
    { path: new Array<string>(9).fill('<sip:e;lr;ob>') },
    { path: [`<sip:${'e'.repeat(2040)}@h;lr>`] },
    { contacts: [`<sip:d@h>;x=${'y'.repeat(1020)}`] },
    { aor: `sip:${'a'.repeat(600)}@example.net` },
  ])('refuses %j', (changes) => {
    expect(register(changes).status).toBe(400);
    expect(location.count).toBe(0);
  });

  it('refuses a contact that leads back to its address-of-record [5627-5.1-01]', () => {
    const as = (uri: string) => register({ contacts: [`<${uri}>;reg-id=1;${INSTANCE}`] }).status;
    expect(as(DORA)).toBe(403);
    expect(as('sip:dora@example.net;gr=urn:x')).toBe(403);
    expect(as('tel:+12015550123')).toBe(403);
    expect(as('sip:dora@198.51.100.7')).toBe(200);
  });

  it('refuses a contact that is a temporary GRUU of the address, and takes one of another [5627-5.1-01]', () => {
    const gruus = new Gruus(new Uint8Array(32));
    const as = (uri: string | undefined) =>
      register({
        contacts: [`<${uri}>;${INSTANCE}`],
        callId: `${uri}`,
        aorOfGruu: (uri) => gruus.read(uri)?.aor,
      }).status;
    expect(as(gruus.temporary(DORA, URN, 1))).toBe(403);
    expect(as(gruus.temporary('sip:eve@example.net', URN, 1))).toBe(200);
    expect(as(gruus.public('sip:eve@example.net', URN))).toBe(200);
  });

  it('knows gruu in Supported and in Require, and never says it [5627-5.2-02]', () => {
    const asked = (changes: Partial<RegisterRequest>) => {
      const decision = decideRegister(request(changes), DEFAULT_POLICY);
      if (decision.kind === 'reject') throw new Error(decision.reason);
      return decision.gruu;
    };
    expect(asked({})).toBe(false);
    expect(asked({ supported: ['path', 'GRUU, outbound'] })).toBe(true);
    expect(asked({ require: ['gruu'] })).toBe(true);
    expect(asked({ contacts: [], supported: ['gruu'] })).toBe(true);
    const { status, headers } = register({ supported: ['path, outbound, gruu'], require: ['gruu'] });
    expect(status).toBe(200);
    for (const line of headers.filter((h) => /^(Require|Supported):/.test(h)))
      expect(line).not.toContain('gruu');
  });

  it('limits the bindings of an address, refreshes excepted [RG-6-16]', () => {
    const policy = { maxContacts: 2 };
    const flow = (regId: number, cseq: number) =>
      register(
        { contacts: [`<sip:dora@198.51.100.7>;reg-id=${regId};${INSTANCE}`], callId: `${regId}`, cseq },
        policy,
      );
    expect([flow(1, 1), flow(2, 1), flow(3, 1)].map((answer) => answer.status)).toEqual([200, 200, 403]);
    expect(flow(2, 2).status).toBe(200);
    expect(stored()).toHaveLength(2);
  });

  it('forgets a binding when its time is over', () => {
    register({ expires: '60' });
    expect(stored(DORA, START + 59_999)).toHaveLength(1);
    expect(stored(DORA, START + 60_000)).toHaveLength(0);
    expect(location.sweep(START + 60_000, 100)).toBe(1);
    expect(location.count).toBe(0);
  });
});

describe('a registrar whose store does not take the registration', () => {
  it.each([
    ['busy', 503],
    ['error', 500],
    ['flow-closed', 500],
  ] as const)('(%s) says %i and never 200', (status, code) => {
    const accepted = { now: START, path: [], requireOutbound: true, gruu: true };
    const answer = answerRegister(accepted, { status, bindings: [], count: 0 });
    expect(answer.status).toBe(code);
    expect(answer.headers).toEqual(code === 503 ? ['Retry-After: 5'] : []);
  });
});
