/**
 * A baresip client (re/baresip: RFC 5626 with one outbound proxy) without sound devices, driven over
 * its ctrl_tcp module: netstrings of JSON, commands in, answers and events out.
 */

import { once } from 'node:events';
import { existsSync, globSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { freePort, freshHost } from '../harness/ports.ts';
import { eventually, folderFor, Program } from './program.ts';

export interface BaresipEvent {
  event: boolean;
  type: string;
  param?: string;
  accountaor?: string;
  peeruri?: string;
}

const modulePath = () =>
  [
    '/usr/lib/baresip/modules',
    ...globSync('/usr/lib/*/baresip/modules'),
    '/usr/local/lib/baresip/modules',
  ].find((p) => existsSync(p));

/** A bridge from the loudspeaker to the microphone in place of a sound card. */
const MODULES = [
  'g711',
  'aubridge',
  'stun',
  'ice',
  'srtp',
  'dtls_srtp',
  'ctrl_tcp',
  'uuid',
  'account',
  'menu',
];

export class Baresip {
  readonly user: string;
  readonly aor: string;
  private readonly program: Program;
  private readonly control: Socket;
  private readonly events: BaresipEvent[] = [];
  private wake: (() => void) | undefined;

  private constructor(user: string, aor: string, program: Program, control: Socket) {
    this.user = user;
    this.aor = aor;
    this.program = program;
    this.control = control;
    let partial = Buffer.alloc(0);
    control.on('data', (chunk: Buffer) => {
      partial = Buffer.concat([partial, chunk]);
      for (;;) {
        const colon = partial.indexOf(':');
        if (colon < 0) return;
        const length = Number(partial.subarray(0, colon).toString());
        const end = colon + 1 + length;
        if (partial.length < end + 1) return;
        this.events.push(JSON.parse(partial.subarray(colon + 1, end).toString('utf8')) as BaresipEvent);
        partial = partial.subarray(end + 1);
        this.wake?.();
      }
    });
    control.on('error', () => {});
  }

  /** Starts it with one account; it registers at once. `proxy` is its outbound proxy; it adds lr itself. */
  static async start(options: {
    user: string;
    domain: string;
    proxy: string;
    password?: string;
    /** web: encrypted and with ICE, as browsers want it */
    media?: 'plain' | 'web';
    parameters?: string;
  }): Promise<Baresip> {
    const folder = await folderFor('baresip');
    const host = freshHost();
    const port = await freePort(host);
    // on a host of its own: baresip takes the port after its SIP port for TLS
    const control = { host: freshHost(), port };
    const config = [
      'poll_method epoll',
      `sip_listen ${host}:${port}`,
      `net_interface ${host}`,
      'audio_player aubridge,out',
      'audio_source aubridge,out',
      'audio_alert aubridge,alert',
      `rtp_ports ${port + 1000}-${port + 1100}`,
      `rtcp_mux ${options.media === 'web' ? 'yes' : 'no'}`,
      `module_path ${modulePath()}`,
      ...MODULES.map(
        (m) =>
          `${['uuid', 'account'].includes(m) ? 'module_tmp' : m === 'menu' ? 'module_app' : 'module'} ${m}.so`,
      ),
      `ctrl_tcp_listen ${control.host}:${control.port}`,
      '',
    ];
    const aor = `sip:${options.user}@${options.domain}`;
    const media = options.media === 'web' ? 'medianat=ice;mediaenc=dtls_srtp' : 'medianat=;mediaenc=';
    const account =
      `<${aor}>;auth_pass=${options.password ?? 'none'};sipnat=outbound;` +
      `outbound="${options.proxy}";regint=300;answermode=auto;${media};audio_codecs=pcmu` +
      `${options.parameters ?? ''}\n`;
    await writeFile(join(folder, 'config'), config.join('\n'));
    await writeFile(join(folder, 'accounts'), account);
    await writeFile(join(folder, 'contacts'), '\n');
    const program = new Program('baresip', folder, ['-f', folder, '-s']);
    try {
      const socket = await eventually(async () => {
        const s = connect(control);
        await once(s, 'connect');
        return s;
      });
      return new Baresip(options.user, aor, program, socket);
    } catch (error) {
      await program.stop();
      throw new Error(`baresip did not start: ${error}\n${program.output}`);
    }
  }

  command(command: string, params = ''): void {
    const text = JSON.stringify({ command, params, token: 't' });
    this.control.write(`${Buffer.byteLength(text)}:${text},`);
  }

  /** The first event, old or new, of that type; it is taken out. */
  async event(type: string, timeoutMs = 10_000): Promise<BaresipEvent> {
    const until = Date.now() + timeoutMs;
    for (;;) {
      const at = this.events.findIndex((e) => e.type === type);
      if (at >= 0) return this.events.splice(at, 1)[0];
      const left = until - Date.now();
      if (left <= 0)
        throw new Error(
          `${this.user}: no ${type}; events: ${JSON.stringify(this.events)}\n${this.program.output.slice(-6_000)}`,
        );
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Waits for a 200 to its REGISTER; the event of that name may come before the control connection. */
  async registered(): Promise<void> {
    await eventually(async () => {
      if (!/\} 200 OK/.test(this.trace))
        throw new Error(`${this.user} is not registered:\n${this.trace.slice(-4_000)}`);
    });
  }

  /** What it has printed, SIP messages included. */
  get trace(): string {
    return this.program.output;
  }

  async stop(): Promise<void> {
    this.control.destroy();
    await this.program.stop();
  }
}
