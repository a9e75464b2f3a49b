/**
 * GRUUs (RFC 5627): URIs that name one device of an address-of-record, made and read without stored state.
 *
 * Public: the AOR with `;gr=` and 32 hex digits, a device number and a MAC over it. The number is a keyed
 * hash of AOR and instance-id, so it shows no URN (A.1 of the RFC puts it there; a UUID may hold a MAC
 * address), is the same for as long as the key is, and one that was made up is known at once. Hex, because
 * 19.1.4 compares URI parameters without case.
 *
 * Temporary: `sip:tgruu.SEALED@domain;gr`. Sealed under a key of its own (from 16 random octets in front):
 * user, device number and the epoch of the device's registration, padded. Two of them have nothing in common
 * but perhaps their length. It is good while a binding of that device has that epoch: location.ts and
 * redis-script.ts give a new one when the device had no binding, or came with another Call-ID (5.1).
 *
 * It cannot say whether a temporary GRUU is still valid, nor whether an AOR exists: the bindings say that.
 * Cost: some 10 us for each that is made or read. Nothing here throws or does I/O.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  hkdfSync,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';
import type { HeaderParam } from '../wire/nameaddr.ts';
import { canonicalAor, type SipUri, uriParam } from '../wire/uri.ts';
import type { Binding } from './binding.ts';

export interface Gruu {
  /** canonical */
  aor: string;
  /** 16 hex digits that stand for the instance-id within the AOR */
  device: string;
  /** of a temporary GRUU */
  epoch?: number;
}

const DEVICE_OCTETS = 8;
const TEMPORARY = 'tgruu.';
const SALT_OCTETS = 16;
const TAG_OCTETS = 16;
/** epoch, device, length of the user */
const HEAD_OCTETS = 6 + DEVICE_OCTETS + 1;
/** users of up to 17 octets all look alike */
const PAD_OCTETS = 32;
/** so that the sealed text has at most 427 characters */
const MOST_USER_OCTETS = 255;
const IV = Buffer.alloc(12);
const SEALED = /^[A-Za-z0-9_-]{86,512}$/;

export class Gruus {
  readonly #hashKey: Uint8Array;
  readonly #sealKey: Uint8Array;
  readonly #random: (octets: number) => Buffer;

  /** `key`: 32 octets (gruu-key.ts). */
  constructor(key: Uint8Array, random: (octets: number) => Buffer = randomBytes) {
    this.#hashKey = derive(key, 'gruu hash');
    this.#sealKey = derive(key, 'gruu seal');
    this.#random = random;
  }

  /** `aor` is canonical, `scheme` that of the Contact (RFC 5630 5.2.1). */
  public(aor: string, instance: string, scheme: SipUri['scheme'] = 'sip'): string {
    const device = this.#device(aor, instance);
    return `${scheme}${aor.slice(aor.indexOf(':'))};gr=${device}${this.#mac(aor, device)}`;
  }

  /** A new one at each call, of this epoch; undefined where the user part would be too long. */
  temporary(
    aor: string,
    instance: string,
    epoch: number,
    scheme: SipUri['scheme'] = 'sip',
  ): string | undefined {
    const at = aor.lastIndexOf('@');
    const user = Buffer.from(aor.slice(4, at), 'latin1');
    if (at < 0 || user.length > MOST_USER_OCTETS || !isEpoch(epoch)) return undefined;
    const host = aor.slice(at + 1);
    const length = HEAD_OCTETS + user.length;
    const open = Buffer.alloc(Math.ceil(length / PAD_OCTETS) * PAD_OCTETS);
    open.writeUIntBE(epoch, 0, 6);
    open.write(this.#device(aor, instance), 6, 'hex');
    open[HEAD_OCTETS - 1] = user.length;
    user.copy(open, HEAD_OCTETS);
    const salt = this.#random(SALT_OCTETS);
    const cipher = createCipheriv('aes-256-gcm', this.#sealKeyOf(salt), IV).setAAD(
      Buffer.from(host, 'latin1'),
    );
    const sealed = [salt, cipher.update(open), cipher.final(), cipher.getAuthTag()];
    return `${scheme}:${TEMPORARY}${Buffer.concat(sealed).toString('base64url')}@${host};gr`;
  }

  /** What a URI with `gr` names; undefined if it is no GRUU that this key made. */
  read(uri: SipUri): Gruu | undefined {
    const value = uriParam(uri, 'gr');
    if (value === undefined || uri.user === undefined) return undefined;
    const aor = canonicalAor(uri); // escapes and the host's case are settled by it (19.1.4)
    return value === '' ? this.#open(aor) : this.#readPublic(aor, value.toLowerCase());
  }

  #readPublic(aor: string, value: string): Gruu | undefined {
    if (!/^[0-9a-f]{32}$/.test(value)) return undefined;
    const device = value.slice(0, DEVICE_OCTETS * 2);
    const mac = this.#mac(aor, device);
    const isOurs = timingSafeEqual(Buffer.from(value.slice(DEVICE_OCTETS * 2)), Buffer.from(mac));
    return isOurs ? { aor, device } : undefined;
  }

