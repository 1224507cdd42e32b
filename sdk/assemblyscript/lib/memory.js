// State, timers and sends, with what the message that runs has staged.

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

const NO_KEY = { tag: 0 };
const UNKNOWN_OUTPUT = { tag: 1 };
const TOO_LARGE = { tag: 2 };
const OVER_QUOTA = { tag: 3 };

/** Thrown where the contract has an error: its number, and words where it is `other`. */
export class Refusal extends Error {
  constructor({ tag, words = "" }) {
    super(words);
    this.tag = tag;
  }
}

const hex = (key) => Buffer.from(key).toString("hex");
const sizeOf = (text) => Buffer.byteLength(text);
const byBytes = ([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b));

export class Memory {
  #state = new Map();
  #timers = new Map();
  /** By slot. */
  #running = [];

  constructor({ nowMs = 1_700_000_000_000, outputs = [], limits = {} }) {
    this.nowMs = nowMs;
    this.outputs = outputs;
    this.maxOutputs = limits.outputs ?? 1000;
    this.maxBytes = limits.outputBytes ?? 4 << 20;
  }

  /** Begins the messages of a call, with a copy of what each may change. */
  begin(messages) {
    this.#running = messages.map((message) => {
      const owner = message.key === null ? "" : hex(message.key);
      const [state, timers] = [new Map(this.#state.get(owner)), new Map(this.#timers.get(owner))];
      return { ...message, owner, state, timers, sent: [], stagedBytes: 0, changing: 0 };
    });
  }

  /** Ends the first message that has not ended: what it staged stands, or is dropped. */
  end(settled) {
    const { key, owner, state, timers, sent } = this.#running.shift();
    if (!settled) return [];
    if (key !== null) {
      this.#state.set(owner, state);
      this.#timers.set(owner, timers);
    }
    return sent;
  }

  takeDue() {
    const due = [];
    for (const timers of this.#timers.values()) {
      for (const [name, timer] of timers) {
        if (timer.atMs <= this.nowMs && timers.delete(name)) due.push(timer);
      }
    }
    return due.sort((a, b) => a.atMs - b.atMs);
  }

  stored(key, name) {
    return this.#alive(this.#state.get(hex(key))?.get(name));
  }

  store(key, name, value) {
    this.#state.set(hex(key), new Map(this.#state.get(hex(key))).set(name, { value, untilMs: Infinity }));
  }

  timer(key, name) {
    return this.#timers.get(hex(key))?.get(name) ?? null;
  }

  running(slot) {
    if (this.#running[slot] === undefined) throw new Error("no message is being run: a context does not outlive its message");
    return this.#running[slot];
  }

  send(slot, { to, key, value, headers, forwardHeaders, timestampMs, delayMs }) {
    const running = this.running(slot);
    if (!this.outputs.includes(to)) throw new Refusal(UNKNOWN_OUTPUT);
    if (delayMs > MAX_DELAY_MS) throw new Refusal({ tag: 4, words: `${MAX_DELAY_MS} ms are the most, that is 366 days` });
    if (running.sent.length >= this.maxOutputs) throw new Refusal(OVER_QUOTA);
    const own = headers.reduce((sum, [name, value]) => sum + HEADER_BYTES + sizeOf(name) + (value?.length ?? 0), 0);
    this.#stage(running, own + (key?.length ?? 0) + (value?.length ?? 0));
    const forwarded = running.headers.filter(([name]) => forwardHeaders || ALWAYS_FORWARDED.includes(name));
    const all = [...forwarded, ...headers];
    running.sent.push({ to, key, value, headers: all, timestampMs: timestampMs ?? running.timestampMs, delayMs });
  }

  get(slot, name) {
    const { state } = this.#owner(slot, name);
    return this.#alive(state.get(name));
  }

  put(slot, name, value, ttlMs) {
    this.#change(slot, name, value.length).set(name, { value, untilMs: this.nowMs + (ttlMs ?? Infinity) });
  }

  delete(slot, name) {
    this.#change(slot, name, 0).delete(name);
  }

  scan(slot, prefix, after, limit) {
    this.#owner(slot, after ?? "");
    const { state } = this.#owner(slot, prefix);
    if (limit > MAX_SCAN) throw new Refusal(TOO_LARGE);
    const all = [...state].map(([name, stored]) => [name, this.#alive(stored)]);
    const wanted = ([name, value]) => value !== null && name.startsWith(prefix) && (after === null || byBytes([name], [after]) > 0);
    const page = all.filter(wanted).sort(byBytes).slice(0, limit);
    if (page.reduce((sum, [name, value]) => sum + sizeOf(name) + value.length, 0) > MAX_SCAN_BYTES) throw new Refusal(TOO_LARGE);
    return page;
  }

  setTimer(slot, name, atMs, payload) {
    const { key, partition, offset, timers } = this.#owner(slot, name);
    if (payload.length > MAX_VALUE) throw new Refusal(TOO_LARGE);
    timers.set(name, { key, name, atMs, payload, partition, offset });
  }

  cancelTimer(slot, name) {
    this.#owner(slot, name).timers.delete(name);
  }

  /** The message, if it has a key that state and timers can be kept by, and the name is fit. */
  #owner(slot, name) {
    const running = this.running(slot);
    const { key } = running;
    if (key === null) throw new Refusal(NO_KEY);
    if (key.length > MAX_KEY || sizeOf(name) > MAX_NAME) throw new Refusal(TOO_LARGE);
    return running;
  }

  /** The state that a change of so many bytes may be made to. */
  #change(slot, name, valueBytes) {
    const running = this.#owner(slot, name);
    this.#stage(running, sizeOf(name) + valueBytes + running.key.length + CHANGE_BYTES);
    if (valueBytes > MAX_VALUE) throw new Refusal(TOO_LARGE);
    return running.state;
  }

  #stage(running, bytes) {
    if (running.stagedBytes + bytes > this.maxBytes) throw new Refusal(OVER_QUOTA);
    running.stagedBytes += bytes;
  }

  #alive(stored) {
    return stored === undefined || stored.untilMs <= this.nowMs ? null : stored.value.slice();
  }
}
