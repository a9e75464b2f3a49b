/**
 * What the shards ask of main: where a destination is (RFC 3263). The answer goes back by the ring when it is there; one
 * that finds no room is dropped, and the shard gives the question up in its own time.
 */
import { decodeDestination, encodeTargets } from '../net/targets.ts';
import { LOCATE, LOCATED } from '../shard/boot.ts';
import type { Mesh, MessageHandler } from '../shared/mesh.ts';
import type { Locator } from './locator.ts';

const BATCH = 64;
/** The longest rest on the bell. */
const REST_MS = 1_000;

export function mailHandler(mail: Mesh, locator: Pick<Locator, 'locate'>): MessageHandler {
  return (from, type, ring) => {
    if (type !== LOCATE) return;
    const id = ring.word(0);
    const octets = ring.memory.slice(ring.payloadOffset, ring.payloadOffset + ring.payloadLength);
    const destination = decodeDestination(octets);
    if (!destination) return;
    void locator.locate(destination).then((location) => {
      const answer = encodeTargets(location);
      mail.words[0] = id;
      mail.send(from, LOCATED, 1, answer, 0, answer.length);
    });
  };
}

/** Reads the mail where main has no loop of its own (core backend). The returned function ends it. */
export function readMail(mail: Mesh, handler: MessageHandler): () => void {
  let running = true;
  const loop = async (): Promise<void> => {
    while (running) {
      if (mail.receive(handler, BATCH) > 0) {
        await new Promise((resolve) => setImmediate(resolve));
        continue;
      }
      mail.bell.prepareSleep();
      const rung = mail.isQuiet() ? mail.bell.waitAsync(REST_MS) : true;
      if (rung !== true) await rung;
      mail.bell.awake();
    }
  };
  void loop();
  return () => {
    running = false;
  };
}
