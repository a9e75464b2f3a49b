/** A request comes in on one shard for a connection that another shard owns. */
import { afterEach, describe, expect, it } from 'vitest';
import { Core, numberOf, registerOn, requestText, TcpWire } from './crowd.ts';
import { pause, Watched } from './watched.ts';

const TCP = 2;

let server: Watched;
let core: Core;
const open: TcpWire[] = [];

afterEach(async () => {
  for (const wire of open.splice(0)) wire.close();
  core?.close();
  await server?.stop();
});

/** Connections from the test, by the shard that owns them: some of each. */
async function begin(): Promise<[here: TcpWire[], there: TcpWire[]]> {
  core = await Core.open();
  server = await Watched.start({ settings: { UPSTREAM: `sip:${core.host}:${core.port}` } });
  let shards: [TcpWire[], TcpWire[]] = [[], []];
  // the kernel may be the one who spreads connections: until both shards have two
  while (open.length < 64 && shards.some((some) => some.length < 2)) {
    for (let i = 0; i < 4; i++) open.push(await TcpWire.open(server.address, undefined, true));
    await server.stateBecomes((s) => s.used === open.length);
    const flows = (await server.flows()).filter((f) => f.transport === TCP);
    const of = (owner: number) =>
      open.filter((wire) => flows.some((f) => f.owner === owner && f.peer === wire.hostPort));
    shards = [of(1), of(2)];
  }
  for (const [i, wire] of open.entries()) await registerOn(wire, i);
  return shards;
}

const phone = (wire: TcpWire) => open.indexOf(wire);
const down = (source: TcpWire, n: number, target: TcpWire) =>
  source.send(requestText(source, n, phone(target), core.path[phone(target)]));

describe('a request on one shard for a flow of another', () => {
  it('is delivered, and its answer comes back, in both directions [EP-5.2-06]', async () => {
    const [here, there] = await begin();
    for (const [source, target] of [
      [here[0], there[0]],
      [there[0], here[0]],
      [here[0], here[1]],
    ]) {
      const request = target.next((text) => text.startsWith('MESSAGE '));
      down(source, 5, target);
      const text = await request;
      expect(numberOf(text)).toBe(5);
      const answer = source.next((t) => t.startsWith('SIP/2.0 200 '));
      const [via, rest] = [text.indexOf('Via: '), text.indexOf('Max-Forwards')];
      target.send(
        `SIP/2.0 200 OK\r\n${text.slice(via, rest)}From: <sip:core@example.test>;tag=c\r\nTo: <sip:u@example.test>;tag=t\r\nCall-ID: 5\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n`,
      );
      expect(numberOf(await answer)).toBe(5);
    }
  });

  it('is answered 430 once that flow has ended [EP-5.3.1-05 EP-5.2-06]', async () => {
    const [here, there] = await begin();
    const [source] = here;
    const [target] = there;
    const { used } = await server.state();
    target.close();
    await server.stateBecomes((s) => s.used === used - 1);
    const answer = source.next((t) => t.startsWith('SIP/2.0 430 '));
    down(source, 6, target);
    expect(numberOf(await answer)).toBe(6);
  });

  it('is either delivered or answered 430 while that flow ends: none disappears [EP-5.3.1-05 EP-5.2-06]', async () => {
    const [here, there] = await begin();
    const [source] = here;
    let n = 0;
    let failed = 0;
    let delivered = 0;
    for (const target of there) {
      const fate = new Map<number, string>();
      source.onText = (text) => {
        if (text.startsWith('SIP/2.0 430 ')) fate.set(numberOf(text), 'failed');
      };
      target.onText = (text) => {
        if (text.startsWith('MESSAGE ')) fate.set(numberOf(text), 'delivered');
      };
      const first = n;
      let ending = false;
      // half-closed: what the server still writes before it closes its side is read
      for (let round = 0; round < 400 && !(ending && fate.get(n - 1) === 'failed'); round++) {
        for (let i = 0; i < 20; i++) down(source, n++, target);
        if (round === 10) {
          target.socket.end();
          ending = true;
        }
        await pause(0);
      }
      await target.gone;
      for (let i = 0; i < 200 && fate.size < n - first; i++) await pause(10);
      expect(fate.size).toBe(n - first);
      for (const value of fate.values()) value === 'failed' ? failed++ : delivered++;
    }
    expect(delivered).toBeGreaterThan(0);
    expect(failed).toBeGreaterThan(0);
  });
});
