/**
 * Kamailio as the server under load, with kamailio-edge.cfg. One worker for datagrams and one for streams, and the
 * allocator `fm`: with its default one, which checks itself, a transaction costs two to four times as much.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeCertificates } from '../../test/harness/certificates.ts';
import { freePort, freshHost } from '../../test/harness/ports.ts';
import { answering, modulesFolder } from '../../test/interop/kamailio.ts';
import { find, folderFor, Program } from '../../test/interop/program.ts';
import type { Load, Transport } from './options.ts';
import type { Started, Subject } from './subject.ts';

const CONFIG = fileURLToPath(new URL('kamailio-edge.cfg', import.meta.url));
/** MiB of shared memory, taken as it is used: a WebSocket flow takes 70 KiB of it */
const SHARED = '4096';
/** MiB of each process */
const PRIVATE = '16';

const MODULES: Partial<Record<Transport, string>> = { tls: 'tls.so', ws: 'websocket.so' };
const EDGE = 'outbound.so';

/** Why it cannot be measured over `transport`, or undefined if it can. */
export function missing(transport: Transport): string | undefined {
  const folder = modulesFolder();
  if (!find('kamailio') || !folder) return 'Kamailio is not installed';
  if (!existsSync(join(folder, EDGE))) return 'its package kamailio-outbound-modules is not installed';
  if (transport === 'wss') return 'not over wss';
  const module = MODULES[transport];
  if (module && !existsSync(join(folder, module))) return `its module ${module} is not installed`;
  return undefined;
}

/** `pinned`: on the first core. */
export async function kamailio(load: Load, pinned: boolean): Promise<Subject> {
  const host = freshHost();
  const port = await freePort(host);
  const { transport } = load;
  const own = transport === 'tls' || transport === 'ws';
  const flowPort = own ? await freePort(host) : port;
  const certificates = transport === 'tls' ? makeCertificates([`IP:${host}`]) : undefined;
  const defines = [
    `LISTEN_UDP=udp:${host}:${port}`,
    `LISTEN_TCP=tcp:${host}:${port}`,
    `MPATH="${modulesFolder()}/"`,
  ];
  if (load.forwarding === 'stateful') defines.push('STATEFUL');
  if (transport === 'ws') defines.push(`LISTEN_WS=tcp:${host}:${flowPort}`);
  if (certificates)
    defines.push(
      `LISTEN_TLS=tls:${host}:${flowPort}`,
      `CERTIFICATE="${certificates.cert}"`,
      `KEY="${certificates.key}"`,
    );
  return {
    name: 'Kamailio',
    address: { host, port: flowPort },
    ca: certificates?.trusted.toString(),
    core: { host: freshHost(), port: 0 },
    async start(core): Promise<Started> {
      const folder = await folderFor('kamailio');
      const all = [...defines, `CORE_URI="sip:${core.host}:${core.port};transport=${load.core}"`];
      const args = [
        ...['-f', CONFIG, '-DD', '-E', '-x', 'fm', '-m', SHARED, '-M', PRIVATE, '-Y', folder, '-w', folder],
        ...all.flatMap((define) => ['-A', define]),
      ];
      const program = pinned
        ? new Program('taskset', folder, ['-c', '0', find('kamailio') as string, ...args])
        : new Program('kamailio', folder, args);
      await answering(program, { host, port }).catch((error: Error) => {
        certificates?.remove();
        throw error;
      });
      return {
        pid: program.pid,
        async stop() {
          await program.stop();
          certificates?.remove();
        },
      };
    },
  };
}
