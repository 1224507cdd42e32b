import type { WireError } from "./host.js";
import { whole } from "./whole.js";

/** How a retry differs from the manifest's policy. */
export interface RetryOptions extends ErrorOptions {
  /** Not before this many milliseconds, instead of the policy's back-off. */
  afterMs?: number;
  /** The cause lies outside the message, such as a service that is down: the retry costs no attempt. */
  outage?: boolean;
}

/**
 * Thrown to run the message again by the manifest's retry policy, its key's later messages behind it.
 *
 * A code is short and stable (`"rate-limited"`): it becomes a header, a metric's label and a group in lists. What varies goes
 * into the detail.
 */
export class Retry extends Error {
  override readonly name = "Retry";
  readonly code: string;
  readonly afterMs: number | null;
  readonly outage: boolean;

  constructor(code: string, detail = "", options: RetryOptions = {}) {
    super(detail, options);
    this.code = code;
    this.afterMs = options.afterMs === undefined ? null : whole(options.afterMs, "afterMs", 0);
    this.outage = options.outage ?? false;
  }
}

/** Thrown to give the message up to the dead-letter topic: no other run can succeed. The code is as in {@link Retry}. */
export class DeadLetter extends Error {
  override readonly name = "DeadLetter";
  readonly code: string;

  constructor(code: string, detail = "", options?: ErrorOptions) {
    super(detail, options);
    this.code = code;
  }
}

/**
 * Why the host refused a call.
 *
 * - `no-key`: state or timers were used for a message without an order key.
 * - `unknown-output`: the manifest's `[output]` has no such name.
 * - `too-large`: a name, a key, a value or a page of a scan.
 * - `over-quota`: what the message sends and changes passes the manifest's `[limits]`.
 * - `other`: anything else, in the host's words.
 */
export type HostErrorCode = WireError["tag"];

/**
 * The host refused a call that stages or reads. Not caught, it dead-letters the message under its code, for another run would be
 * refused alike; with the code `other` the message is retried under the code `error`.
 */
export class HostError extends Error {
  override readonly name = "HostError";
  readonly code: HostErrorCode;

  constructor(error: WireError) {
    super(error.tag === "other" ? error.val : WORDS[error.tag]);
    this.code = error.tag;
  }
}

const WORDS = {
  "no-key": "the message has no order key, and state and timers belong to one",
  "unknown-output": "no such output: name it under [output] in the manifest",
  "too-large": "larger than the host takes in one piece",
  "over-quota": "over the message's quota: see [limits] in the manifest",
};

/** Runs a call of the contract, whose errors arrive as the `payload` of what is thrown. */
export function call<T>(run: () => T): T {
  try {
    return run();
  } catch (thrown) {
    const payload = (thrown as { payload?: WireError } | null)?.payload;
    throw payload === undefined ? thrown : new HostError(payload);
  }
}
