/** Datagrams in batches; see recvbatch.ts and sendbatch.ts. */
export { MAX_DATAGRAM, RecvBatch } from './recvbatch.ts';
export { SendBatch } from './sendbatch.ts';
