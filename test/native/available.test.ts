import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { selfTest } from '../../src/native/available.ts';
import { errnoName } from '../../src/native/errno.ts';
import { openDescriptors } from './loopback.ts';

const folder = new URL('../../src/native/', import.meta.url).pathname;

function run(flags: string[], program: string) {
  const source = program.replaceAll('native/', folder);
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [...flags, '--input-type=module', '--eval', source],
    { encoding: 'utf8' },
  );
  return { status, stdout: stdout.trim(), stderr };
}

describe('native I/O', () => {
  it('passes its own test here and leaves the descriptors as they were', () => {
    const before = openDescriptors();
    expect(selfTest()).toEqual({ ok: true });
    expect(selfTest()).toEqual({ ok: true });
    expect(openDescriptors()).toEqual(before);
  });

  it('says nothing of experimental FFI on standard error, and lets other warnings through', () => {
    const quiet = run([], `import { selfTest } from 'native/available.ts'; console.log(selfTest().ok);`);
    expect(quiet).toEqual({ status: 0, stdout: 'true', stderr: '' });
    const other = run(
      [],
      `import 'native/available.ts';
       process.emitWarning('FFI of another kind', 'DeprecationWarning');
       process.emitWarning('SQLite is an experimental feature', 'ExperimentalWarning');`,
    );
    expect(other.stderr).toContain('FFI of another kind');
    expect(other.stderr).toContain('SQLite is an experimental feature');
  });

  it('is absent with a reason, not an exception, where Node runs without FFI', () => {
    const { status, stdout } = run(
      ['--no-experimental-ffi'],
      `import { selfTest } from 'native/available.ts';
       import * as socket from 'native/socket.ts';
       import 'native/mmsg.ts';
       const test = selfTest();
       let refusal = '';
       try { socket.closeFd(99); } catch (error) { refusal = error.message; }
       console.log(JSON.stringify([test.ok, test.reason, refusal]));`,
    );
    expect(status).toBe(0);
    const [ok, reason, refusal] = JSON.parse(stdout);
    expect(ok).toBe(false);
    expect(reason).toContain('node:ffi');
    expect(refusal).toContain(reason);
  });

  it('is absent with a reason where permissions forbid FFI', () => {
    const { status, stdout } = run(
      ['--permission', '--allow-fs-read=*'],
      `import { selfTest } from 'native/available.ts'; console.log(JSON.stringify(selfTest()));`,
    );
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, reason: expect.stringMatching(/./) });
  });
});

describe('error numbers', () => {
  it('have the word that operators know, with either sign', () => {
    expect(errnoName(111)).toBe('ECONNREFUSED');
    expect(errnoName(-11)).toBe('EAGAIN');
    expect(errnoName(9999)).toBe('errno 9999');
  });
});
