/**
 * Who can call whom: phones over each transport call phones over each transport, in IPv4, in IPv6, and from one to the
 * other, through an edge and a core, and through one process. Both have registered by outbound. All that is looked at
 * is what phones have in hand: which listeners stand in Via and in the route set, and that each message of the call, of
 * both sides, comes over the one flow that its phone has.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { acknowledge, ask, call } from '../harness/dialog.ts';
import { type AnyTransport, EVERY_TRANSPORT, type Family } from '../harness/listeners.ts';
import { parseNameAddr, type SipMessage } from '../harness/sip.ts';
import { Chain, type ChainOptions, named, tokensIn } from './chain.ts';

const BY_UDP = { transport: 'UDP', family: 'IPv4' } as const;
const BY_TCP = { transport: 'TCP', family: 'IPv4' } as const;
const BY_TLS = { transport: 'TLS', family: 'IPv6' } as const;
const BY_UDP6 = { transport: 'UDP', family: 'IPv6' } as const;

interface Kind extends ChainOptions {
  title: string;
  /** caller and callee */
  between: [Family, Family][];
}

const KINDS: Kind[] = [
  {
    title: 'an edge before a core',
    families: ['IPv4', 'IPv6'],
    link: BY_UDP,
    between: [
      ['IPv4', 'IPv4'],
      ['IPv4', 'IPv6'],
      ['IPv6', 'IPv4'],
    ],
  },
  {
    title: 'a stateless edge before a core',
    families: ['IPv4'],
    link: BY_UDP,
    forwarding: 'stateless',
    between: [['IPv4', 'IPv4']],
  },
  { title: 'an edge before a core over TCP', families: ['IPv4'], link: BY_TCP, between: [['IPv4', 'IPv4']] },
  {
    title: 'an edge before a core over TLS, by name',
    families: ['IPv4', 'IPv6'],
    link: BY_TLS,
    between: [['IPv4', 'IPv4']],
  },
  { title: 'an edge and a core, all IPv6', families: ['IPv6'], link: BY_UDP6, between: [['IPv6', 'IPv6']] },
  {
    title: 'one process',
    families: ['IPv4', 'IPv6'],
    between: [
      ['IPv4', 'IPv4'],
      ['IPv6', 'IPv6'],
      ['IPv4', 'IPv6'],
    ],
  },
];

const isWeb = (transport: AnyTransport) => transport === 'WS' || transport === 'WSS';

/** What a call between these phones shows. */
function shown(kind: Kind, from: AnyTransport, to: AnyTransport, isMixed: boolean): string {
  const ids = ['EP-5.3.2-01', 'EP-5.3.2-03', 'EP-5.3.2-04'];
  ids.push(...(kind.link ? ['EP-5.3.1-01', '5627-6.2-02'] : ['RG-6-20']));
  const inner = kind.link?.transport ?? from;
  if (isMixed || from !== inner || to !== inner) ids.push('3261-16.6-03', '3261-16.4-02');
  if (isWeb(from) || isWeb(to)) ids.push('7118-5.2-01');
  if (isWeb(to)) ids.push('7118-5.1-01', '7118-5.3-02', '7118-5.4-01');
  if (to === 'TLS') ids.push('5923-8-01');
  return ids.join(' ');
}

const registering = ({ link }: Kind): string =>
  link ? 'EP-3.4-03 EP-5.1-03 EP-5.1-08 EP-5.4-06 RG-6-01 RG-6-18' : 'RG-6-18 RG-6-25';

const sentBy = ({ via }: SipMessage): string[] =>
  via.map(({ transport, host, port }) => `${transport} ${host}${port === undefined ? '' : `:${port}`}`);

describe.each(KINDS)('$title:', (kind) => {
  let chain: Chain;
  beforeAll(async () => {
    chain = await Chain.start(kind);
  });
  afterAll(() => chain?.close());

  for (const family of kind.families)
    for (const transport of EVERY_TRANSPORT)
      it(`a phone over ${transport}, ${family}, registers by outbound [${registering(kind)}]`, async () => {
        const { answer, contactUri } = await chain.phone('caller', transport, family);
        expect(answer.all('Require')).toContain('outbound');
        expect(answer.fields('Flow-Timer')).toHaveLength(1);
        expect(answer.via).toHaveLength(1);
        expect(answer.all('Path')).toEqual(chain.pathWith(tokensIn(answer.all('Path'))[0]));
        const [contact, ...others] = answer.all('Contact').map(parseNameAddr);
        expect(others).toEqual([]);
        expect(contact.uri).toBe(contactUri);
        expect(contact.params.get('reg-id')).toBe('1');
      });

  it(`who is registered has keep-alives answered, by the one he registered through [${kind.link ? 'EP-5.4-01 EP-5.4-02' : 'RG-6-24'}]`, async () => {
    for (const family of kind.families)
      for (const transport of EVERY_TRANSPORT) {
        const { agent } = await chain.phone('caller', transport, family);
        for (let i = 0; i < 3; i++) await agent.probe();
      }
  });

  for (const [fromFamily, toFamily] of kind.between)
    for (const from of EVERY_TRANSPORT)
      for (const to of EVERY_TRANSPORT) {
        const families = new Set([fromFamily, toFamily, kind.link?.family ?? fromFamily]);
        const ids = shown(kind, from, to, families.size > 1);
        it(`${from}, ${fromFamily}, calls ${to}, ${toFamily}, and both speak in the call [${ids}]`, async () => {
          const caller = await chain.phone('caller', from, fromFamily);
          const callee = await chain.phone('callee', to, toFamily);
          if (to === 'TLS') expect(callee.answer.via[0].params.has('alias')).toBe(false);
          if (isWeb(to))
            for (const host of [callee.answer.via[0].host, parseNameAddr(`<${callee.contactUri}>`).host])
              expect(host).toMatch(/\.invalid$/);

          const dialog = await call(caller.agent, callee.agent, callee.aor);
          const { invite, ok } = dialog;
          const recorded = invite.all('Record-Route');
          expect(invite.uri).toBe(callee.contactUri);
          expect(named(recorded)).toEqual(chain.routeSet(caller, callee));
          if (kind.link)
            expect(tokensIn(recorded)).toEqual(
              [callee, caller].flatMap(({ answer }) => tokensIn(answer.all('Path'))),
            );
          expect(ok.all('Record-Route')).toEqual(recorded);
          expect(ok.via.map(({ branch }) => branch)).toEqual([invite.via.at(-1)?.branch]);

          const toCallee = [
            await acknowledge(dialog),
            (await ask(dialog, dialog.caller, dialog.callee, 'INVITE', 2)).got,
            await acknowledge(dialog, 2),
          ];
          const bye = (await ask(dialog, dialog.callee, dialog.caller, 'BYE', 70)).got;
          for (const got of toCallee) expect(got.uri).toBe(dialog.caller.target);
          expect(bye.uri).toBe(dialog.callee.target);
          for (const got of [...toCallee, bye]) expect(got.header('Route')).toBeUndefined();

          const [fromCaller] = sentBy(caller.answer);
          for (const got of [invite, ...toCallee])
            expect(sentBy(got)).toEqual([...chain.viasTo(callee), fromCaller]);
          expect(sentBy(bye)).toEqual([...chain.viasTo(caller), sentBy(callee.answer)[0]]);

          await caller.agent.expectNothing();
          await callee.agent.expectNothing();
        });
      }

  it('nothing has come to any phone but what was in its calls', async () => {
    for (const { agent } of chain.phones) await agent.expectNothing();
  });
});
