/**
 * What the user agent throws and rejects with: one class, told apart by `code`. A response of any status is no error
 * of a request; of a call everything but a 2xx is (`refused`, with the response).
 */
import type { Incoming } from './incoming.ts';

export type UserAgentErrorCode =
  /** an option that cannot be */
  | 'option'
  /** the identity on disk cannot be read */
  | 'identity'
  /** not started, or stopped */
  | 'stopped'
  /** no flow is up and none could be formed */
  | 'no-flow'
  /** the flow broke, or the message could not be sent */
  | 'transport'
  /** no final response in 64 T1 */
  | 'timeout'
  /** the caller's signal */
  | 'aborted'
  /** a final response other than 2xx to an INVITE */
  | 'refused'
  /** the 2xx to an incoming INVITE was never acknowledged */
  | 'no-ack'
  /** used in a state in which it means nothing: a second final response, a request in an ended dialog */
  | 'state'
  /** more transactions at once than there is room for */
  | 'busy';

export class UserAgentError extends Error {
  override readonly name = 'UserAgentError';
  readonly code: UserAgentErrorCode;
  /** with `refused` */
  readonly response: Incoming | undefined;

  constructor(code: UserAgentErrorCode, message: string, response?: Incoming) {
    super(message);
    this.code = code;
    this.response = response;
  }
}
