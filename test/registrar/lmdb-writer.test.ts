/** One process at a time writes to an LMDB store, and a dead one does not count. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { LmdbBackend, LmdbReader, systemBootId } from '../../src/registrar/lmdb.ts';
import { temporaryDirectory } from './backends.ts';
import { until } from './redis-server.ts';

const LMDB = fileURLToPath(new URL('../../src/registrar/lmdb.ts', import.meta.url));
const WRITER = `
  import { LmdbBackend } from ${JSON.stringify(LMDB)};
  const backend = new LmdbBackend({ dir: process.argv[1], durability: 'process', mapSize: 2 ** 28 });
  backend.transaction(() => backend.put('sip:a@h', [{ params: [], path: [] }]));
  console.log('open');
  setInterval(() => {}, 1_000_000);
`;

let dir: string;
let child: ChildProcess;
beforeEach(() => {
  dir = temporaryDirectory();
});
afterEach(async () => {
  if (child?.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  rmSync(dir, { recursive: true, force: true });
});

const open = () => new LmdbBackend({ dir, durability: 'process', mapSize: 2 ** 28 });

/** Another process that has opened it, and has written. */
async function otherWriter(): Promise<number> {
  child = spawn(process.execPath, ['--input-type=module', '-e', WRITER, dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout!, 'data');
  return child.pid as number;
}

it('a second process is refused while the first one lives, and reads all the same', async () => {
  const pid = await otherWriter();
  expect(open).toThrow(`the location store in ${dir} is in use by process ${pid}`);
  const reader = new LmdbReader({ dir, durability: 'process' });
  expect(reader.scan(undefined, 1)).toHaveLength(1);
  await reader.close();
});

it('one that was killed leaves the store to the next', async () => {
  await otherWriter();
  child.kill('SIGKILL');
  await once(child, 'exit');
  const backend = open();
  await backend.close();
  expect(existsSync(join(dir, 'location.writer'))).toBe(false);
});

it('of several that come at once one gets it', async () => {
  const others = Array.from({ length: 6 }, () => {
    const run = spawn(process.execPath, ['--input-type=module', '-e', WRITER, dir]);
    let said = '';
    for (const stream of [run.stdout, run.stderr])
      stream.on('data', (chunk: Buffer) => {
        said += chunk.toString();
      });
    return { run, ended: once(run, 'exit'), said: () => said };
  });
  try {
    await until(() => others.every(({ said }) => /^open|in use by process/m.test(said())));
    expect(others.filter(({ said }) => said().startsWith('open'))).toHaveLength(1);
  } finally {
    for (const { run } of others) run.kill('SIGKILL');
    await Promise.all(others.map(({ ended }) => ended));
  }
});

it.each([
  ['its number is that of another process now', (own: string[]) => [`${process.ppid}`, '1', own[2]]],
  ['it lived before the machine went down', () => [`${process.ppid}`, startOf(process.ppid), 'other-boot']],
])('one that is gone does not count: %s', async (_, writer) => {
  writeFileSync(join(dir, 'location.writer'), writer(['', '', systemBootId()]).join(' '));
  await open().close();
});

it('one that is alive counts by its number, its start and the boot', () => {
  const pid = process.ppid;
  writeFileSync(join(dir, 'location.writer'), `${pid} ${startOf(pid)} ${systemBootId()}`);
  expect(open).toThrow(`in use by process ${pid}`);
});

const startOf = (pid: number): string =>
  readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)!.split(' ')[19];