  #open(uri: string): Gruu | undefined {
    const at = uri.lastIndexOf('@');
    const text = uri.slice(4 + TEMPORARY.length, at);
    if (!uri.startsWith(`sip:${TEMPORARY}`) || !SEALED.test(text)) return undefined;
    const octets = Buffer.from(text, 'base64url');
    if (octets.toString('base64url') !== text) return undefined; // one text for each value
    const host = uri.slice(at + 1);
    const end = octets.length - TAG_OCTETS;
    const key = this.#sealKeyOf(octets.subarray(0, SALT_OCTETS));
    const decipher = createDecipheriv('aes-256-gcm', key, IV, { authTagLength: TAG_OCTETS })
      .setAAD(Buffer.from(host, 'latin1'))
      .setAuthTag(octets.subarray(end));
    const open = decipher.update(octets.subarray(SALT_OCTETS, end));
    try {
      decipher.final();
    } catch {
      return undefined;
    }
    const user = open.toString('latin1', HEAD_OCTETS, HEAD_OCTETS + open[HEAD_OCTETS - 1]);
    return {
      aor: `sip:${user}@${host}`,
      device: open.toString('hex', 6, 6 + DEVICE_OCTETS),
      epoch: open.readUIntBE(0, 6),
    };
  }

  /**
   * The parameters that the Contacts of one 200 get (5.2): the same pair for each of a device, nothing without an
   * instance-id, no temporary one where the AOR is too long for it.
   */
  inContacts(aor: string): (binding: Binding) => HeaderParam[] {
    const made = new Map<string, HeaderParam[]>();
    return ({ instance, epoch, contact }) => {
      if (instance === undefined) return [];
      const scheme = /^sips:/i.test(contact) ? 'sips' : 'sip';
      const known = made.get(`${scheme} ${instance}`);
      if (known) return known;
      const params: HeaderParam[] = [['pub-gruu', quote(this.public(aor, instance, scheme))]];
      const temporary = epoch === undefined ? undefined : this.temporary(aor, instance, epoch, scheme);
      if (temporary !== undefined) params.push(['temp-gruu', quote(temporary)]);
      made.set(`${scheme} ${instance}`, params);
      return params;
    };
  }

  /**
   * The bindings of the AOR that the GRUU names, in the order in which they are tried: that of RFC 5626 section 7
   * where the device registers flows, else the most recently refreshed first, whatever its q (6.1).
   */
  choose(gruu: Gruu, bindings: readonly Binding[]): Binding[] {
    const named = bindings.filter(
      ({ instance, epoch }) =>
        instance !== undefined &&
        (gruu.epoch === undefined || gruu.epoch === epoch) &&
        this.#device(gruu.aor, instance) === gruu.device,
    );
    const hasFlows = named.some(({ regId }) => regId > 0);
    return hasFlows ? named : named.sort((a, b) => b.order - a.order);
  }

  #device(aor: string, instance: string): string {
    return this.#hash(DEVICE_OCTETS, 'device', aor, instance);
  }

  #mac(aor: string, device: string): string {
    return this.#hash(DEVICE_OCTETS, 'public', aor, device);
  }

  /** None of the texts has a line feed. */
  #hash(octets: number, ...texts: string[]): string {
    return createHmac('sha256', this.#hashKey)
      .update(texts.join('\n'), 'latin1')
      .digest('hex')
      .slice(0, octets * 2);
  }

  #sealKeyOf(salt: Uint8Array): Buffer {
    return createHmac('sha256', this.#sealKey).update(salt).digest();
  }
}

const isEpoch = (epoch: number) => Number.isInteger(epoch) && epoch >= 0 && epoch < 2 ** 48;

const quote = (text: string) => `"${text.replace(/["\\]/g, '\\$&')}"`;

const derive = (key: Uint8Array, label: string) =>
  new Uint8Array(hkdfSync('sha256', key, '', `holdfast 1 ${label}`, 32));
