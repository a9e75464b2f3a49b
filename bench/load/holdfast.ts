/** Holdfast as the server under load: an edge with the generator's core as its upstream, in a process of its own. */

import { makeCertificates } from '../../test/harness/certificates.ts';
import { Holdfast } from '../../test/harness/holdfast.ts';
import { freePort, freshHost } from '../../test/harness/ports.ts';
import { type Load, MAX_FLOWS } from './options.ts';
import { pin, type Started, type Subject } from './subject.ts';

const PREFIX = 'HOLDFAST_';
const LEAST_FLOWS = 65_536;
/** For who has just gone, and the ones that come meanwhile. */
const SPARE_FLOWS = 4096;

/** HOLDFAST_ variables of this process, without the prefix. */
function inherited(): Record<string, string | undefined> {
  const ours = Object.entries(process.env).filter(([name]) => name.startsWith(PREFIX));
  return Object.fromEntries(ours.map(([name, value]) => [name.slice(PREFIX.length), value]));
}

function recordsFor(load: Load): number {
  if (load.mode === 'churn' && load.transport === 'udp') return MAX_FLOWS;
  return Math.min(MAX_FLOWS, Math.max(LEAST_FLOWS, load.flows + SPARE_FLOWS));
}

/** `pinned`: on the first core. */
export async function holdfast(load: Load, pinned: boolean): Promise<Subject> {
  const host = freshHost();
  const port = await freePort(host);
  const shared = load.transport === 'udp' || load.transport === 'tcp';
  const flowPort = shared ? port : await freePort(host);
  const secured = load.transport === 'tls' || load.transport === 'wss';
  const certificates = secured ? makeCertificates([`IP:${host}`]) : undefined;
  const listen = [`udp:${host}:${port}`, `tcp:${host}:${port}`];
  if (!shared) listen.push(`${load.transport}:${host}:${flowPort}`);
  const settings = {
    LOG: 'warn',
    MAX_FLOWS: String(recordsFor(load)),
    FLOW_TIMER: '3600',
    ...inherited(),
    LISTEN: listen.join(','),
    FORWARDING: load.forwarding,
    WORKERS: String(load.workers),
    AUTH: 'none',
    ...(certificates ? { TLS_CERT: certificates.cert, TLS_KEY: certificates.key } : {}),
  };
  return {
    name: 'Holdfast',
    address: { host, port: flowPort },
    ca: certificates?.trusted.toString(),
    core: { host: freshHost(), port: 0 },
    async start(core): Promise<Started> {
      const upstream = `sip:${core.host}:${core.port};transport=${load.core}`;
      const server = await Holdfast.start({
        host,
        port,
        settings: { ...settings, UPSTREAM: upstream },
      }).catch((error: Error) => {
        certificates?.remove();
        throw error;
      });
      if (pinned) pin(server.pid, 0);
      return {
        pid: server.pid,
        async stop() {
          await server.stop();
          certificates?.remove();
        },
      };
    },
  };
}
