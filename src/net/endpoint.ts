/**
 * A transport address as five integers, so that the packet path compares, hashes and stores
 * addresses without making a string. IPv4 is held as an IPv4-mapped IPv6 address (::ffff:a.b.c.d),
 * so both families have one layout; `family` says which one the socket speaks.
 *
 * Objects are made at start and reused: every function that "returns" an address fills one.
 */
export class Endpoint {
  /** 4 or 6 */
  family = 4;
  /** host byte order, 0 to 65535 */
  port = 0;
  /** the sixteen octets in network order, as four big-endian 32-bit words held as int32 */
  a0 = 0;
  a1 = 0;
  a2 = 0;
  a3 = 0;

  copy(from: Endpoint): this {
    this.family = from.family;
    this.port = from.port;
    this.a0 = from.a0;
    this.a1 = from.a1;
    this.a2 = from.a2;
    this.a3 = from.a3;
    return this;
  }

  equals(other: Endpoint): boolean {
    return (
      this.port === other.port &&
      this.a3 === other.a3 &&
      this.a2 === other.a2 &&
      this.a1 === other.a1 &&
      this.a0 === other.a0
    );
  }

  sameAddress(other: Endpoint): boolean {
    return this.a3 === other.a3 && this.a2 === other.a2 && this.a1 === other.a1 && this.a0 === other.a0;
  }

  setV4(word: number, port: number): this {
    this.family = 4;
    this.port = port;
    this.a0 = 0;
    this.a1 = 0;
    this.a2 = 0xffff;
    this.a3 = word | 0;
    return this;
  }

  /** The unspecified address: 0.0.0.0 or ::. */
  get isWildcard(): boolean {
    return this.a3 === 0 && this.a0 === 0 && this.a1 === 0 && (this.a2 === 0 || this.a2 === 0xffff);
  }

  get isLoopback(): boolean {
    return this.family === 4
      ? this.a3 >>> 24 === 127
      : this.a0 === 0 && this.a1 === 0 && this.a2 === 0 && this.a3 === 1;
  }

  /** "192.0.2.1" or "2001:db8::1", without brackets. */
  get host(): string {
    return this.family === 4 ? hostV4(this.a3) : hostV6(this.a0, this.a1, this.a2, this.a3);
  }

  /** As it stands in a URI or a Via: "192.0.2.1:5060", "[2001:db8::1]:5060". */
  toString(): string {
    return this.family === 4 ? `${this.host}:${this.port}` : `[${this.host}]:${this.port}`;
  }

  static parse(host: string, port: number): Endpoint | undefined {
    return new Endpoint().parse(host, port);
  }

  /** Fills this from a numeric host, IPv6 with or without brackets. Undefined if it is a name. */
  parse(host: string, port: number): this | undefined {
    const v4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(host);
    if (v4) {
      let word = 0;
      for (let i = 1; i <= 4; i++) {
        const octet = Number(v4[i]);
        if (octet > 255) return undefined;
        word = (word << 8) | octet;
      }
      return this.setV4(word, port);
    }
    const bare = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
    const words = parseV6(bare);
    if (!words) return undefined;
    this.port = port;
    this.family = 6;
    this.a0 = words[0];
    this.a1 = words[1];
    this.a2 = words[2];
    this.a3 = words[3];
    return this;
  }
}

function hostV4(word: number): string {
  return `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`;
}

/** RFC 5952: lower case, the longest run of two or more zero groups becomes "::". */
function hostV6(a0: number, a1: number, a2: number, a3: number): string {
  if (a0 === 0 && a1 === 0 && a2 === 0xffff) return `::ffff:${hostV4(a3)}`;
  const groups: number[] = [];
  for (const word of [a0, a1, a2, a3]) groups.push((word >>> 16) & 0xffff, word & 0xffff);
  let best = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; ) {
    let j = i;
    while (j < 8 && groups[j] === 0) j++;
    if (j - i > bestLength) {
      best = i;
      bestLength = j - i;
    }
    i = j + 1;
  }
  const text = (list: number[]) => list.map((g) => g.toString(16)).join(':');
  if (best < 0) return text(groups);
  return `${text(groups.slice(0, best))}::${text(groups.slice(best + bestLength))}`;
}

function parseV6(text: string): [number, number, number, number] | undefined {
  if (!text.includes(':') || !/^[0-9a-fA-F:.]+$/.test(text)) return undefined;
  let body = text;
  const tail: number[] = [];
  const dot = body.indexOf('.');
  if (dot >= 0) {
    const at = body.lastIndexOf(':');
    const v4 = Endpoint.parse(body.slice(at + 1), 0);
    if (v4?.family !== 4) return undefined;
    tail.push((v4.a3 >>> 16) & 0xffff, v4.a3 & 0xffff);
    body = body.slice(0, at + 1);
    if (body.endsWith(':') && !body.endsWith('::')) body = body.slice(0, -1);
  }
  const halves = body.split('::');
  if (halves.length > 2) return undefined;
  const groupsOf = (half: string): number[] | undefined => {
    if (half === '') return [];
    const groups: number[] = [];
    for (const group of half.split(':')) {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
      groups.push(Number.parseInt(group, 16));
    }
    return groups;
  };
  const head = groupsOf(halves[0]);
  const rest = halves.length === 2 ? groupsOf(halves[1]) : [];
  if (!head || !rest) return undefined;
  const after = [...rest, ...tail];
  const missing = 8 - head.length - after.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const groups = [...head, ...new Array<number>(halves.length === 2 ? missing : 0).fill(0), ...after];
  const word = (i: number) => (groups[i] << 16) | groups[i + 1] | 0;
  return [word(0), word(2), word(4), word(6)];
}
