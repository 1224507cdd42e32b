import type { Host, WireError, WireHeader, WireMessage, WireOutput } from "./host.js";
import { Outside } from "./outside.js";
import { bytes } from "./text.js";

// What the real host takes, and what it counts beside the bytes of names, keys and values.
const MAX_NAME = 1 << 10;
const MAX_KEY = 32 << 10;
const MAX_VALUE = 512 << 10;
const MAX_SCAN = 1000;
const MAX_SCAN_BYTES = 4 << 20;
const MAX_DELAY_MS = 366 * 24 * 3_600_000;
const HEADER_BYTES = 16;
const CHANGE_BYTES = 67;
/** They go along with each record that is sent. */
const ALWAYS_FORWARDED = ["traceparent", "tracestate"];

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
  offset: number;
}

interface Stored {
  value: Uint8Array;
  untilMs: number;
}

/** By name, for each key. */
type Kept<T> = Map<string, Map<string, T>>;

/** The message that runs, with a copy of what it may change. */
interface Running {
  id: string;
  message: WireMessage;
  headers: WireHeader[];
  followsDeadLetter: boolean;
  sent: Sent[];
  stagedBytes: number;
  state: Map<string, Stored>;
  timers: Map<string, Timer>;
  /** Requests that may change something. */
  changing: number;
}

/** State, timers and sends, with what the message that runs has staged. */
export class Memory {
  nowMs: number;
  readonly outside = new Outside();
  readonly #outputs: readonly string[];
  readonly #maxOutputs: number;
  readonly #maxBytes: number;
  readonly #state: Kept<Stored> = new Map();
  readonly #timers: Kept<Timer> = new Map();
  #running: Running | null = null;

  constructor(nowMs: number, outputs: readonly string[], maxOutputs: number, maxBytes: number) {
    this.nowMs = nowMs;
    this.#outputs = outputs;
    this.#maxOutputs = maxOutputs;
    this.#maxBytes = maxBytes;
  }

