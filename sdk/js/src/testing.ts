/**
 * A host in memory, to test a handler on one's own machine with any test runner.
 *
 * @packageDocumentation
 */
import type { Payload } from "./context.js";
import { Guest, type Handler } from "./handler.js";
import type { Host, Level, WireMessage, WireOutcome } from "./host.js";
import { bytes } from "./text.js";
import { Memory, type Sent, type Timer } from "./memory.js";
import type { Requested, TestAnswer } from "./outside.js";

export type { Sent, Timer } from "./memory.js";
export type { Requested, TestAnswer } from "./outside.js";

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
  offset?: number;
  timestampMs?: number;
  attempt?: number;
  followsDeadLetter?: boolean;
}

/** What became of a message. */
export interface Run {
  outcome: "done" | "skip" | "retry" | "dead-letter";
  /** `""` where it was settled. */
  code: string;
  detail: string;
  delayMs: number | null;
  outage: boolean;
  /** What the handler threw. */
  error: unknown;
  /** Nothing, if the message failed. */
  sent: Sent[];
}

/** A line of the log. */
export interface LogLine {
  level: Level;
  message: string;
  fields: Record<string, string>;
}

const bytesOf = (payload: Payload): Uint8Array | null => (typeof payload === "string" ? bytes(payload) : payload);
const own = new URL(".", import.meta.url).href;

/**
 * Keeps state, timers, sends and a clock that only the test moves, holds the limits of state and sends, and undoes what a failed
 * message staged. It repeats nothing by a policy: each call runs what it is given, once.
 */
export class TestHost {
  /** All lines of the log, at every level. */
  readonly logged: LogLine[] = [];
  /** What `deadlineMs` says is this long after `nowMs`. */
  timeoutMs = 5000;
  readonly #guest: Guest;
  readonly #memory: Memory;
  readonly #topics: readonly string[];
  readonly #config: [string, string][];
  readonly #outputs: string[];
  readonly #metrics: { name: string; values: number[] }[] = [];
  #offset = 0;
  #opened = false;

  constructor(handler: Handler, options: TestOptions = {}) {
    this.#topics = options.topics ?? ["in"];
    this.#config = Object.entries(options.config ?? {});
    this.#outputs = [...(options.outputs ?? [])];
    const { outputs = 1000, outputBytes = 4 << 20 } = options.limits ?? {};
    this.#memory = new Memory(options.nowMs ?? 1_700_000_000_000, this.#outputs, outputs, outputBytes);
    const locate = (file: string, line: number): string | null =>
      file.startsWith(own) || file.startsWith("node:") || file === "native" ? null : `${file.split("/").pop()}:${line}`;
    this.#guest = new Guest(handler, this.#host(), locate);
  }

  get nowMs(): number {
    return this.#memory.nowMs;
  }

  set nowMs(nowMs: number) {
    this.#memory.nowMs = nowMs;
  }

  /** Answers HTTP requests of this method to this URL, written as the handler sends them. */
  answer(method: string, url: string, answer: TestAnswer): void {
    this.#memory.outside.answer(method, url, answer);
  }

  /** Answers all HTTP requests that `answer` names no answer for. */
  answerWith(server: (request: Requested) => TestAnswer): void {
    this.#memory.outside.server = server;
  }

  /** The HTTP requests that were made, in order, of failed messages too. */
  get requests(): readonly Requested[] {
    return this.#memory.outside.requests;
  }

  /** Opens the handler: null, or why it refuses. To run a message does it if need be. */
  open(): string | null {
    const refused = this.#guest.open({
      handler: "test",
      topics: [...this.#topics],
      outputs: this.#outputs,
      config: this.#config,
      maxBatch: 1,
    });
    this.#opened = refused === null;
    return refused;
  }

  /** Runs a message. */
  run(input: Input = {}): Run {
    if (!this.#opened) {
      const refused = this.open();
      if (refused !== null) throw new Error(`the handler refuses to open: ${refused}`);
    }
    const message = this.#message(input);
    const topic = input.topic ?? this.#topics[0];
    const id = `${input.timer === undefined ? topic : `timer ${input.timer}`}/${message.partition}/${message.offset}`;
    const headers = Array.from(input.headers ?? [], ([name, value]) => ({ name, value: bytesOf(value) }));
    this.#memory.begin(id, message, headers, input.followsDeadLetter ?? false);
    const [outcome] = this.#guest.process([message]) as [WireOutcome];
    const settled = outcome.tag === "done" || outcome.tag === "skip";
    return { ...runOf(outcome), error: this.#guest.thrown, sent: this.#memory.end(settled) };
  }

  /** Runs the timers that are due by the clock, the earliest first. */
  runTimers(): Run[] {
    return this.#memory.takeDue().map((timer) => {
      const { key, name, atMs, payload, partition, offset } = timer;
      return this.run({ key, timer: name, value: payload, timestampMs: atMs, partition, offset });
    });
  }

  /** What a key keeps under a name, or null. */
  state(key: Uint8Array | string, name: string): Uint8Array | null {
    return this.#memory.stored(bytesOf(key) as Uint8Array, name);
  }

  /** Writes state as an earlier message would have. */
  setState(key: Uint8Array | string, name: string, value: Uint8Array | string): void {
    this.#memory.store(bytesOf(key) as Uint8Array, name, bytesOf(value) as Uint8Array);
  }

  /** A key's timer, or null. */
  timer(key: Uint8Array | string, name: string): Timer | null {
    return this.#memory.timer(bytesOf(key) as Uint8Array, name);
  }

  /** All that was observed under a metric's name, whatever its labels. */
  observed(metric: string): number[] {
    return this.#metrics.filter((known) => known.name === metric).flatMap((known) => known.values);
  }

  #message(input: Input): WireMessage {
    const index = this.#topics.indexOf(input.topic ?? (this.#topics[0] as string));
    if (index < 0) throw new Error(`the test has no topic ${input.topic}`);
    const offset = input.offset ?? this.#offset;
    if (input.timer === undefined) this.#offset = offset + 1;
    return {
      source: input.timer === undefined ? { tag: "topic", val: index } : { tag: "timer", val: input.timer },
      partition: input.partition ?? 0,
      offset,
      timestampMs: input.timestampMs ?? this.nowMs,
      key: bytesOf(input.key ?? null),
      value: bytesOf(input.value ?? null),
      attempt: input.attempt ?? 1,
    };
  }

  #host(): Host {
    return {
      ...this.#memory.imports(() => this.nowMs + this.timeoutMs),
      log: {
        threshold: () => "trace",
        write: (level, message, fields) => this.logged.push({ level, message, fields: Object.fromEntries(fields) }),
      },
      metrics: {
        register: (name) => this.#metrics.push({ name, values: [] }) - 1,
        observe: (metric, value) => this.#metrics[metric]?.values.push(value),
      },
    };
  }
}

function runOf(outcome: WireOutcome): Pick<Run, "outcome" | "code" | "detail" | "delayMs" | "outage"> {
  const settled = { outcome: outcome.tag, code: "", detail: "", delayMs: null, outage: false };
  if (outcome.tag === "dead-letter") return { ...settled, ...outcome.val };
  if (outcome.tag !== "retry") return settled;
  const { failure, delayMs, outage } = outcome.val;
  return { ...settled, ...failure, delayMs, outage };
}
