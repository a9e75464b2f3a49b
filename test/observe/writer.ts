/**
 * A process that writes that many log lines at once, to whatever its standard output is, says so in a file of that name,
 * and stays until its standard input ends.
 */
import { writeFileSync } from 'node:fs';
import { Lines } from '../../src/observe/lines.ts';

const [count, file] = process.argv.slice(2);
const lines = Lines.toStandardOutput();
for (let n = 1; n <= Number(count); n++) lines.write(`${JSON.stringify({ n, text: 'x'.repeat(1_000) })}\n`);
writeFileSync(file, 'done');
process.stdin.resume();
