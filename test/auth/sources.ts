/** A log that remembers, and a file of its own for each test. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { onTestFinished } from 'vitest';
import type { Credentials, Lookup } from '../../src/auth/credentials.ts';
import type { Algorithm } from '../../src/auth/digest.ts';
import type { Logger } from '../../src/observe/log.ts';

export interface Remembered {
  log: Logger;
  lines: Record<string, unknown>[];
  /** all that was written, as it was written */
  text: () => string;
}

export function remember(): Remembered {
  let text = '';
  const lines: Record<string, unknown>[] = [];
  const log = pino(
    { level: 'trace' },
    {
      write: (line: string) => {
        text += line;
        lines.push(JSON.parse(line));
      },
    },
  );
  return { log, lines, text: () => text };
}

export function directory(): string {
  const path = mkdtempSync(join(tmpdir(), 'holdfast-auth-'));
  onTestFinished(() => rmSync(path, { recursive: true }));
  return path;
}

export function find(
  credentials: Credentials,
  user: string,
  algorithm: Algorithm = 'SHA-256',
  realm = 'example.net',
): Promise<Lookup> {
  return new Promise((resolve, reject) => {
    let told = false;
    credentials.find(user, realm, algorithm, (found) => {
      if (told) reject(new Error('told twice'));
      told = true;
      resolve(found);
    });
  });
}
