/**
 * The layers as a test: every import between folders of src points downward, no two folders import
 * each other in a ring, and only src/native knows node:ffi. Type-only imports count too: a type is a
 * dependency for the reader. A file named by `new URL` (a worker's entry) counts as an import.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const SRC = fileURLToPath(new URL('../src', import.meta.url));

/** From top to bottom; folders of one row may import each other as long as there is no ring. */
const LAYERS = [
  ['.'],
  ['main', 'shard', 'transfer', 'check', 'phone'],
  ['proxy', 'registrar', 'ua'],
  ['transaction', 'auth'],
  ['flow'],
  ['wire'],
  ['net'],
  ['shared'],
  ['native'],
];
/** May be imported by all; what they import themselves must lie at the bottom. */
const EVERYWHERE = ['config', 'observe'];

interface Import {
  file: string;
  from: string;
  to: string;
  specifier: string;
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.ts'));

const IMPORT =
  /^\s*(?:import|export)\s[^'"`;]*?from\s*['"]([^'"]+)['"]|^\s*import\s*['"]([^'"]+)['"]|\bimport\s*\(\s*['"]([^'"]+)['"]|new URL\(\s*['"](\.[^'"]+\.ts)['"]/gm;

const folderOf = (path: string) => (path.includes('/') ? path.split('/')[0] : '.');

function importsOf(file: string): Import[] {
  const text = readFileSync(join(SRC, file), 'utf8');
  return [...text.matchAll(IMPORT)].map((match) => {
    const specifier = (match[1] ?? match[2] ?? match[3] ?? match[4]) as string;
    const to = specifier.startsWith('.') ? folderOf(normalize(join(dirname(file), specifier))) : specifier;
    return { file, from: folderOf(file), to, specifier };
  });
}

const imports = files.flatMap(importsOf);
const rank = (folder: string) => LAYERS.findIndex((row) => row.includes(folder));

describe('the layers of src', () => {
  it('has a place for every folder', () => {
    const known = new Set([...LAYERS.flat(), ...EVERYWHERE]);
    expect(files.map(folderOf).filter((folder) => !known.has(folder))).toEqual([]);
  });

  it('has no import that points upward', () => {
    const upward = imports.filter(
      ({ from, to, specifier }) =>
        specifier.startsWith('.') &&
        from !== to &&
        !EVERYWHERE.includes(from) &&
        !EVERYWHERE.includes(to) &&
        rank(to) < rank(from),
    );
    expect(upward.map(({ file, specifier }) => `${file} -> ${specifier}`)).toEqual([]);
  });

  it('has no ring between folders', () => {
    const arrows = new Map<string, Set<string>>();
    for (const { from, to, specifier } of imports)
      if (specifier.startsWith('.') && from !== to)
        arrows.set(from, (arrows.get(from) ?? new Set<string>()).add(to));
    const rings: string[] = [];
    const walk = (folder: string, path: string[]): void => {
      const at = path.indexOf(folder);
      if (at >= 0) {
        rings.push([...path.slice(at), folder].join(' -> '));
        return;
      }
      for (const next of arrows.get(folder) ?? []) walk(next, [...path, folder]);
    };
    for (const folder of arrows.keys()) walk(folder, []);
    expect([...new Set(rings)]).toEqual([]);
  });

  it('calls foreign functions from src/native only', () => {
    const callers = imports.filter(({ from, specifier }) => specifier === 'node:ffi' && from !== 'native');
    const quoted = files.filter(
      (f) => folderOf(f) !== 'native' && /['"]node:ffi['"]/.test(readFileSync(join(SRC, f), 'utf8')),
    );
    expect([...callers.map(({ file }) => file), ...quoted]).toEqual([]);
  });

  it('sees imports at all', () => {
    expect(imports.some(({ from, to }) => from === 'wire' && to === 'net')).toBe(true);
  });
});
