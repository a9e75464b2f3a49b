/** Kamailio on a loopback host of its own: as registrar and core (kamailio-core.cfg) or as edge (kamailio-edge.cfg). */
import { globSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Address, UdpAgent } from '../harness/agent.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { eventually, folderFor, Program } from './program.ts';

const CORE = fileURLToPath(new URL('kamailio-core.cfg', import.meta.url));
const EDGE = fileURLToPath(new URL('kamailio-edge.cfg', import.meta.url));

/** Where its modules are; undefined if they are not installed. */
export function modulesFolder(): string | undefined {
  const [tm] = globSync('/usr/{lib,lib64,local/lib}/{,*/}kamailio/modules/tm.so');
  return tm && dirname(tm);
}

/** Resolves when it answers STUN at `address`; if it does not, it is ended, and this throws with its output. */
export async function answering(program: Program, address: Address): Promise<void> {
  const probe = await UdpAgent.open({ host: freshHost(), peer: address });
  try {
    await eventually(async () => {
      const waiting = probe.next(() => true, 200);
      probe.send(Buffer.from('000100002112a4420102030405060708090a0b0c', 'hex'));
      await waiting;
    });
  } catch (error) {
    await program.stop();
    throw new Error(`Kamailio did not start: ${error}\n${program.output}`);
  } finally {
    await probe.close();
  }
}

export class Kamailio {
  readonly host: string;
  readonly port: number;
  private readonly program: Program;

  private constructor(host: string, port: number, program: Program) {
    this.host = host;
    this.port = port;
    this.program = program;
  }

  /** `flows`: tries the next flow of an instance when one has failed. */
  static core(options: { flows?: boolean } = {}): Promise<Kamailio> {
    return Kamailio.start(CORE, options.flows ? ['FLOWS'] : []);
  }

  /** `webSockets`: on its TCP port too. */
  static edge(core: Address, options: { webSockets?: boolean } = {}): Promise<Kamailio> {
    const coreUri = `CORE_URI="sip:${core.host}:${core.port};transport=udp"`;
    return Kamailio.start(EDGE, [coreUri, ...(options.webSockets ? ['WS'] : [])]);
  }

  private static async start(config: string, defines: string[]): Promise<Kamailio> {
    const modules = modulesFolder();
    if (!modules) throw new Error('the modules of Kamailio are not installed');
    const folder = await folderFor('kamailio');
    const host = freshHost();
    const port = await freePort(host);
    const all = [...defines, `LISTEN_UDP=udp:${host}:${port}`, `LISTEN_TCP=tcp:${host}:${port}`];
    const program = new Program('kamailio', folder, [
      ...['-f', config, '-DD', '-E', '-m', '64', '-M', '8', '-Y', folder, '-w', folder],
      ...[...all, `MPATH="${modules}/"`].flatMap((define) => ['-A', define]),
    ]);
    await answering(program, { host, port });
    return new Kamailio(host, port, program);
  }

  get output(): string {
    return this.program.output;
  }

  /** SIGKILL to all of its processes: none can say goodbye. */
  async kill(): Promise<void> {
    this.program.signal('SIGKILL');
    await this.program.ended;
  }

  stop(): Promise<void> {
    return this.program.stop();
  }
}
