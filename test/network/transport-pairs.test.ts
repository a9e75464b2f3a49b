/**
 * Who can call whom: phones over each transport call phones over each transport, in IPv4, in IPv6, and from one to the
 * other. Both have registered by outbound. All that is looked at is what phones have in hand: which listeners stand
 * in Via and in the route set, and that each message of the call, of both sides, comes over the one flow that its
 * phone has.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { acknowledge, ask, call } from '../harness/dialog.ts';
import { type AnyTransport, EVERY_TRANSPORT, type Family } from '../harness/listeners.ts';
import { parseNameAddr, type SipMessage } from '../harness/sip.ts';
import { Chain, type ChainOptions } from './chain.ts';

interface Kind extends ChainOptions {
  title: string;
  /** caller and callee */
  between: [Family, Family][];
}

const KINDS: Kind[] = [
  {
    title: 'IPv4',
    forwarding: 'stateful',
    families: ['IPv4'],
    core: 'IPv4',
    between: [['IPv4', 'IPv4']],
  },
  {
    title: 'IPv4, the edge stateless',
    forwarding: 'stateless',
    families: ['IPv4'],
    core: 'IPv4',
    between: [['IPv4', 'IPv4']],
  },
  {
    title: 'IPv6',
    forwarding: 'stateful',
    families: ['IPv6'],
    core: 'IPv6',
    between: [['IPv6', 'IPv6']],
  },
  {
    title: 'both families',
    forwarding: 'stateful',
    families: ['IPv4', 'IPv6'],
    core: 'IPv4',
    between: [
      ['IPv4', 'IPv6'],
      ['IPv6', 'IPv4'],
    ],
  },
];

const isWeb = (transport: AnyTransport) => transport === 'WS' || transport === 'WSS';

/** What a call between these phones shows. */
function shown(from: AnyTransport, to: AnyTransport, isDoubled: boolean): string {
  const ids = ['EP-5.3.1-01', 'EP-5.3.2-01', 'EP-5.3.2-03', 'EP-5.3.2-04', '5627-6.2-02'];
  if (isDoubled) ids.push('3261-16.6-03', '3261-16.4-02');
  if (isWeb(from) || isWeb(to)) ids.push('7118-5.2-01');
  if (isWeb(to)) ids.push('7118-5.1-01', '7118-5.3-02', '7118-5.4-01');
  if (to === 'TLS') ids.push('5923-8-01');
  return ids.join(' ');
}

const REGISTERING = 'EP-3.4-03 EP-5.1-03 EP-5.1-08 RG-6-01 RG-6-18';

const sentBy = ({ via }: SipMessage): string[] =>
  via.map(({ transport, host, port }) => `${transport} ${host}${port === undefined ? '' : `:${port}`}`);

describe.each(KINDS)('$title:', ({ between, ...options }) => {
  let chain: Chain;
  beforeAll(async () => {
    chain = await Chain.start(options);
  });
  afterAll(() => chain?.close());

  for (const family of options.families)
    for (const transport of EVERY_TRANSPORT)
      it(`a phone over ${transport}, ${family}, registers by outbound through the edge [${REGISTERING}]`, async () => {
        const { answer, contactUri } = await chain.phone(transport, family);
        expect(answer.all('Require')).toContain('outbound');
        expect(answer.fields('Flow-Timer')).toHaveLength(1);
        expect(answer.via).toHaveLength(1);
        expect(answer.all('Path')).toEqual([chain.pathWith(parseNameAddr(answer.all('Path')[0]).user)]);
        expect(answer.all('Contact').map((value) => parseNameAddr(value).uri)).toEqual([contactUri]);
        expect(parseNameAddr(answer.all('Contact')[0]).params.get('reg-id')).toBe('1');
      });

  for (const [fromFamily, toFamily] of between)
    for (const from of EVERY_TRANSPORT)
      for (const to of EVERY_TRANSPORT) {
        const isDoubled = from !== 'UDP' || to !== 'UDP' || fromFamily !== toFamily;
        it(`${from}, ${fromFamily}, calls ${to}, ${toFamily}, and both speak in the call [${shown(from, to, isDoubled)}]`, async () => {
          const caller = await chain.phone(from, fromFamily);
          const callee = await chain.phone(to, toFamily);
          if (to === 'TLS') expect(callee.answer.via[0].params.has('alias')).toBe(false);
          if (isWeb(to))
            for (const host of [callee.answer.via[0].host, parseNameAddr(`<${callee.contactUri}>`).host])
              expect(host).toMatch(/\.invalid$/);

          const dialog = await call(caller.agent, callee.agent, callee.aor);
          const { invite, ok } = dialog;
          expect(invite.uri).toBe(callee.contactUri);
          expect(invite.all('Record-Route')).toEqual(chain.routeSet(caller, callee));
          expect(ok.all('Record-Route')).toEqual(chain.routeSet(caller, callee));
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

  it('nothing has come to any phone but what was for it', async () => {
    for (const { agent } of chain.phones) await agent.expectNothing();
  });
});
