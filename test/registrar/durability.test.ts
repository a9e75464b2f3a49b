import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { open } from 'lmdb';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Binding } from '../../src/registrar/binding.ts';
import { LmdbBackend, LmdbReader } from '../../src/registrar/lmdb.ts';
import { temporaryDirectory } from './backends.ts';

const CHILD = fileURLToPath(new URL('acknowledge.ts', import.meta.url));

let dir: string;
beforeEach(() => {
  dir = temporaryDirectory();
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const options = (durability: 'process' | 'power' = 'process') => ({ dir, durability, mapSize: 2 ** 28 });
const binding = (contact: string): Binding => ({
  key: `c:${contact}`,
  contact,
  params: [],
  regId: 0,
  q: 1000,
  path: [],
  callId: 'a',
  cseq: 1,
  expiresAt: 2e12,
  updatedAt: 1,
  order: 1,
});

describe('the LMDB store', () => {
  it.each(['process', 'power'] as const)(
    '(%s) has everything it acknowledged after kill -9',
    async (durability) => {
      const child = spawn(process.execPath, [CHILD, dir, durability], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let output = '';
      for await (const chunk of child.stdout) {
        output += chunk;
        if (output.length > 2_000 && !child.killed) child.kill('SIGKILL');
      }
      const acknowledged = output.split('\n').slice(0, -1);
      expect(acknowledged.length).toBeGreaterThan(300);
      const reopened = new LmdbBackend(options(durability));
      expect(reopened.setAside).toBeUndefined();
      const missing = acknowledged.filter(
        (n) => reopened.get(`sip:u${n}@h`)?.[0].contact !== `sip:u${n}@192.0.2.1`,
      );
      await reopened.close();
      expect(missing).toEqual([]);
    },
  );

  it('sets files aside that a power failure may have torn, and starts empty', async () => {
    const before = new LmdbBackend(options(), 'boot-1');
    before.put('sip:a@h', [binding('sip:a@192.0.2.1')]);
    // No close: this is how it looks to the next boot.
    const state = readFileSync(join(dir, 'location.state'), 'utf8');
    expect(state).toBe('boot-1');
    await before.close();
    writeFileSync(join(dir, 'location.state'), state);

    const after = new LmdbBackend(options(), 'boot-2');
    expect(after.setAside).toBe(join(dir, 'location.unclean'));
    expect(after.get('sip:a@h')).toBeUndefined();
    await after.close();
    expect(readdirSync(dir)).toContain('location.unclean');
  });

  it.each([
    ['was closed', 'process', 'boot-1'],
    ['flushes each commit', 'power', 'boot-1'],
    ['cannot know the boot', 'process', ''],
  ] as const)('keeps its files over a reboot if it %s', async (why, durability, boot) => {
    const before = new LmdbBackend(options(durability), boot);
    before.put('sip:a@h', [binding('sip:a@192.0.2.1')]);
    if (why !== 'was closed') expect(readFileSync(join(dir, 'location.state'), 'utf8')).toBe('clean');
    await before.close();
    const after = new LmdbBackend(options(durability), boot && 'boot-2');
    expect(after.setAside).toBeUndefined();
    expect(after.get('sip:a@h')?.[0].contact).toBe('sip:a@192.0.2.1');
    await after.close();
  });

  it('is read in place: a commit is seen after the next turn', async () => {
    const writer = new LmdbBackend(options());
    const reader = new LmdbReader(options());
    writer.transaction(() => writer.put('sip:a@h', [binding('sip:a@192.0.2.1')]));
    reader.turn();
    expect(reader.get('sip:a@h')?.[0].contact).toBe('sip:a@192.0.2.1');
    writer.transaction(() => writer.put('sip:a@h', []));
    reader.turn();
    expect(reader.get('sip:a@h')).toBeUndefined();
    await reader.close();
    await writer.close();
  });

  it('counts values it cannot read and takes them for no binding', async () => {
    const writer = new LmdbBackend(options());
    const raw = open({ path: join(dir, 'location'), encoding: 'binary' });
    raw.putSync('sip:a@h', Buffer.from([99, 1, 2]));
    expect(writer.transaction(() => writer.get('sip:a@h'))).toBeUndefined();
    expect(writer.unreadable).toBe(1);
    await raw.close();
    await writer.close();
  });
});
