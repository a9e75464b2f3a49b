/** The byte-level readers of name-addr and URI against the grammars on strings, which share no code with them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AddressView, SCHEME_OTHER, SIP, SIPS, TEL, UriView } from '../../src/wire/address.ts';
import { formatNameAddr, headerParam, parseNameAddr, splitList } from '../../src/wire/nameaddr.ts';
import { isSip, parseUri, uriParam } from '../../src/wire/uri.ts';
import { TRANSPORTS } from '../../src/wire/via.ts';

const latin1 = (text: string) => Buffer.from(text, 'latin1');
const PAD = 4;

function uri(
  text: string,
  behind = '>;lr@x',
): { view: UriView; ok: boolean; at: (from: number, to: number) => string } {
  const buf = Buffer.concat([latin1('sip:'), latin1(text), latin1(behind)]);
  const view = new UriView();
  const ok = view.parse(buf, PAD, PAD + text.length);
  return { view, ok, at: (from, to) => buf.toString('latin1', from, to) };
}

const user = fc.stringMatching(/^([A-Za-z0-9\-_.!~*'()&=+$,;?/]|%[0-9A-F]{2}){1,14}$/);
const password = fc.stringMatching(/^([A-Za-z0-9\-_.!~*'()&=+$,]|%[0-9A-F]{2}){0,8}$/);
const host = fc.oneof(
  fc.domain(),
  fc.ipV4(),
  fc.ipV6().map((h) => `[${h}]`),
);
const paramText = fc.stringMatching(/^([A-Za-z0-9\-_.!~*'()[\]/:&+$]|%[0-9A-F]{2}){1,10}$/);
const param = fc.oneof(
  fc.tuple(paramText, fc.option(paramText, { nil: undefined })),
  fc.tuple(fc.constantFrom('lr', 'LR', 'ob', 'oB', 'gr'), fc.option(paramText, { nil: undefined })),
  fc.tuple(
    fc.constantFrom('transport', 'Transport'),
    fc.oneof(fc.constantFrom('udp', 'TCP', 'ws', 'sctp'), paramText),
  ),
  fc.tuple(fc.constant('maddr'), fc.ipV4()),
);
const sipUri = fc
  .record({
    scheme: fc.constantFrom('sip', 'SIP', 'sips', 'sIpS'),
    user: fc.option(user, { nil: undefined }),
    password: fc.option(password, { nil: undefined }),
    host,
    port: fc.option(fc.integer({ min: 1, max: 65535 }), { nil: undefined }),
    params: fc.uniqueArray(param, { maxLength: 5, selector: ([name]) => name.toLowerCase() }),
    headers: fc.constantFrom('', '?a=b', '?Route=%3Csip:x%3E&b=;lr'),
  })
  .map(({ scheme, user, password, host, port, params, headers }) => {
    const userinfo = user === undefined ? '' : `${user}${password === undefined ? '' : `:${password}`}@`;
    const tail = params
      .map(([name, value]) => (value === undefined ? `;${name}` : `;${name}=${value}`))
      .join('');
    return `${scheme}:${userinfo}${host}${port === undefined ? '' : `:${port}`}${tail}${headers}`;
  });

describe('a SIP URI in place', () => {
  it('is read as the grammar on strings reads it', () => {
    fc.assert(
      fc.property(sipUri, (text) => {
        const expected = parseUri(text);
        fc.pre(expected !== undefined && isSip(expected));
        if (!expected || !isSip(expected)) return;
        const { view, ok, at } = uri(text);
        expect(ok).toBe(true);
        expect(view.isSip).toBe(true);
        expect(view.scheme).toBe(expected.scheme === 'sip' ? SIP : SIPS);
        expect(at(view.userStart, view.userEnd)).toBe(expected.user ?? '');
        expect(at(view.hostStart, view.hostEnd)).toBe(expected.host);
        expect(view.port).toBe(expected.port ?? 0);
        for (const name of ['lr', 'ob', 'gr'] as const)
          expect(view[name]).toBe(uriParam(expected, name) !== undefined);
        const transport = uriParam(expected, 'transport');
        expect(view.transport).toBe(Math.max(0, TRANSPORTS.indexOf((transport || 'none').toUpperCase())));
        const cut = (from: number, end: number) => (from < 0 ? undefined : at(from, end).toLowerCase());
        expect(cut(view.transportFrom, view.transportEnd)).toBe(
          transport === undefined ? undefined : `;transport=${transport.toLowerCase()}`,
        );
        const maddr = uriParam(expected, 'maddr');
        expect(view.maddrStart < 0 ? undefined : at(view.maddrStart, view.maddrEnd)).toBe(maddr);
        expect(cut(view.maddrFrom, view.maddrEnd)).toBe(maddr === undefined ? undefined : `;maddr=${maddr}`);
        const ob = uriParam(expected, 'ob');
        expect(cut(view.obFrom, view.obEnd)).toBe(
          ob === undefined ? undefined : ob === '' ? ';ob' : `;ob=${ob.toLowerCase()}`,
        );
        const whole = at(view.start, view.end);
        expect(whole).toBe(text);
        expect(whole.slice(view.paramsEnd - PAD)).toMatch(/^(\?.*)?$/);
        expect(at(view.hostPortEnd, view.paramsEnd)).toMatch(/^(;.*)?$/);
      }),
      { numRuns: 1000 },
    );
  });

  it.each([
    'sip:',
    'sips:',
    'sips',
    'tel:',
    'x:',
    'sip:@a',
    'sip:a@',
    'sip:a:x',
    'sip:a:0',
    'sip:a:70000',
    'sip:[::1',
    'sip:a b',
    'sip:a b@c',
    'sip:a\0@c',
    'sip:a;x y',
    'sip:a;x= y',
    'sip:a>b',
    'sip:"a"@b',
    'sip:2001:db8::10',
    '<sip:a>',
    '',
    ':',
    'sip',
    '1 2',
    ' sip:a',
  ])('that is none is refused: %j', (text) => {
    expect(uri(text).ok).toBe(false);
  });

  it('of another scheme is a URI that is not SIP', () => {
    for (const [text, scheme] of [
      ['tel:+49', TEL],
      ['TEL:1', TEL],
      ['mailto:a@b', SCHEME_OTHER],
      ['soap.beep://x', SCHEME_OTHER],
      ['sipx:a', SCHEME_OTHER],
      ['si:a', SCHEME_OTHER],
    ] as const) {
      const { view, ok } = uri(text);
      expect([text, ok, view.scheme, view.isSip]).toEqual([text, true, scheme, false]);
    }
  });

  it('keeps nothing of the URI that was read before', () => {
    const view = new UriView();
    const first = latin1('sip:u@h:1;lr;ob;gr=x;transport=tcp;maddr=1.2.3.4');
    expect(view.parse(first, 0, first.length)).toBe(true);
    const second = latin1('sip:h');
    expect(view.parse(second, 0, second.length)).toBe(true);
    expect([
      view.lr,
      view.ob,
      view.gr,
      view.port,
      view.transport,
      view.transportFrom,
      view.maddrFrom,
      view.maddrStart,
      view.obFrom,
      view.userEnd - view.userStart,
    ]).toEqual([false, false, false, 0, 0, -1, -1, -1, -1, 0]);
  });

  it('of any octets is judged without a throw and without a look beyond its end', () => {
    const piece = fc.constantFrom(
      'sip:',
      'a',
      '@',
      ':',
      '5060',
      ';',
      'lr',
      '=',
      '[',
      ']',
      '?',
      '%',
      '<',
      '"',
      ' ',
      '\0',
      '\xff',
      'maddr',
      'transport=tcp',
    );
    const text = fc.oneof(
      fc.array(piece, { maxLength: 20 }).map((parts) => parts.join('')),
      fc.uint8Array({ maxLength: 50 }).map((octets) => Buffer.from(octets).toString('latin1')),
      fc.uint8Array({ maxLength: 50 }).map((octets) => `sip:a${Buffer.from(octets).toString('latin1')}`),
    );
    fc.assert(
      fc.property(text, fc.constantFrom('', ':5060', '@x', ']', ';lr', 'a'), (value, behind) => {
        const here = uri(value, behind);
        const alone = uri(value, '');
        expect(here.ok).toBe(alone.ok);
        if (!here.ok || !here.view.isSip) return;
        expect({ ...here.view }).toEqual({ ...alone.view });
        expect(here.view.paramsEnd).toBeLessThanOrEqual(PAD + value.length);
        expect(here.view.hostEnd).toBeGreaterThan(here.view.hostStart);
      }),
      { numRuns: 2000 },
    );
  });
});

function address(
  text: string,
  from = 0,
  behind = '>,<sip:x>"',
): { view: AddressView; ok: boolean; at: (from: number, to: number) => string; buf: Buffer } {
  const buf = Buffer.concat([latin1('<,">'), latin1(text), latin1(behind)]);
  const view = new AddressView();
  const ok = view.parse(buf, PAD + from, PAD + text.length);
  return { view, ok, at: (a, b) => buf.toString('latin1', a, b), buf };
}

const sp = fc.constantFrom('', ' ', '\t', '\r\n ');
const display = fc.oneof(
  fc.constantFrom('', 'Alice', 'Alice B. ~x'),
  fc
    .string({ unit: fc.constantFrom(...'a,;<>"\\ @:'), maxLength: 8 })
    .map((t) => `"${t.replace(/["\\]/g, '\\$&')}"`),
);
const headerParamText = fc.tuple(
  fc.oneof(fc.constantFrom('tag', 'expires', 'q', '+sip.instance'), fc.stringMatching(/^[a-z0-9\-.]{1,8}$/)),
  fc.option(fc.constantFrom('1', 'abc', '"<urn:uuid:1>"', '"a,b;c\\"d"', '[::1]'), { nil: undefined }),
);
const element = fc
  .tuple(
    display,
    sipUri,
    fc.uniqueArray(headerParamText, { maxLength: 4, selector: ([name]) => name }),
    fc.array(sp, { minLength: 12, maxLength: 12 }),
  )
  .map(([display, uri, params, blanks]) => {
    let i = 0;
    const gap = () => blanks[i++ % 12];
    const tail = params
      .map(
        ([name, value]) =>
          `;${gap()}${name}${value === undefined ? '' : `${gap()}=${gap()}${value}`}${gap()}`,
      )
      .join('');
    return `${display}${display === '' || display.endsWith('"') ? '' : ' '}${gap()}<${uri}>${gap()}${tail}`;
  });
const plainElement = fc
  .tuple(fc.domain(), fc.uniqueArray(headerParamText, { maxLength: 3, selector: ([name]) => name }))
  .map(
    ([domain, params]) =>
      `sip:u@${domain}${params.map(([n, v]) => `;${n}${v === undefined ? '' : `=${v}`}`).join('')}`,
  );

describe('a list of addresses in place', () => {
  it('is read as the grammar on strings reads it', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(element, plainElement), { minLength: 1, maxLength: 5 }),
        fc.array(sp, { minLength: 5, maxLength: 5 }),
        (elements, blanks) => {
          const text = elements.map((e, i) => blanks[i] + e).join(',');
          const members = splitList(text);
          expect(members).toHaveLength(elements.length);
          let from = 0;
          for (const [i, member] of members!.entries()) {
            const expected = parseNameAddr(member)!;
            const { view, ok, at, buf } = address(text, from);
            expect(ok).toBe(true);
            expect(at(view.uriStart, view.uriEnd)).toBe(expected.uri);
            expect(view.bracketed).toBe(elements[i].includes('<sip') || /<s/i.test(elements[i]));
            expect(at(view.start, view.end).trim()).toBe(elements[i].trim());
            for (const name of ['tag', 'expires', 'q', '+sip.instance', 'absent']) {
              const found = view.findParam(buf, latin1(name));
              expect(found >= 0).toBe(headerParam(expected.params, name) !== undefined);
              expect(view.hasParam(buf, latin1(name))).toBe(found >= 0);
              if (found >= 0) expect(at(found - name.length, found).toLowerCase()).toBe(name);
            }
            from = view.end - PAD + 1;
          }
          expect(from).toBe(text.length + 1);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('round-trips what the other grammar formats', () => {
    fc.assert(
      fc.property(element, (text) => {
        const parsed = parseNameAddr(text)!;
        const { view, ok, at } = address(formatNameAddr(parsed));
        expect(ok).toBe(true);
        expect(at(view.uriStart, view.uriEnd)).toBe(parsed.uri);
      }),
    );
  });

  it.each(['', '   ', ',', '<sip:a', '"a <sip:a>', '"a', '<sip:a> x', ';lr', '<sip:a>;x="', 'a "b" <sip:c>'])(
    'that is malformed is refused: %j',
    (text) => {
      expect(address(text).ok).toBe(false);
    },
  );

  it('of any octets is judged without a throw and without a look beyond its end', () => {
    const piece = fc.constantFrom(
      '<',
      '>',
      'sip:a',
      '"',
      '\\',
      ',',
      ';',
      '=',
      'tag',
      ' ',
      '\r\n ',
      '\0',
      '\xff',
    );
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 20 }),
        fc.constantFrom('', '>', '"', ',', ';tag=1'),
        (parts, behind) => {
          const text = parts.join('');
          const here = address(text, 0, behind);
          const alone = address(text, 0, '');
          expect(here.ok).toBe(alone.ok);
          if (!here.ok) return;
          expect({ ...here.view }).toEqual({ ...alone.view });
          expect(here.view.end).toBeLessThanOrEqual(PAD + text.length);
          expect(here.view.findParam(here.buf, latin1('tag'))).toBe(
            alone.view.findParam(alone.buf, latin1('tag')),
          );
        },
      ),
      { numRuns: 2000 },
    );
  });
});