  begin(id: string, message: WireMessage, headers: WireHeader[], followsDeadLetter: boolean): void {
    const owner = message.key === null ? "" : hex(message.key);
    const state = new Map(this.#state.get(owner));
    const timers = new Map(this.#timers.get(owner));
    this.#running = { id, message, headers, followsDeadLetter, sent: [], stagedBytes: 0, state, timers, changing: 0 };
  }

  /** Lets what was staged stand, or drops it. */
  end(settled: boolean): Sent[] {
    const { message, sent, state, timers } = this.#now();
    this.#running = null;
    if (!settled) return [];
    if (message.key !== null) {
      this.#state.set(hex(message.key), state);
      this.#timers.set(hex(message.key), timers);
    }
    return sent;
  }

  takeDue(): Timer[] {
    const due: Timer[] = [];
    for (const timers of this.#timers.values()) {
      for (const [name, timer] of timers) {
        if (timer.atMs <= this.nowMs) {
          due.push(timer);
          timers.delete(name);
        }
      }
    }
    return due.sort((a, b) => a.atMs - b.atMs);
  }

  stored(key: Uint8Array, name: string): Uint8Array | null {
    return this.#alive(this.#state.get(hex(key))?.get(name));
  }

  store(key: Uint8Array, name: string, value: Uint8Array): void {
    const owner = hex(key);
    this.#state.set(owner, new Map(this.#state.get(owner)).set(name, { value, untilMs: Infinity }));
  }

  timer(key: Uint8Array, name: string): Timer | null {
    return this.#timers.get(hex(key))?.get(name) ?? null;
  }

  imports(deadlineMs: () => number): Pick<Host, "context" | "emit" | "http" | "state" | "timers"> {
    return {
      context: {
        id: () => this.#now().id,
        headers: () => this.#now().headers.map(({ name, value }) => ({ name, value: copy(value) })),
        headerValue: (_, name) => copy(this.#now().headers.findLast((header) => header.name === name)?.value ?? null),
        followsDeadLetter: () => this.#now().followsDeadLetter,
        nowMs: () => this.nowMs,
        deadlineMs,
      },
      emit: { send: (_, output) => this.#send(output) },
      http: { fetchAll: (requests) => requests.map((request) => this.outside.fetch(this.#now(), request)) },
      state: {
        get: (_, name) => {
          this.#owner(name);
          return this.#alive(this.#now().state.get(name));
        },
        put: (_, name, value, ttlMs) => this.#change(name, { value: value.slice(), untilMs: this.nowMs + (ttlMs ?? Infinity) }),
        delete: (_, name) => this.#change(name, null),
        scan: (_, prefix, after, limit) => this.#scan(prefix, after, limit),
      },
      timers: {
        set: (_, name, atMs, payload) => {
          const { message, timers } = this.#now();
          const key = this.#owner(name);
          if (payload.length > MAX_VALUE) throw refused({ tag: "too-large" });
          const { partition, offset } = message;
          timers.set(name, { key, name, atMs, payload: payload.slice(), partition, offset });
        },
        cancel: (_, name) => {
          this.#owner(name);
          this.#now().timers.delete(name);
        },
      },
    };
  }

  #now(): Running {
    if (this.#running === null) throw new Error("no message is being run: a context does not outlive its message");
    return this.#running;
  }

  /** The key that state and timers are kept by. */
  #owner(name: string): Uint8Array {
    const { key } = this.#now().message;
    if (key === null) throw refused({ tag: "no-key" });
    if (key.length > MAX_KEY || bytes(name).length > MAX_NAME) throw refused({ tag: "too-large" });
    return key;
  }

  #change(name: string, change: Stored | null): void {
    const running = this.#now();
    const key = this.#owner(name);
    const value = change?.value.length ?? 0;
    this.#stage(bytes(name).length + value + key.length + CHANGE_BYTES);
    if (value > MAX_VALUE) throw refused({ tag: "too-large" });
    if (change === null) running.state.delete(name);
    else running.state.set(name, change);
  }

  #stage(size: number): void {
    const running = this.#now();
    if (running.stagedBytes + size > this.#maxBytes) throw refused({ tag: "over-quota" });
    running.stagedBytes += size;
  }

  #send(output: WireOutput): void {
    const { message, headers, sent } = this.#now();
    const { to, key, value, timestampMs, delayMs } = output;
    if (!this.#outputs.includes(to)) throw refused({ tag: "unknown-output" });
    if (delayMs !== null && delayMs > MAX_DELAY_MS) {
      throw refused({ tag: "other", val: `${MAX_DELAY_MS} ms are the most, that is 366 days` });
    }
    if (sent.length >= this.#maxOutputs) throw refused({ tag: "over-quota" });
    const size = (of: Uint8Array | null): number => of?.length ?? 0;
    const headerSize = output.headers.reduce((sum, { name, value }) => sum + HEADER_BYTES + bytes(name).length + size(value), 0);
    this.#stage(size(key) + size(value) + headerSize);
    const forwarded = headers.filter(({ name }) => output.forwardHeaders || ALWAYS_FORWARDED.includes(name));
    sent.push({
      to,
      key: copy(key),
      value: copy(value),
      headers: [...forwarded, ...output.headers].map(({ name, value }) => [name, copy(value)]),
      timestampMs: timestampMs ?? message.timestampMs,
      delayMs,
    });
  }

  #scan(prefix: string, after: string | null, limit: number): [string, Uint8Array][] {
    this.#owner(prefix);
    this.#owner(after ?? "");
    if (limit > MAX_SCAN) throw refused({ tag: "too-large" });
    const found: [string, Uint8Array][] = [];
    for (const [name, stored] of this.#now().state) {
      const value = this.#alive(stored);
      const wanted = name.startsWith(prefix) && (after === null || byBytes(name, after) > 0);
      if (value !== null && wanted) found.push([name, value]);
    }
    const page = found.sort(([a], [b]) => byBytes(a, b)).slice(0, limit);
    const size = page.reduce((sum, [name, value]) => sum + bytes(name).length + value.length, 0);
    if (size > MAX_SCAN_BYTES) throw refused({ tag: "too-large" });
    return page;
  }

  #alive(stored: Stored | undefined): Uint8Array | null {
    return stored === undefined || stored.untilMs <= this.nowMs ? null : stored.value.slice();
  }
}

/** As the engine throws an error of the contract. */
function refused(payload: WireError): Error {
  return Object.assign(new Error(payload.tag), { payload });
}

function copy(value: Uint8Array | null): Uint8Array | null {
  return value?.slice() ?? null;
}

function hex(key: Uint8Array): string {
  return Buffer.from(key).toString("hex");
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(bytes(a), bytes(b));
}
