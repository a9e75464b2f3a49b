/**
 * A linphone client (linphonec) without a sound card, driven by its terminal: commands in, lines out. Its log has the
 * SIP messages.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually, find, folderFor } from './program.ts';

export interface LinphoneOptions {
  user: string;
  domain: string;
  password: string;
  /** `sip:HOST:PORT;transport=...` */
  proxy: string;
}

export class Linphone {
  readonly aor: string;
  readonly #folder: string;
  readonly #child: ChildProcess;
  #output = '';

  private constructor(aor: string, folder: string, child: ChildProcess) {
    this.aor = aor;
    this.#folder = folder;
    this.#child = child;
    child.stdout?.on('data', (chunk: Buffer) => {
      this.#output += chunk.toString('latin1');
    });
  }

  /** Starts it with one account; it registers at once, and answers every call. */
  static async start({ user, domain, password, proxy }: LinphoneOptions): Promise<Linphone> {
    const folder = await folderFor('linphone');
    mkdirSync(join(folder, '.local/share/linphone'), { recursive: true });
    const config = [
      // -2: no port of its own is opened, a client that can be reached over its flow alone
      ...['[sip]', 'sip_port=-2', 'sip_tcp_port=-2', 'sip_tls_port=-2', 'default_proxy=0', 'use_ipv6=0'],
      ...['[rtp]', 'audio_rtp_port=20000-29999'],
      ...['[auth_info_0]', `username=${user}`, `passwd=${password}`, `realm=${domain}`, 'algorithm=SHA-256'],
      ...[
        '[proxy_0]',
        `reg_proxy=<${proxy}>`,
        `reg_route=<${proxy};lr>`,
        `reg_identity=sip:${user}@${domain}`,
      ],
      ...['reg_expires=300', 'reg_sendregister=1', 'publish=0', ''],
    ];
    const file = join(folder, 'rc');
    writeFileSync(file, config.join('\n'));
    const child = spawn(
      find('linphonec') as string,
      ['-c', file, '-a', '-d', '6', '-l', join(folder, 'log')],
      {
        cwd: folder,
        env: { ...process.env, HOME: folder },
        stdio: ['pipe', 'pipe', 'ignore'],
      },
    );
    return new Linphone(`sip:${user}@${domain}`, folder, child);
  }

  command(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  /** Waits until it has printed this, again and again from the last time on. */
  async prints(text: RegExp): Promise<void> {
    await eventually(async () => {
      const at = this.#output.search(text);
      if (at < 0)
        throw new Error(`linphone has not printed ${text}:\n${this.#output}\n${this.log.slice(-6_000)}`);
      this.#output = this.#output.slice(at).replace(text, '');
    });
  }

  /** Asks until it says that it is registered. */
  async registered(): Promise<void> {
    await eventually(async () => {
      this.command('status register');
      await new Promise((r) => setTimeout(r, 200));
      if (!/registered, identity=/.test(this.#output))
        throw new Error(`not registered:\n${this.log.slice(-6_000)}`);
    });
  }

  get log(): string {
    try {
      return readFileSync(join(this.#folder, 'log'), 'latin1');
    } catch {
      return '';
    }
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.command('quit');
      const late = setTimeout(() => this.#child.kill('SIGKILL'), 3_000);
      await once(this.#child, 'exit');
      clearTimeout(late);
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
