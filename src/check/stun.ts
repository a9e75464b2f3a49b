/**
 * Rules about STUN on the SIP port (RFC 5626 8, RFC 5389). An answer is believed by its transaction id alone; where a
 * rule wants silence, a second request is answered first and then a moment passes.
 */
import { randomBytes } from 'node:crypto';
import { bindingRequest, ID_BYTES, readBinding, readBindingError } from '../wire/binding.ts';
import type { Probe } from './probe.ts';
import { seenFrom } from './registering.ts';
import { expect, Failed, type Rule } from './rule.ts';
import type { Trial } from './trial.ts';

const INDICATION = 0x0011;
/** of a range that RFC 5389 leaves to later standards; nobody has it */
const UNKNOWN_REQUIRED = 0x7f01;
const UNKNOWN_OPTIONAL = 0xff01;
/** for what another thread of the edge might still send */
const GRACE_MS = 200;
/** as in 5389 7.2.1, for a datagram that was lost */
const AGAIN_MS = 500;

function binding(
  id: Buffer,
  { type = 0x0001, attribute }: { type?: number; attribute?: number } = {},
): Buffer {
  const bytes = Buffer.concat([bindingRequest(id), Buffer.alloc(attribute === undefined ? 0 : 8)]);
  bytes.writeUInt16BE(type, 0);
  if (attribute === undefined) return bytes;
  bytes.writeUInt16BE(8, 2);
  bytes.writeUInt16BE(attribute, 20);
  bytes.writeUInt16BE(4, 22);
  return bytes;
}

const answersTo = (flow: Probe, id: Buffer): Buffer[] =>
  flow.stun.filter((bytes) => bytes.length >= 20 && bytes.compare(id, 0, ID_BYTES, 8, 20) === 0);

/** The first answer, asked for again while there is none. */
async function answer(trial: Trial, flow: Probe, bytes: Buffer): Promise<Buffer> {
  const id = bytes.subarray(8, 20);
  const until = performance.now() + trial.patience;
  for (let wait = AGAIN_MS; performance.now() < until; wait *= 2) {
    flow.send(bytes);
    const left = Math.min(wait, until - performance.now());
    if (await flow.until(() => answersTo(flow, id).length > 0 || flow.ended !== undefined, left)) break;
  }
  const [first] = answersTo(flow, id);
  if (!first)
    throw new Failed(flow.ended ? `no answer: ${flow.ended}` : `no answer in ${trial.patience / 1000} s`);
  return first;
}

const idOf = (): Buffer => randomBytes(ID_BYTES);

export const STUN: Rule[] = [
  {
    id: 'ST-8-04',
    rfc: '5626 8, 5.4',
    level: 'MUST',
    over: 'datagrams',
    title: 'a STUN Binding request on the SIP port is answered with the mapped address',
    async examine(trial) {
      const flow = await trial.flow();
      const id = idOf();
      const mapped = readBinding(await answer(trial, flow, binding(id)), id);
      expect(
        mapped !== undefined && mapped !== 'error',
        'the answer has no XOR-MAPPED-ADDRESS that can be read',
      );
      const { localHost = '', localPort = 0 } = flow.connection ?? {};
      if (mapped.host !== localHost || mapped.port !== localPort) {
        // behind a NAT: what SIP sees of the same flow is right
        const { received, rport } = seenFrom(await trial.ask(flow));
        expect(
          mapped.host === received && mapped.port === rport,
          `${mapped}, but SIP came from ${received}:${rport}`,
        );
      }
      return `XOR-MAPPED-ADDRESS ${mapped}`;
    },
  },
  {
    id: 'ST-5389-06',
    rfc: '5389 7.3.1',
    level: 'MUST',
    over: 'datagrams',
    title: 'an unknown attribute that must be understood gets 420 and is named',
    async examine(trial) {
      const flow = await trial.flow();
      const id = idOf();
      const bytes = await answer(trial, flow, binding(id, { attribute: UNKNOWN_REQUIRED }));
      const error = readBindingError(bytes, id);
      expect(error !== undefined, 'the answer is no error response that can be read');
      expect(error.code === 420, `error ${error.code}`);
      expect(error.unknown.includes(UNKNOWN_REQUIRED), '420 that does not name it');
      return '420 with UNKNOWN-ATTRIBUTES';
    },
  },
  {
    id: 'ST-5389-05',
    rfc: '5389 7.3',
    level: 'MUST',
    over: 'datagrams',
    title: 'an unknown attribute that need not be understood is ignored',
    async examine(trial) {
      const flow = await trial.flow();
      const id = idOf();
      const mapped = readBinding(await answer(trial, flow, binding(id, { attribute: UNKNOWN_OPTIONAL })), id);
      expect(mapped !== undefined && mapped !== 'error', 'no success');
      return 'success';
    },
  },
  {
    id: '5389-7.3.2',
    rfc: '5389 7.3.2',
    level: 'rule',
    over: 'datagrams',
    title: 'a Binding indication gets no answer',
    async examine(trial) {
      const flow = await trial.flow();
      const id = idOf();
      flow.send(binding(id, { type: INDICATION }));
      await answer(trial, flow, binding(idOf()));
      await flow.until(() => answersTo(flow, id).length > 0, GRACE_MS);
      const [wrong] = answersTo(flow, id);
      expect(
        wrong === undefined,
        `answered with type 0x${wrong?.readUInt16BE(0).toString(16).padStart(4, '0')}`,
      );
      return 'none';
    },
  },
];
