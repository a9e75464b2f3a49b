/**
 * Everybody comes back at once, as after a network's outage. HOLDFAST_CROWD says how many (5000 is what the
 * product promises for ten seconds); the default is fit for every run.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Order, Report } from './crowd-process.ts';
import { pause, SecuredServer } from './rig.ts';

const CROWD = Number(process.env.HOLDFAST_CROWD ?? 500);
const ENTRY = fileURLToPath(new URL('./crowd-process.ts', import.meta.url));

let site: SecuredServer;
beforeAll(async () => {
  site = await SecuredServer.start({ settings: { LOG: 'warn', MAX_FLOWS: '16384' } });
});
afterAll(() => site?.close());

it(`${CROWD} phones connect at once: all register, and established flows are answered meanwhile`, async () => {
  const standing = await Promise.all(Array.from({ length: 10 }, () => site.phone()));
  const crowd = fork(ENTRY, { execArgv: [] });
  try {
    const order: Order = { address: site.address, ca: site.authority.trusted.toString(), phones: CROWD };
    crowd.send(order);
    let report: Report | undefined;
    const reported = once(crowd, 'message').then(([message]) => {
      report = message as Report;
    });
    let pings = 0;
    let longest = 0;
    while (!report) {
      const asked = performance.now();
      await Promise.all(standing.map((phone) => phone.probe()));
      longest = Math.max(longest, performance.now() - asked);
      pings++;
      await pause(10);
    }
    await reported;
    const memory = await site.server.memory();
    console.log(
      `${CROWD} phones in ${Math.round(report.ms)} ms; ${pings} rounds of pings, the longest ${Math.round(longest)} ms; ${Math.round(memory)} MiB`,
    );
    expect(report).toMatchObject({ registered: CROWD, failed: 0 });
    const { counters, used } = await site.server.state();
    expect(used).toBe(CROWD + standing.length);
    expect(counters).toMatchObject({ tlsFailures: 0, tlsTimeouts: 0, tlsRefused: 0 });
    if (CROWD >= 5_000) expect(report.ms).toBeLessThan(10_000);
  } finally {
    crowd.disconnect();
    await once(crowd, 'exit');
  }
}, 60_000);
