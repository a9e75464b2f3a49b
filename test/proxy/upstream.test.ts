/** The upstream as a shard sees it: which target a request is for, and which host is one of its. */
import { describe, expect, it } from 'vitest';
import { SipHash } from '../../src/flow/siphash.ts';
import { NO_TARGET } from '../../src/proxy/targetset.ts';
import { ANY_TARGET, OTHER_HOST, Upstream } from '../../src/proxy/upstream.ts';
import { UriView } from '../../src/wire/address.ts';
import { Message } from '../../src/wire/lexer.ts';
import { TCP, UDP } from '../../src/wire/via.ts';
import { endpoint, keyring, request } from './rig.ts';

function upstream(addresses: string[], now = () => 0): Upstream {
  const made = new Upstream({
    names: [{ host: 'Core.Test', port: 0 }],
    hash: new SipHash(keyring.derive('upstream-choice')),
    now,
  });
  const targets = addresses.map((address, i) => {
    return { transport: UDP, host: `s${i}.test`, address: endpoint(address), priority: 0, weight: 1 };
  });
  made.replace({ targets, failure: '', ttl: 0 });
  return made;
}

function message(parts: Parameters<typeof request>[0] = {}): Message {
  const octets = Buffer.from(request(parts), 'latin1');
  const m = new Message();
  m.lex(octets, 0, octets.length, true);
  return m;
}

const THREE = ['192.0.2.1:5060', '192.0.2.2:5060', '192.0.2.3:5080'];

describe('the target of a request', () => {
  it('is the same for all of one Call-ID, on every shard and whatever the order of the list [3263-4.3-02]', () => {
    const [one, other] = [upstream(THREE), upstream(THREE.toReversed())];
    const used = new Set<string>();
    for (let i = 0; i < 60; i++) {
      const callId = `call-${i}`;
      const at = (u: Upstream, method: string) => `${u.at(u.choose(message({ callId, method })))?.address}`;
      const chosen = at(one, 'INVITE');
      used.add(chosen);
      for (const method of ['ACK', 'CANCEL', 'REGISTER'])
        expect([at(one, method), at(other, method)]).toEqual([chosen, chosen]);
    }
    expect(used.size).toBe(3);
  });

  it('is none where the list is empty or all are tried, and the one of a list of one without a look at the clock', () => {
    expect(upstream([]).choose(message())).toBe(NO_TARGET);
    expect(upstream(THREE).choose(message(), 0b111)).toBe(NO_TARGET);
    let reads = 0;
    const single = upstream(THREE.slice(0, 1), () => reads++);
    const before = reads;
    expect(single.choose(message())).toBe(0);
    expect(reads).toBe(before);
  });

  it('moves when its target is lost, and those of the others stay', () => {
    const set = upstream(THREE);
    const calls = Array.from({ length: 60 }, (_, i) => message({ callId: `call-${i}` }));
    const before = calls.map((m) => set.choose(m));
    const seen: [string, boolean][] = [];
    set.changed = ({ host }, alive) => seen.push([host, alive]);
    set.lost(endpoint(THREE[1]), TCP); // another transport is another target
    expect(seen).toEqual([]);
    set.lost(endpoint(THREE[1]), UDP);
    set.lost(endpoint(THREE[1]), UDP);
    for (const [i, m] of calls.entries())
      if (before[i] === 1) expect(set.choose(m)).not.toBe(1);
      else expect(set.choose(m)).toBe(before[i]);
    set.answered(endpoint(THREE[1]), UDP);
    set.answered(endpoint(THREE[1]), UDP);
    expect(calls.map((m) => set.choose(m))).toEqual(before);
    expect(seen).toEqual([
      ['s1.test', false],
      ['s1.test', true],
    ]);
  });
});

describe('a Route that names', () => {
  it.each([
    ['a target by its address', 'sip:192.0.2.2;lr', 1],
    ['a target by its address and port', 'sip:192.0.2.3:5080;lr', 2],
    ['a server of the list by its name', 'sip:S1.test;lr', 1],
    ['the upstream as it is configured', 'sip:core.test;lr', ANY_TARGET],
    ['the same with the default port', 'sip:CORE.TEST:5060;lr', ANY_TARGET],
    ['the upstream on another port', 'sip:core.test:5070;lr', OTHER_HOST],
    ['a target on another port', 'sip:192.0.2.2:5061;lr', OTHER_HOST],
    ['a server of the list on another port', 'sip:s2.test;lr', OTHER_HOST],
    ['another host', 'sip:other.test;lr', OTHER_HOST],
  ])('%s', (_, uri, expected) => {
    const octets = Buffer.from(uri, 'latin1');
    const view = new UriView();
    view.parse(octets, 0, octets.length);
    expect(upstream(THREE).match(octets, view)).toBe(expected);
  });
});
