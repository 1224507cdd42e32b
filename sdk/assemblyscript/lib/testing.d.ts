/**
 * A host in memory, to test a handler in Node.js with any test runner.
 *
 * @packageDocumentation
 */

/** A key, a value or a header's value: bytes, text as UTF-8, or Kafka's null. */
export type Payload = Uint8Array | string | null;

/** What the manifest says, for a test. */
export interface TestOptions {
  /** Names under `[output]`: none unless told. */
  outputs?: readonly string[];
  config?: Readonly<Record<string, string>>;
  /** `["in"]` unless told. */
  topics?: readonly string[];
  /** `[limits]`: 1,000 sends, and 4 MiB of sends and changes of state, for one message. */
  limits?: { outputs?: number; outputBytes?: number };
  /** The time to begin with, which only the test moves: 1,700,000,000,000 ms unless told. */
  nowMs?: number;
}

/** A message to run: the next of partition 0 of the first topic, without key and value, on its first run, unless told. */
export interface Input {
  key?: Payload;
  value?: Payload;
  headers?: Iterable<readonly [name: string, value: Payload]>;
  topic?: string;
  /** It is this timer instead of a record. */
  timer?: string;
  partition?: number;
  offset?: number | bigint;
  timestampMs?: number;
  attempt?: number;
  followsDeadLetter?: boolean;
}

/** What was sent. */
export interface Sent {
  to: string;
  key: Uint8Array | null;
  value: Uint8Array | null;
  headers: [name: string, value: Uint8Array | null][];
  timestampMs: number;
  delayMs: number | null;
}

/** A timer that is set. */
export interface Timer {
  key: Uint8Array;
  name: string;
  atMs: number;
  payload: Uint8Array;
  partition: number;
  offset: number | bigint;
}

/** What became of a message. */
export interface Run {
  /** `"trap"`: the handler ended itself, as by `throw`, and its words are the detail. */
  outcome: "done" | "skip" | "retry" | "dead-letter" | "trap";
  /** `""` where it was settled. */
  code: string;
  detail: string;
  delayMs: number | null;
  outage: boolean;
  /** Nothing, if the message failed. */
  sent: Sent[];
}

/** A request over HTTP that was made. */
export interface Requested {
  /** Its message's `ctx.id`. */
  id: string;
  method: string;
  url: string;
  /** As they went out, with the host's `idempotency-key`. */
  headers: [name: string, value: Uint8Array][];
  body: Uint8Array | null;
  timeoutMs: number | null;
  /** In which call of the host, from 0: requests of one call are made at the same time. */
  call: number;
}

/** An answer, with the status 200 unless told; or an error. */
export type TestAnswer =
  | { status?: number; headers?: Readonly<Record<string, string>>; body?: Uint8Array | string }
  | "denied"
  | "invalid"
  | "timeout"
  | "unreachable"
  | "too-large";

/** A line of the log. */
export interface LogLine {
  level: "trace" | "debug" | "info" | "warn" | "error" | "critical";
  message: string;
  fields: Record<string, string>;
}

/**
 * Keeps state, timers, sends and a clock that only the test moves, holds the limits of state and sends, and undoes what a failed
 * message staged. It repeats nothing by a policy: each call runs what it is given, once. A trap ends the handler's memory, as in the
 * real host: the next message finds a new instance.
 */
export class TestHost {
  /** Builds a handler's source, or takes a module that is built. */
  static load(handler: string | Uint8Array, options?: TestOptions): Promise<TestHost>;
  private constructor();
  /** All lines of the log, at every level. */
  readonly logged: LogLine[];
  nowMs: number;
  /** What `deadlineMs` says is this long after `nowMs`. */
  timeoutMs: number;
  /** Opens the handler: null, or why it refuses. To run a message does it if need be. */
  open(): string | null;
  /** Runs a message. */
  run(input?: Input): Run;
  /** Runs messages in one call, of which no two have the same key. A trap is the outcome of all of them. */
  runBatch(inputs: readonly Input[]): Run[];
  /** Answers requests of this method to this URL, written as the handler sends them. One without an answer is denied. */
  answer(method: string, url: string, answer: TestAnswer): void;
  /** Answers all requests that `answer` names no answer for. */
  answerWith(server: (request: Requested) => TestAnswer): void;
  /** The requests that were made, in order, of failed messages too. */
  readonly requests: readonly Requested[];
  /** Runs the timers that are due by the clock, the earliest first. */
  runTimers(): Run[];
  /** What a key keeps under a name, or null. */
  state(key: Uint8Array | string, name: string): Uint8Array | null;
  /** Writes state as an earlier message would have. */
  setState(key: Uint8Array | string, name: string, value: Uint8Array | string): void;
  /** A key's timer, or null. */
  timer(key: Uint8Array | string, name: string): Timer | null;
  /** All that was observed under a metric's name, whatever its labels. */
  observed(metric: string): number[];
  /** Bytes of the handler's memory. */
  readonly memoryBytes: number;
}

/** UTF-8 as text; null stays null. */
export function text(bytes: Uint8Array): string;
export function text(bytes: Uint8Array | null): string | null;
