/** The ten lines of the README, as they stand there, against a server: only the names and the import are replaced. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isFinal } from '../harness/inbox.ts';
import { call, DOMAIN, Registrar } from '../harness/registrar.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

let site: Registrar;
let phone: ChildProcess | undefined;
const dir = mkdtempSync(join(tmpdir(), 'holdfast-readme-'));
beforeAll(async () => {
  site = await Registrar.start('memory');
});
afterAll(async () => {
  phone?.kill();
  await site?.close();
  rmSync(dir, { recursive: true, force: true });
});

/** The code block of the README that makes a UserAgent. */
function tenLines(): string {
  const blocks = [...readFileSync(join(ROOT, 'README.md'), 'utf8').matchAll(/```ts\n(.*?)```/gs)];
  const [code] = blocks.map(([, text]) => text).filter((text) => text.includes('new UserAgent('));
  return code;
}

describe('the README', () => {
  it('has an endpoint that registers over two flows and answers what comes', async () => {
    const { host, port } = site.server;
    const proxy = `sip:${host}:${port};transport=tcp`;
    const code = tenLines()
      .replace(`'holdfast'`, `'${join(ROOT, 'src/index.ts')}'`)
      .replace('sip:edge1.example.net;transport=tcp', proxy)
      .replace('sip:edge2.example.net;transport=tcp', `${proxy};lr`)
      .replace('example.net', DOMAIN)
      .replace('./phone', dir);
    const statements = code.split('\n').filter((line) => /[;{]$|^\}/.test(line.replace(/ \/\/.*/, '')));
    expect(statements.length).toBeLessThanOrEqual(10);
    const file = join(dir, 'phone.ts');
    writeFileSync(file, code);
    phone = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    const says = async (text: string) => {
      while (!output.includes(text)) await new Promise((r) => phone?.stdout?.once('data', r));
    };
    phone.stdout?.on('data', (chunk: Buffer) => {
      output += chunk;
    });
    await says(`${proxy} registered`);
    await says(`${proxy};lr registered`);
    const caller = await site.client();
    const callId = call(caller, `sip:dora@${DOMAIN}`, 'MESSAGE', { body: 'are you there?' });
    expect((await caller.next(isFinal(callId))).message.status).toBe(200);
    await says('MESSAGE are you there?');
  });
});
