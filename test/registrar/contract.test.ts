import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Binding, contactKey, flowKey } from '../../src/registrar/binding.ts';
import { Location } from '../../src/registrar/location.ts';
import type { StoreOp, StoreResult, UpdateOp } from '../../src/registrar/store.ts';
import { BACKENDS } from './backends.ts';
import { hasRedis, RedisServer, type Registrar, registrar } from './redis-server.ts';
import { DORA, EVE, flowContact, START, update } from './requests.ts';

/** The contract of store.ts, for every store there is: an answer for an operation. */
interface Store {
  handle(op: StoreOp): StoreResult | Promise<StoreResult>;
  dispose(): Promise<void>;
}

let server: RedisServer;
const STORES: { name: string; make: () => Store | Promise<Store> }[] = BACKENDS.map(({ name, make }) => ({
  name,
  make() {
    const { backend, dispose } = make();
    const location = new Location(backend);
    return { handle: (op) => location.handle(op), dispose };
  },
}));
STORES.push({
  name: 'redis',
  async make() {
    server.command('FLUSHALL');
    const { store, close }: Registrar = await registrar(server.url, { clock: 'caller' });
    return { handle: (op) => store.handle(op), dispose: close };
  },
});

beforeAll(async () => {
  if (hasRedis) server = await RedisServer.start();
});
afterAll(() => server?.dispose());

