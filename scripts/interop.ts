/**
 * Tests against other programs: baresip, SIPp, Kamailio and HAProxy (packages baresip-core, sip-tester,
 * kamailio, haproxy). Not part of `npm test`; a program that is not installed leaves its tests out. With
 * --all, as in continuous integration, a test that is left out is an error.
 *
 * Ends with the line `N passed, N failed, N skipped`; exit code 1 if a test failed or none ran.
 */
import { close, count, readResults, runVitest } from './results.ts';

const all = process.argv.includes('--all');
const filters = process.argv.slice(2).filter((a) => a !== '--all');

const ended = await runVitest('interop', ['--config', 'test/interop/vitest.config.ts', ...filters]);
const results = readResults('interop') ?? [];
const good = close(results);
const missing = all && count(results).skipped > 0;
process.exitCode = good && ended && !missing ? 0 : 1;
