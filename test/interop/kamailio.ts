/** Kamailio as registrar and core behind the edge: kamailio-core.cfg on a loopback host of its own. */
import { globSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UdpAgent } from '../harness/agent.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { eventually, folderFor, Program } from './program.ts';

const CONFIG = fileURLToPath(new URL('kamailio-core.cfg', import.meta.url));

export class KamailioCore {
  readonly host: string;
  readonly port: number;
  private readonly program: Program;

  private constructor(host: string, port: number, program: Program) {
    this.host = host;
    this.port = port;
    this.program = program;
  }

  static async start(): Promise<KamailioCore> {
    const [tm] = globSync('/usr/{lib,lib64,local/lib}/{,*/}kamailio/modules/tm.so');
    if (!tm) throw new Error('the modules of Kamailio are not installed');
    const folder = await folderFor('kamailio');
    const host = freshHost();
    const port = await freePort(host);
    const program = new Program('kamailio', folder, [
      ...['-f', CONFIG, '-DD', '-E', '-m', '64', '-M', '8', '-Y', folder, '-w', folder],
      ...['-A', `LISTEN_UDP=udp:${host}:${port}`, '-A', `LISTEN_TCP=tcp:${host}:${port}`],
      ...['-A', `MPATH="${dirname(tm)}/"`],
    ]);
    const probe = await UdpAgent.open({ host: freshHost(), peer: { host, port } });
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
    return new KamailioCore(host, port, program);
  }

  get output(): string {
    return this.program.output;
  }

  stop(): Promise<void> {
    return this.program.stop();
  }
}