for (const { name, make } of STORES)
  describe.skipIf(name === 'redis' && !hasRedis)(`the location store (${name})`, () => {
    let store: Store;
    beforeEach(async () => {
      store = await make();
    });
    afterEach(() => store.dispose());

    const register = async (changes: Partial<UpdateOp> = {}) => store.handle(update(changes));
    const lookup = async (aor = DORA, now = START) =>
      (await store.handle({ kind: 'lookup', aor, now })).bindings;
    const regIds = async (aor = DORA) => (await lookup(aor)).map((binding) => binding.regId);
    const flowClosed = async (flow: string) => (await store.handle({ kind: 'flow-closed', flow })).count;
    const remove = async ({ key, order }: Binding) =>
      (await store.handle({ kind: 'remove', aor: DORA, key, ifOrder: order })).count;

    it('gives back what was registered, to the octet, and its time in the clock of who asks', async () => {
      const contact = flowContact(0, {
        key: contactKey('sip:ü@h'),
        params: [
          ['+sip.instance', '"<urn:x:1>"'],
          ['methods', '"INVITE,BYE"'],
          ['video', undefined],
        ],
        contact: 'sip:%C3%BC@192.0.2.1;ob',
        q: 700,
        expires: 600,
      });
      const stored = await register({
        contacts: [contact],
        path: ['<sip:a@e1;lr;ob>', '<sip:b@e2;lr>'],
        callId: 'ä@b',
        cseq: 4_294_967_295,
        flow: '1.2.3.d',
        userAgent: 'x/1',
      });
      const { key, contact: uri, params, q, regId } = contact;
      expect(stored).toMatchObject({ status: 'ok', count: 0 });
      expect(await lookup()).toEqual(stored.bindings);
      const [{ order, ...binding }] = stored.bindings;
      expect(order).toBeGreaterThan(0);
      expect(binding).toEqual({
        key,
        contact: uri,
        params,
        q,
        regId,
        instance: 'urn:x:1',
        path: ['<sip:a@e1;lr;ob>', '<sip:b@e2;lr>'],
        callId: 'ä@b',
        cseq: 4_294_967_295,
        flow: '1.2.3.d',
        userAgent: 'x/1',
        expiresAt: START + 600_000,
        updatedAt: START,
        epoch: order,
      });
    });

    it('refuses a lower CSeq of the same Call-ID, takes any of another [3261-10.3-01]', async () => {
      await register({ cseq: 5 });
      expect((await register({ cseq: 4 })).status).toBe('stale');
      expect(
        (await register({ cseq: 5, contacts: [flowContact(1, { contact: 'sip:d@192.0.2.2' })] })).status,
      ).toBe('stale');
      expect((await register({ cseq: 4, contacts: [flowContact(1, { expires: 0 })] })).status).toBe('stale');
      expect((await register({ cseq: 1, callId: 'b' })).status).toBe('ok');
      expect((await lookup()).map(({ callId, cseq }) => [callId, cseq])).toEqual([['b', 1]]);
    });

    it('answers a retransmission as it answered the first, and changes nothing', async () => {
      const first = await register({ flow: '1.1.1.s' });
      expect(await register({ flow: '1.1.1.s', now: START + 5_000 })).toEqual(first);
      expect((await register({ flow: '2.1.1.s' })).status).toBe('stale');
    });

    it('applies all Contacts of a request or none', async () => {
      await register({ cseq: 5, contacts: [flowContact(2)] });
      const late = await register({ cseq: 4, contacts: [flowContact(1), flowContact(2)] });
      expect(late.status).toBe('stale');
      expect(await regIds()).toEqual([2]);
    });

    it('takes the last of two Contacts with one key', async () => {
      await register({ contacts: [flowContact(1, { q: 1 }), flowContact(1, { q: 2 })] });
      expect((await lookup()).map(({ q }) => q)).toEqual([2]);
    });

    it('clears all bindings, but not those of a later request of the same Call-ID', async () => {
      await register({ cseq: 3, contacts: [flowContact(1), flowContact(2)] });
      expect((await register({ cseq: 3, clear: true, contacts: [] })).status).toBe('stale');
      expect(await register({ cseq: 4, clear: true, contacts: [] })).toMatchObject({
        status: 'ok',
        bindings: [],
      });
      expect(await lookup()).toEqual([]);
    });

    it('refuses more bindings than allowed, and lets those who are in refresh', async () => {
      await register({ contacts: [flowContact(1), flowContact(2)] });
      expect((await register({ cseq: 2, contacts: [flowContact(3)], maxContacts: 2 })).status).toBe('full');
      expect((await register({ cseq: 3, contacts: [flowContact(2)], maxContacts: 1 })).status).toBe('ok');
      expect(await regIds()).toEqual([2, 1]);
    });

    it('does not show a binding whose time is over, and forgets its Call-ID', async () => {
      await register({ cseq: 9, contacts: [flowContact(1, { expires: 60 }), flowContact(2)] });
      const later = START + 60_000;
      expect((await lookup(DORA, later)).map(({ regId }) => regId)).toEqual([2]);
      expect((await register({ cseq: 1, now: later })).bindings.map(({ regId }) => regId)).toEqual([1, 2]);
    });

    it('keeps an address apart from others, whatever characters it has', async () => {
      const names = ['sip:a{b}c@h', 'sip:a}b@h', 'sip:{}@h', 'sip:*@h', 'sip:a%7Bb@h'];
      for (const aor of names) await register({ aor });
      for (const aor of names) expect(await regIds(aor)).toEqual([1]);
      const { aors } = await store.handle({ kind: 'list', limit: 10 });
      expect(aors?.toSorted()).toEqual(names.toSorted());
    });

    it('lists every address once, page by page, and counts the bindings', async () => {
      const names = Array.from({ length: 25 }, (_, i) => `sip:u${i}@h`);
      for (const aor of names) await register({ aor, contacts: [flowContact(1), flowContact(2)] });
      const seen: string[] = [];
      for (let after: string | undefined; ; after = seen.at(-1)) {
        const page = await store.handle({ kind: 'list', limit: 10, ...(after !== undefined && { after }) });
        expect(page).toMatchObject({ status: 'ok', count: 50 });
        if (page.aors?.length === 0) break;
        seen.push(...(page.aors ?? []));
      }
      expect(seen.toSorted()).toEqual(names.toSorted());
    });

    it('orders by q, then by the last registration, then by reg-id [AP-7-09]', async () => {
      await register({ contacts: [flowContact(2), flowContact(1)] });
      expect(await regIds()).toEqual([1, 2]);
      await register({ contacts: [flowContact(3, { q: 500 })], callId: 'b' });
      expect(await regIds()).toEqual([1, 2, 3]);
      await register({ contacts: [flowContact(2)], cseq: 2 });
      expect(await regIds()).toEqual([2, 1, 3]);
    });

    it('retires every binding of a flow that closes, whatever its address [AP-7-06 AP-7-07 AP-7-08]', async () => {
      const flow = flowKey(9, 1, 7, false);
      await register({ flow });
      await register({ flow, aor: EVE, contacts: [flowContact(1), flowContact(2)] });
      await register({ flow: flowKey(9, 2, 7, false), contacts: [flowContact(2)] });
      expect(await flowClosed(flow)).toBe(3);
      expect(await regIds()).toEqual([2]);
      expect(await regIds(EVE)).toEqual([]);
      expect(await flowClosed(flow)).toBe(0);
    });

    it('refuses a registration whose flow closed before it was stored [AP-7-07]', async () => {
      const flow = flowKey(9, 1, 7, false);
      await flowClosed(flow);
      expect((await register({ flow })).status).toBe('flow-closed');
      expect(await lookup()).toEqual([]);
    });

    it('does not retire a binding that moved to another flow [RG-6-22]', async () => {
      const [old, fresh] = [flowKey(1, 1, 7, false), flowKey(2, 1, 7, false)];
      await register({ flow: old });
      await register({ flow: fresh, cseq: 2 });
      expect(await flowClosed(old)).toBe(0);
      expect(await flowClosed(fresh)).toBe(1);
    });

    it('removes what a 430 was for, unless it has registered anew [AP-7-10]', async () => {
      await register();
      const [stale] = await lookup();
      await register({ cseq: 2 });
      expect(await remove(stale)).toBe(0);
      const [fresh] = await lookup();
      expect(await remove(fresh)).toBe(1);
      expect(await remove(fresh)).toBe(0);
      expect(await lookup()).toEqual([]);
      await register({ cseq: 3 });
      expect(await store.handle({ kind: 'remove', aor: DORA, key: fresh.key })).toMatchObject({ count: 1 });
      expect(await lookup()).toEqual([]);
    });

    describe('the epoch of a device, which its temporary GRUUs hold', () => {
      const epochs = async (aor = DORA, now = START) =>
        Object.fromEntries((await lookup(aor, now)).map(({ key, epoch }) => [key, epoch]));
      const flows = (...regIds: number[]) => regIds.map((regId) => flowContact(regId));
      const plain = (host: string, instance = 'urn:x:1') =>
        flowContact(0, { key: contactKey(`sip:d@${host}`), contact: `sip:d@${host}`, instance });
      const [one, two] = flows(1, 2).map(({ key }) => key);

      it('stays through refreshes, a second flow, and the end of one of two [5627-4.1-03 5627-4.2-01]', async () => {
        await register({ contacts: flows(1) });
        const { [one]: epoch } = await epochs();
        expect(epoch).toBeGreaterThan(0);
        await register({ contacts: flows(1), cseq: 2 });
        await register({ contacts: flows(2), callId: 'b' });
        expect(await epochs()).toEqual({ [one]: epoch, [two]: epoch });
        await register({ contacts: [flowContact(1, { expires: 0 })], cseq: 3 });
        await register({ contacts: flows(2), callId: 'b', cseq: 2 });
        expect(await epochs()).toEqual({ [two]: epoch });
      });

      it('is another one for all flows when one of them comes with a new Call-ID [5627-5.1-03 5627-4.1-03]', async () => {
        await register({ contacts: flows(1) });
        await register({ contacts: flows(2), callId: 'b' });
        const before = await lookup();
        const result = await register({ contacts: flows(1), callId: 'c' });
        const after = await lookup();
        expect(result.bindings).toEqual(after);
        expect(new Set(after.map(({ epoch }) => epoch))).toEqual(new Set([after[0].order]));
        expect(after[0].order).toBeGreaterThan(before[0].epoch ?? 0);
        // the flow that did not register is otherwise as it was
        const { epoch: _, ...other } = after.find(({ key }) => key === two) ?? after[0];
        const { epoch: _before, ...otherBefore } = before.find(({ key }) => key === two) ?? before[0];
        expect(other).toEqual(otherBefore);
      });

      it('is another one when a contact without reg-id comes with a Call-ID that the latest had not [5627-5.1-03]', async () => {
        const [a, b] = [plain('192.0.2.1'), plain('192.0.2.2')];
        await register({ contacts: [a] });
        const { [a.key]: first } = await epochs();
        await register({ contacts: [b], cseq: 2 });
        expect(await epochs()).toEqual({ [a.key]: first, [b.key]: first });
        await register({ contacts: [b], callId: 'after the reboot' });
        const { [a.key]: second } = await epochs();
        expect(second).toBeGreaterThan(first ?? 0);
        await register({ contacts: [a], cseq: 3 });
        const { [a.key]: third, ...rest } = await epochs();
        expect(third).toBeGreaterThan(second ?? 0);
        expect(rest).toEqual({ [b.key]: third });
      });

      it('is another one when the last contact had ended [5627-5.1-03]', async () => {
        await register({ contacts: flows(1), flow: '1.1.1.s' });
        const { [one]: first } = await epochs();
        await flowClosed('1.1.1.s');
        await register({ contacts: flows(1), cseq: 2, now: START + 1_000 });
        const { [one]: second } = await epochs();
        expect(second).toBeGreaterThan(first ?? 0);
        await register({ contacts: [flowContact(1, { expires: 0 })], cseq: 3, now: START + 1_000 });
        await register({ contacts: flows(1), cseq: 4, now: START + 2_000 });
        const { [one]: third } = await epochs();
        expect(third).toBeGreaterThan(second ?? 0);
        const late = START + 2_000 + 3_600_000;
        await register({ contacts: flows(1), cseq: 5, now: late });
        expect((await epochs(DORA, late))[one]).toBeGreaterThan(third ?? 0);
      });

      it('moves with a device whose address changes in one request, in whichever order the two Contacts stand', async () => {
        const [a, b, c] = ['192.0.2.1', '192.0.2.2', '192.0.2.3'].map((host) => plain(host));
        await register({ contacts: [a] });
        const { [a.key]: epoch } = await epochs();
        await register({ contacts: [{ ...a, expires: 0 }, b], cseq: 2 });
        expect(await epochs()).toEqual({ [b.key]: epoch });
        await register({ contacts: [c, { ...b, expires: 0 }], cseq: 3 });
        expect(await epochs()).toEqual({ [c.key]: epoch });
      });

      it('is of one device of one address: others keep theirs, and a Contact without instance-id has none', async () => {
        const other = plain('192.0.2.9', 'urn:x:2');
        const { instance: _, ...anonymous } = plain('192.0.2.7');
        await register({ contacts: flows(1) });
        await register({ contacts: [other] });
        await register({ contacts: [anonymous], callId: 'x' });
        await register({ contacts: flows(1), aor: EVE });
        const before = await epochs();
        const eve = await epochs(EVE);
        expect(before[anonymous.key]).toBeUndefined();
        await register({ contacts: flows(1), callId: 'b' });
        const after = await epochs();
        expect(after[one]).not.toBe(before[one]);
        expect(after[other.key]).toBe(before[other.key]);
        expect(after[anonymous.key]).toBeUndefined();
        expect(await epochs(EVE)).toEqual(eve);
      });

      it('is not changed by a retransmission that comes late, nor by a request that is refused', async () => {
        const [a, b] = [plain('192.0.2.1'), plain('192.0.2.2')];
        await register({ contacts: [a] });
        await register({ contacts: [b], callId: 'b', cseq: 7 });
        const before = await epochs();
        expect((await register({ contacts: [a] })).status).toBe('ok');
        expect((await register({ contacts: [b], callId: 'b', cseq: 6 })).status).toBe('stale');
        expect((await register({ contacts: [plain('192.0.2.3')], callId: 'c', maxContacts: 2 })).status).toBe(
          'full',
        );
        expect(await epochs()).toEqual(before);
      });
    });

    it('matches contacts that 19.1.4 calls equal though a parameter differs, and keeps apart those it does not', async () => {
      const contact = (uri: string) => flowContact(0, { key: contactKey(uri), contact: uri });
      const put = (uri: string, cseq: number) => register({ contacts: [contact(uri)], cseq });
      await put('sip:d@h.example;x=1', 1);
      await put('sip:d@h.example', 2);
      expect(await lookup()).toHaveLength(1);
      await put('sip:d@h.example;x=2', 3);
      await put('sip:d@h.example;transport=tcp', 4);
      await put('sip:d@h.example:5060', 5);
      expect(await lookup()).toHaveLength(3);
    });

    it('keeps (Call-ID, CSeq) order, q order and flows like the model, over 3,000 requests', async () => {
      let seed = 20_260_101;
      const random = (n: number) => {
        seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff;
        return (seed >>> 8) % n;
      };
      const model = new Map<string, Binding>();
      const statuses = new Map<string, number>();
      let now = START;
      for (let step = 0; step < 3_000; step++) {
        now += random(20) * 1000;
        const aor = `sip:u${random(4)}@h`;
        const regId = 1 + random(3);
        const callId = `c${random(2)}`;
        const cseq = random(40) + Math.floor(step / 100);
        const expires = random(4) === 0 ? 0 : 60 * (1 + random(10));
        const flow = flowKey(step, 1, 7, false);
        const id = `${aor} ${regId}`;
        const old = model.get(id);
        const live = old !== undefined && old.expiresAt > now ? old : undefined;
        const late = live !== undefined && live.callId === callId && cseq <= live.cseq;
        const closing = random(10) === 0 ? live?.flow : undefined;
        if (closing !== undefined) {
          expect(await flowClosed(closing)).toBe(1);
          model.delete(id);
          continue;
        }
        const contacts = [flowContact(regId, { expires })];
        const result = await store.handle(update({ aor, callId, cseq, contacts, now, flow }));
        statuses.set(result.status, (statuses.get(result.status) ?? 0) + 1);
        expect(result.status).toBe(late ? 'stale' : 'ok');
        if (!late) {
          if (expires === 0) model.delete(id);
          else model.set(id, { callId, cseq, flow, expiresAt: now + expires * 1000 } as Binding);
        }
        const seen = await lookup(aor, now);
        const expected = [...model].filter(([key, b]) => key.startsWith(`${aor} `) && b.expiresAt > now);
        expect(seen).toHaveLength(expected.length);
        for (const [key, { callId, cseq, flow, expiresAt }] of expected) {
          const binding = seen.find((b) => `${aor} ${b.regId}` === key);
          expect(binding).toMatchObject({ callId, cseq, flow, expiresAt });
        }
      }
      expect(statuses.get('stale')).toBeGreaterThan(300);
      expect(statuses.get('ok')).toBeGreaterThan(300);
    });
  });
