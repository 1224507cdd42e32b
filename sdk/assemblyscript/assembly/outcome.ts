/** How a message ends, by the contract's numbers. */
export enum Fate {
  Done,
  Skip,
  Retry,
  DeadLetter,
}

/** What becomes of a message: made by `done`, `skip`, `retry` and `deadLetter`. */
export class Outcome {
  delayMs: u64 = 0;
  hasDelay: bool = false;
  isOutage: bool = false;

  constructor(
    public readonly fate: Fate,
    public readonly code: string,
    public readonly detail: string,
  ) {}

  /** The retry not before this many milliseconds, instead of the policy's back-off. A dead letter stays as it is. */
  after(delayMs: u64): this {
    this.hasDelay = true;
    this.delayMs = delayMs;
    return this;
  }

  /** The retry at no attempt's cost: its cause lies outside the message, such as a service that is down. */
  outage(): this {
    this.isOutage = true;
    return this;
  }
}

/** Settled. */
export function done(): Outcome {
  return new Outcome(Fate.Done, "", "");
}

/** Settled, and counted apart: filtered out on purpose. */
export function skip(): Outcome {
  return new Outcome(Fate.Skip, "", "");
}

/**
 * Runs the message again by the manifest's retry policy, its key's later messages behind it. A code is short and stable: it becomes
 * a header, a metric's label and a group in lists; what varies goes into the detail.
 */
export function retry(code: string, detail: string = ""): Outcome {
  return new Outcome(Fate.Retry, code, detail);
}

/** Gives the message up to the dead-letter topic: no other run can succeed. The code is as in `retry`. */
export function deadLetter(code: string, detail: string = ""): Outcome {
  return new Outcome(Fate.DeadLetter, code, detail);
}

/**
 * Why the host refused a call: `no-key`, `unknown-output`, `too-large`, `over-quota`, or `other` with the host's words. Why a request has no
 * answer: `http-denied`, `http-invalid`, `http-timeout`, `http-unreachable`, `http-too-large`; or none that is well: `http-STATUS`.
 */
export class HostError {
  constructor(
    public readonly code: string,
    public readonly words: string,
    private readonly own: Outcome | null = null,
  ) {}

  /** What it makes of the message: what is refused alike each time becomes a dead letter, all else is retried. */
  outcome(): Outcome {
    const own = this.own;
    if (own !== null) return own;
    if (this.code == "http-timeout" || this.code == "http-unreachable") return retry(this.code, this.words);
    return this.code == "other" ? retry("error", this.words) : deadLetter(this.code, this.words);
  }
}

const CODES: StaticArray<string> = ["no-key", "unknown-output", "too-large", "over-quota", "other"];
const WORDS: StaticArray<string> = [
  "the message has no order key, and state and timers belong to one",
  "no such output: name it under [output] in the manifest",
  "larger than the host takes in one piece",
  "over the message's quota: see [limits] in the manifest",
];

/** The contract's error of that number; `other` has words of its own. */
export function hostError(number: i32, other: string): HostError {
  return new HostError(CODES[number], number < WORDS.length ? WORDS[number] : other);
}
