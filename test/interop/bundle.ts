/**
 * A CommonJS package and what it requires as one script for a page, with `exports` of its entry in a global name. No
 * transformation: each module is a function that is called when it is first required.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';

const REQUIRE = /\brequire\(\s*['"]([^'"]+)['"]\s*\)/g;

export function bundle(entry: string, name: string): string {
  const modules = new Map<string, string>();
  const add = (file: string): void => {
    if (modules.has(file)) return;
    const text = readFileSync(file, 'utf8');
    const source = file.endsWith('.json') ? `module.exports = ${text}` : text;
    const resolve = createRequire(file).resolve;
    const paths: Record<string, string> = {};
    modules.set(file, '');
    for (const [, wanted] of source.matchAll(REQUIRE)) {
      // with a slash behind it a package is meant, also where Node has a module of that name
      const found = /^[./]/.test(wanted) ? resolve(wanted) : resolve(`${wanted}/package.json`);
      paths[wanted] = /^[./]/.test(wanted) ? found : mainOf(found);
      add(paths[wanted]);
    }
    modules.set(file, `[function (module, exports, require) {${source}\n}, ${JSON.stringify(paths)}]`);
  };
  add(entry);
  const table = [...modules].map(([file, text]) => `${JSON.stringify(file)}: ${text}`).join(',\n');
  return `globalThis[${JSON.stringify(name)}] = (() => {
const modules = {${table}};
const loaded = {};
const load = (file) => {
  if (loaded[file]) return loaded[file].exports;
  const module = (loaded[file] = { exports: {} });
  const [run, paths] = modules[file];
  run(module, module.exports, (wanted) => load(paths[wanted]));
  return module.exports;
};
return load(${JSON.stringify(entry)});
})();`;
}

/** The file of a package for browsers, where it names one. */
function mainOf(packageFile: string): string {
  const { browser, main } = JSON.parse(readFileSync(packageFile, 'utf8'));
  const file = typeof browser === 'string' ? browser : (main ?? 'index.js');
  return createRequire(packageFile).resolve(`${dirname(packageFile)}/${file.replace(/^\.\//, '')}`);
}
