/**
 * One UDP socket of the generator: 64 datagrams a call in both directions, each sent from whichever of the local
 * addresses is named with it (IP_PKTINFO), each received with the address that it was sent to. So one socket is as
 * many UDP clients as the loopback network has addresses, and a million flows need sixteen of them.
 *
 * A datagram that the kernel does not take is lost, as on a network: its transaction ends by time.
 */
import { EAGAIN, errnoName } from '../../src/native/errno.ts';
import { ErrorQueue } from '../../src/native/errqueue.ts';
import { RecvBatch } from '../../src/native/recvbatch.ts';
import { SendBatch } from '../../src/native/sendbatch.ts';
import type { Address } from '../../src/native/sockaddr.ts';
import { closeFd, localAddress, openUdp } from '../../src/native/socket.ts';
import { BATCH, DATAGRAM_SLOT, type Desk, MESSAGE_ROOM } from './desk.ts';

const errors = new ErrorQueue();

export function ipv4(host: string, port: number): Address {
  const [a, b, c, d] = host.split('.').map(Number);
  const word = (a << 24) | (b << 16) | (c << 8) | d;
  return { family: 4, port, a0: 0, a1: 0, a2: 0xffff, a3: word };
}

export const hostOf = ({ a3 }: Address): string =>
  `${(a3 >>> 24) & 255}.${(a3 >>> 16) & 255}.${(a3 >>> 8) & 255}.${a3 & 255}`;

export function need(returned: number, what: string): number {
  if (returned < 0) throw new Error(`${what}: ${errnoName(returned)}`);
  return returned;
}

export class DatagramSocket {
  readonly fd: number;
  readonly address: Address;
  readonly receive: RecvBatch;
  readonly #send: SendBatch;
  readonly #out: number;
  /** datagrams that the kernel did not take */
  dropped = 0;

  /** `address` may have port 0, and 0.0.0.0 as a host: then each datagram has to name its source. */
  constructor(desk: Desk, address: Address) {
    this.fd = need(openUdp(address, { pktinfo: true }), 'a UDP socket');
    this.address = { ...address };
    need(localAddress(this.fd, this.address), 'its address');
    this.receive = new RecvBatch(desk.memory, desk.datagrams, BATCH, DATAGRAM_SLOT, true);
    this.#send = new SendBatch(desk.memory, BATCH);
    this.#out = desk.claim(BATCH * MESSAGE_ROOM);
  }

  /** Where the next datagram may be written: MESSAGE_ROOM octets. */
  place(): number {
    if (this.#send.full) this.flush();
    return this.#out + this.#send.count * MESSAGE_ROOM;
  }

  /** Takes what was written at the last `place`; it leaves with the next flush. */
  send(at: number, end: number, to: Address, from?: Address): void {
    this.#send.add(at, end - at, to, from);
  }

  flush(): void {
    const batch = this.#send;
    while (!batch.done) {
      const n = batch.send(this.fd);
      if (n > 0) continue;
      while (errors.next(this.fd) > 0);
      if (n === -EAGAIN || batch.repeats(n)) continue; // loopback: the kernel takes it in a moment
      batch.skip();
      this.dropped++;
    }
    batch.reset();
  }

  /** Datagrams received, at most BATCH; what they are is asked of `receive`. */
  read(): number {
    const n = this.receive.recv(this.fd);
    if (n >= 0) return n;
    if (n !== -EAGAIN) while (errors.next(this.fd) > 0);
    return 0;
  }

  close(): void {
    closeFd(this.fd);
  }
}
