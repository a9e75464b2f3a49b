/** SIPp with one of its own scenarios or of a file here, and its statistics as numbers. */
import { globSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Address } from '../harness/agent.ts';
import { folderFor, Program } from './program.ts';

/** SIPp's own by name, or a file beside this one. */
export type SippScenario = 'uac' | 'uas' | `${string}.xml`;

export interface SippOptions {
  scenario: SippScenario;
  at: Address;
  calls: number;
  /** calls a second */
  rate?: number;
  /** the far end of a call, which stands in Request-URI and To */
  to?: Address;
  /** where datagrams are sent instead */
  through?: Address;
  seconds: number;
}

export type SippStatistics = Record<string, number>;

export class Sipp {
  readonly #program: Program;

  private constructor(program: Program) {
    this.#program = program;
  }

  static async start({ scenario, at, calls, rate, to, through, seconds }: SippOptions): Promise<Sipp> {
    const file = scenario.endsWith('.xml') ? fileURLToPath(new URL(scenario, import.meta.url)) : undefined;
    const args = [
      ...(file === undefined ? ['-sn', scenario] : ['-sf', file]),
      ...['-t', 'u1', '-i', at.host, '-p', String(at.port), '-m', String(calls), '-nostdin'],
      ...['-timeout', `${seconds}s`, '-trace_stat', '-stf', 'statistics', '-fd', '1'],
      ...['-trace_err', '-error_file', 'errors', '-buff_size', '1048576'],
      // as often as RFC 3261 sends: an INVITE 7 times, anything else 11 times
      ...['-max_invite_retrans', '6', '-max_non_invite_retrans', '10'],
      ...(rate === undefined ? [] : ['-r', String(rate)]),
      ...(through === undefined ? [] : ['-rsa', `${through.host}:${through.port}`]),
      ...(to === undefined ? [] : [`${to.host}:${to.port}`]),
    ];
    return new Sipp(new Program('sipp', await folderFor('sipp'), args));
  }

  /** 0: every call was good. */
  get ended(): Promise<number | null> {
    return this.#program.ended;
  }

  /** The last line of the statistics: cumulative values by their names. */
  get statistics(): SippStatistics {
    const [file] = globSync(`${this.#program.folder}/statistics*`);
    const lines = readFileSync(file, 'latin1').trim().split('\n');
    const names = lines[0].split(';');
    const values = lines[lines.length - 1].split(';');
    return Object.fromEntries(names.map((name, i) => [name.replace('(C)', ''), Number(values[i])]));
  }

  /** For the message of a failure. */
  get story(): string {
    const errors = globSync(`${this.#program.folder}/errors*`).map((file) => readFileSync(file, 'latin1'));
    return `${errors.join('').slice(-3_000)}\n${this.#program.output.slice(-2_000)}`;
  }

  stop(): Promise<void> {
    return this.#program.stop();
  }
}
