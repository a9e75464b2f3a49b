/** A call of the examination, against this server: its Contacts, and how it ends for an edge that follows dialogs. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Call, call, within } from '../../src/check/calls.ts';
import { Trial } from '../../src/check/trial.ts';
import { numericOnly } from '../../src/ua/locating.ts';
import { checkOptions } from '../../src/ua/options.ts';
import { parseSipUri, type SipUri } from '../../src/wire/uri.ts';
import { type Certificates, makeCertificates } from '../harness/certificates.ts';
import { newInstance } from '../harness/flows.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { DOMAIN } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';

let both: Holdfast;
let certificates: Certificates;
let web: number;
beforeAll(async () => {
  const host = freshHost();
  const port = await freePort(host);
  web = await freePort(host);
  certificates = makeCertificates([`IP:${host}`]);
  both = await Holdfast.start({
    host,
    port,
    settings: {
      DOMAINS: DOMAIN,
      STORE: 'memory:',
      LISTEN: `udp:${host}:${port},tcp:${host}:${port},wss:${host}:${web}`,
      TLS_CERT: certificates.cert,
      TLS_KEY: certificates.key,
    },
  });
});
afterAll(async () => {
  await both?.stop();
  certificates?.remove();
});

/** A call over this transport with a request of the called end in it, and its trial, not yet ended. */
async function called(transport: 'tcp' | 'wss'): Promise<{ trial: Trial; made: Call; before: number }> {
  const port = transport === 'wss' ? web : both.port;
  const edge = `sip:${both.host}:${port};transport=${transport}`;
  const settings = checkOptions({
    aor: `sip:${unique('dora')}@${DOMAIN}`,
    proxies: [edge],
    instanceId: newInstance(),
    locate: numericOnly,
    tls: { ca: certificates.trusted },
  });
  const uri = parseSipUri(edge) as SipUri;
  const { targets } = await settings.locate(uri, Object.keys(settings.dials).map(Number));
  const trial = new Trial(
    {
      settings,
      edge,
      domain: uri.host,
      target: targets[0],
      patience: 10_000,
      user: unique('check'),
      expires: 600,
    },
    new AbortController().signal,
  );
  const made = await call(trial);
  const answer = await within(trial, made.callee, 'OPTIONS');
  return { trial, made, before: answer.cseq };
}

it('the caller hangs up, with a CSeq above that of all before', async () => {
  const { trial, made } = await called('tcp');
  await within(trial, made.caller, 'OPTIONS');
  await trial.end();
  const got = made.callee.probe.requests.filter(({ method }) => method === 'OPTIONS' || method === 'BYE');
  expect(got.map(({ method }) => method)).toEqual(['OPTIONS', 'BYE']);
  expect(got[1].cseq).toBeGreaterThan(got[0].cseq);
});

it('who was called hangs up where the caller has no flow any more, by the same rule', async () => {
  const { trial, made, before } = await called('tcp');
  const { caller, callee } = made;
  caller.probe.close();
  await caller.probe.until(() => caller.probe.ended !== undefined, trial.patience);
  await trial.end();
  const byes = callee.probe.responses.filter(({ cseqMethod }) => cseqMethod === 'BYE');
  expect(byes).toHaveLength(1);
  expect(byes[0].cseq).toBeGreaterThan(before);
});

it('over wss says transport=ws in its Contacts, as user agents do', async () => {
  const { trial, made } = await called('wss');
  const contact = /^sip:check[^@]*@192\.0\.2\.1:5060;transport=ws;ob$/;
  for (const { dialog } of [made.caller, made.callee]) expect(dialog.target).toMatch(contact);
  await trial.end();
});
