/** Bindings as registrars store them, any of them. Their flows have names among nodes. */
import fc from 'fast-check';
import { type Binding, contactKey, outboundKey } from '../../src/registrar/binding.ts';

const word = fc.stringMatching(/^[a-zA-Z0-9.-]{1,12}$/);
const text = fc.string({ unit: fc.constantFrom(...'aZ0 "\\\'<>;,=é日\t{}'), minLength: 1, maxLength: 20 });
const param = fc.oneof(
  fc.tuple(word, fc.constant(undefined)),
  fc.tuple(word, word),
  fc.tuple(word, fc.constant('"quoted, and \\" so;on"')),
);
const number = fc.nat({ max: 2 ** 31 - 1 });

export const arbitraryBinding = (expiresAt: fc.Arbitrary<number>): fc.Arbitrary<Binding> =>
  fc
    .record(
      {
        contact: fc.tuple(word, word).map(([user, param]) => `sip:${user}@192.0.2.1;x=${param};ob`),
        params: fc.array(param, { maxLength: 4 }) as fc.Arbitrary<Binding['params']>,
        instance: fc.uuid().map((uuid) => `urn:uuid:${uuid}`),
        regId: fc.nat({ max: 3 }),
        q: fc.nat({ max: 1000 }),
        path: fc.array(
          word.map((token) => `<sip:${token}@edge.example;lr;ob>`),
          { maxLength: 3 },
        ),
        callId: word,
        cseq: number,
        expiresAt,
        updatedAt: number,
        order: fc.nat({ max: 2 ** 40 }),
        epoch: fc.integer({ min: 1, max: 2 ** 40 }),
        flow: fc
          .tuple(fc.nat({ max: 65_535 }), number, number, number, fc.constantFrom('s', 'd'))
          .map(([node, slot, generation, life, kind]) => `${node}/${slot}.${generation}.${life}.${kind}`),
        userAgent: text,
      },
      {
        requiredKeys: [
          'contact',
          'params',
          'regId',
          'q',
          'path',
          'callId',
          'cseq',
          'expiresAt',
          'updatedAt',
          'order',
          'epoch',
        ],
      },
    )
    .map(({ regId, epoch, ...rest }) => {
      const { instance, contact } = rest;
      const outbound = instance !== undefined && regId > 0;
      const key = outbound ? outboundKey(instance, regId) : contactKey(contact);
      const device = instance === undefined ? {} : { epoch };
      return { key, regId: outbound ? regId : 0, ...rest, ...device } as Binding;
    });
