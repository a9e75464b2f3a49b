/**
 * The SIP domains that a certificate speaks for, and whether a domain is one of them (RFC 5922 section 7).
 * Whole names are compared, without regard to case; no wildcard and no suffix matches anything but itself.
 * That the certificate is good is for the TLS library to say.
 */
import type { X509Certificate } from 'node:crypto';

/** Values with a comma or quote stand there as JSON strings. */
const NAME = /(\w[\w ]*):("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)/g;
const SIP_DOMAIN = /^sip:(\[[0-9a-f:.]+\]|[^@:;?[\]]+)(?::\d+)?(?:[;?][^@]*)?$/i;

export function sipIdentities(certificate: Pick<X509Certificate, 'subjectAltName' | 'subject'>): string[] {
  const { subjectAltName, subject } = certificate;
  if (subjectAltName === undefined) {
    const name = /^CN=(.+)$/m.exec(subject ?? '')?.[1]; // 7.1: allowed only where there is no subjectAltName
    return name !== undefined && /^[A-Za-z0-9.-]+$/.test(name) ? [name.toLowerCase()] : [];
  }
  const names = alternatives(subjectAltName);
  const uris = names
    .filter(({ kind }) => kind === 'URI')
    .map(({ value }) => SIP_DOMAIN.exec(value)?.[1])
    .filter((host) => host !== undefined);
  const found = uris.length > 0 ? uris : dnsNames(names);
  return [...new Set(found.map((name) => name.toLowerCase()))];
}

/** Is this one of the domains? `host` as in a URI. */
export function speaksFor(certificate: X509Certificate, host: string): boolean {
  const wanted = host.toLowerCase();
  return sipIdentities(certificate).includes(wanted) || namesAddress(certificate, wanted);
}

/** A numeric host is no SIP domain; one that the certificate names as an address is still that host (RFC 3261 26.3.1). */
function namesAddress(certificate: X509Certificate, host: string): boolean {
  return /^[\d.]+$|:/.test(host) && certificate.checkIP(host.replace(/^\[|\]$/g, '')) !== undefined;
}

/** DNS names of the subjectAltName, lower case. */
export const serverNames = ({ subjectAltName }: X509Certificate): string[] =>
  subjectAltName === undefined
    ? []
    : dnsNames(alternatives(subjectAltName)).map((name) => name.toLowerCase());

const dnsNames = (names: { kind: string; value: string }[]): string[] =>
  names.filter(({ kind }) => kind === 'DNS').map(({ value }) => value);

function alternatives(text: string): { kind: string; value: string }[] {
  return [...text.matchAll(NAME)].map(([, kind, value]) => ({
    kind,
    value: value.startsWith('"') ? (JSON.parse(value) as string) : value,
  }));
}
