/** What a server leaves of its compiled code for the next start, and that the next one takes it, in its shards too. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { freePort, freshHost } from '../harness/ports.ts';

const CLI = fileURLToPath(new URL('../../src/cli.ts', import.meta.url));
const SHARD = fileURLToPath(new URL('../../src/shard/shard.ts', import.meta.url));

let data: string;
let compiled: string;
beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), 'holdfast-compiled-'));
  compiled = join(data, 'compiled');
});
afterEach(() => rmSync(data, { recursive: true, force: true }));

/** A start and a clean end; what Node said of its cache. */
async function live(settings: NodeJS.ProcessEnv = {}): Promise<string> {
  const host = freshHost();
  const { PATH, HOME, HOLDFAST_IO } = process.env;
  const server = spawn(process.execPath, [CLI], {
    env: {
      PATH,
      HOME,
      HOLDFAST_LISTEN: `udp:${host}:${await freePort(host)}`,
      HOLDFAST_UPSTREAM: 'sip:127.0.0.1:5999',
      HOLDFAST_WORKERS: '1',
      HOLDFAST_DATA: data,
      ...(HOLDFAST_IO === undefined ? {} : { HOLDFAST_IO }),
      ...settings,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  server.stdout.on('data', (chunk: Buffer) => {
    if (chunk.includes('Holdfast is up')) server.kill('SIGTERM');
  });
  server.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const [code] = await once(server, 'close');
  expect(code).toBe(0);
  return said;
}

it('is in the data directory, for its owner alone, and spares the next start the work', async () => {
  expect(await live()).toBe('');
  expect(statSync(compiled).mode & 0o777).toBe(0o700);
  const said = await live({ NODE_DEBUG_NATIVE: 'COMPILE_CACHE' });
  expect(said).toContain(`V8 code cache for ESM file://${SHARD} was accepted`);
});

it('is not kept where Node is told so, nor beside the data where another place is named', async () => {
  await live({ NODE_DISABLE_COMPILE_CACHE: '1' });
  expect(existsSync(compiled)).toBe(false);
  const other = join(data, 'other');
  await live({ NODE_COMPILE_CACHE: other });
  expect([existsSync(compiled), existsSync(other)]).toEqual([false, true]);
});
