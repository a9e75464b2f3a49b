/** SIPp on both sides of a pure edge: registers through it and is called down its flow. */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { Holdfast } from '../harness/holdfast.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { find, folderFor, Program } from './program.ts';

const scenario = (name: string) => fileURLToPath(new URL(name, import.meta.url));

async function sipp(file: string, host: string, port: number, more: string[]): Promise<Program> {
  return new Program('sipp', await folderFor('sipp'), [
    ...['-sf', scenario(file), '-i', host, '-p', String(port), '-m', '1', '-nostdin'],
    ...[
      '-timeout',
      '20s',
      '-timeout_error',
      '-trace_err',
      '-error_file',
      'errors',
      '-trace_msg',
      '-message_file',
      'messages',
      ...more,
    ],
  ]);
}

describe.skipIf(!find('sipp')).each(['udp', 'tcp'])(
  'SIPp as a client over %s and as the core',
  (transport) => {
    it('registers, is called and is hung up on [EP-5.1-03 EP-5.3.1-01 EP-5.3.1-03 EP-5.3.2-04]', async () => {
      const core = { host: freshHost(), port: 0 };
      core.port = await freePort(core.host);
      const client = { host: freshHost(), port: 0 };
      client.port = await freePort(client.host);
      const upstream = `sip:${core.host}:${core.port};transport=udp`;
      const server = await Holdfast.start({ settings: { UPSTREAM: upstream } });
      const registrar = await sipp('sipp-core.xml', core.host, core.port, [
        '-t',
        'u1',
        `${server.host}:${server.port}`,
      ]);
      const phone = await sipp('sipp-client.xml', client.host, client.port, [
        ...['-t', transport === 'udp' ? 'u1' : 't1'],
        `${server.host}:${server.port}`,
      ]);
      try {
        const codes = await Promise.all([phone.ended, registrar.ended]);
        expect(codes, `${phone.output.slice(-3_000)}\n${registrar.output.slice(-3_000)}`).toEqual([0, 0]);
      } finally {
        await phone.stop();
        await registrar.stop();
        await server.stop();
      }
    });
  },
);
