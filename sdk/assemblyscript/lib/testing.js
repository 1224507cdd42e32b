import { Abi } from "./abi.js";
import { build } from "./build.js";
import { Memory, Refusal } from "./memory.js";
import { Outside } from "./outside.js";
import { Sequence } from "./random.js";

const LEVELS = ["trace", "debug", "info", "warn", "error", "critical"];
const OUTCOMES = ["done", "skip", "retry", "dead-letter"];
const GUEST = "keyrail:handler/guest@0.1.0";
const MESSAGE_BYTES = 64;
const OUTCOME_BYTES = 48;
const REQUEST_BYTES = 56;
const ANSWER_BYTES = 24;
const LARGEST = 2n ** 53n - 1n;

const bytesOf = (payload) => (typeof payload === "string" ? new TextEncoder().encode(payload) : payload);

export function text(bytes) {
  return bytes === null ? null : new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

/** A time or span as a number, which is exact in any test that means it. */
function ms(value) {
  return Number(value > LARGEST ? LARGEST : value);
}

export class TestHost {
  logged = [];
  timeoutMs = 5000;
  #module;
  #abi = new Abi();
  #memory;
  #outside = new Outside();
  #options;
  #metrics = [];
  #offset = 0n;
  #opened = false;

  constructor(module, options) {
    this.#module = module;
    this.#options = { topics: ["in"], config: {}, outputs: [], ...options };
    this.#memory = new Memory(this.#options);
  }

  static async load(handler, options = {}) {
    const bytes = typeof handler === "string" ? await build(handler) : handler;
    return new TestHost(await WebAssembly.compile(bytes), options);
  }

  get nowMs() {
    return this.#memory.nowMs;
  }

  set nowMs(nowMs) {
    this.#memory.nowMs = nowMs;
  }

  answer(method, url, answer) {
    this.#outside.answer(method, url, answer);
  }

  answerWith(server) {
    this.#outside.server = server;
  }

  get requests() {
    return this.#outside.requests;
  }

  get memoryBytes() {
    return this.#abi.exports?.memory.buffer.byteLength ?? 0;
  }

  open() {
    const abi = this.#abi;
    abi.exports = new WebAssembly.Instance(this.#module, this.#imports()).exports;
    const { topics, outputs, config } = this.#options;
    const lists = abi.allocate(32);
    abi.put(lists, "test");
    abi.putList(lists + 8, topics, 8, (at, topic) => abi.put(at, topic));
    abi.putList(lists + 16, outputs, 8, (at, output) => abi.put(at, output));
    abi.putList(lists + 24, Object.entries(config), 16, (at, [name, value]) => {
      abi.put(at, name);
      abi.put(at + 8, value);
    });
    const flat = Array.from({ length: 8 }, (_, index) => abi.word(lists + index * 4));
    const answer = abi.exports[`${GUEST}#open`](...flat, 1);
    const refused = abi.byte(answer) === 0 ? null : abi.textAt(answer + 4);
    abi.exports[`cabi_post_${GUEST}#open`](answer);
    this.#opened = refused === null;
    return refused;
  }

  run(input = {}) {
    return this.runBatch([input])[0];
  }

  runBatch(inputs) {
    if (!this.#opened) {
      const refused = this.open();
      if (refused !== null) throw new Error(`the handler refuses to open: ${refused}`);
    }
    const messages = inputs.map((input) => this.#message(input));
    const keys = messages.flatMap(({ key }) => (key === null ? [] : [Buffer.from(key).toString("hex")]));
    if (new Set(keys).size < keys.length) throw new Error("a batch of the test's has one message of a key at most");
    this.#memory.begin(messages);
    return this.#runs(messages).map((run) => {
      const settled = run.outcome === "done" || run.outcome === "skip";
      return { ...run, sent: this.#memory.end(settled) };
    });
  }

  /** What becomes of the messages; a trap is that of all of them. */
  #runs(messages) {
    try {
      return this.#process(messages);
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError) && !(error instanceof RangeError)) throw error;
      // What it wrote last tells more, if it is the words of an abort.
      const last = this.logged.findLast(({ level }) => level === "error")?.message ?? "";
      const detail = last.startsWith("panic: ") ? `${last}; ${error.message}` : error.message;
      this.#opened = false;
      return messages.map(() => ({ outcome: "trap", code: "", detail, delayMs: null, outage: false }));
    }
  }

  runTimers() {
    return this.#memory.takeDue().map((timer) => {
      const { key, name, atMs, payload, partition, offset } = timer;
      return this.run({ key, timer: name, value: payload, timestampMs: atMs, partition, offset });
    });
  }

  state(key, name) {
    return this.#memory.stored(bytesOf(key), name);
  }

  setState(key, name, value) {
    this.#memory.store(bytesOf(key), name, bytesOf(value));
  }

  timer(key, name) {
    return this.#memory.timer(bytesOf(key), name);
  }

  observed(metric) {
    return this.#metrics.filter(({ name }) => name === metric).flatMap(({ values }) => values);
  }

  #message({ key = null, value = null, headers = [], timer, attempt = 1, partition = 0, followsDeadLetter = false, ...rest }) {
    const topics = this.#options.topics;
    const topic = topics.indexOf(rest.topic ?? topics[0]);
    if (topic < 0) throw new Error(`the test has no topic ${rest.topic}`);
    const offset = BigInt(rest.offset ?? this.#offset);
    if (timer === undefined) this.#offset = offset + 1n;
    const id = `${timer === undefined ? topics[topic] : `timer ${timer}`}/${partition}/${offset}`;
    return {
      id,
      topic,
      timer,
      partition,
      offset,
      timestampMs: rest.timestampMs ?? this.nowMs,
      key: bytesOf(key),
      value: bytesOf(value),
      headers: Array.from(headers, ([name, value]) => [name, bytesOf(value)]),
      attempt,
      followsDeadLetter,
      chance: new Sequence(id, attempt),
    };
  }

  #process(messages) {
    const abi = this.#abi;
    const batch = abi.allocate(messages.length * MESSAGE_BYTES);
    messages.forEach((message, slot) => this.#put(batch + slot * MESSAGE_BYTES, message));
    const answer = abi.exports[`${GUEST}#process`](batch, messages.length);
    const count = abi.word(answer + 4);
    if (count !== messages.length) throw new Error(`${count} outcomes for ${messages.length} messages`);
    const runs = abi.list(abi.word(answer), count, OUTCOME_BYTES, (at) => this.#outcome(at));
    abi.exports[`cabi_post_${GUEST}#process`](answer);
    return runs;
  }

  #put(at, message) {
    const abi = this.#abi;
    abi.setByte(at, message.timer === undefined ? 0 : 1);
    if (message.timer === undefined) abi.setWord(at + 4, message.topic);
    else abi.put(at + 4, message.timer);
    abi.setWord(at + 12, message.partition);
    abi.setLong(at + 16, message.offset);
    abi.setLong(at + 24, message.timestampMs);
    abi.putOption(at + 32, message.key);
    abi.putOption(at + 44, message.value);
    abi.setWord(at + 56, message.attempt);
  }

  #outcome(at) {
    const abi = this.#abi;
    const outcome = OUTCOMES[abi.byte(at)];
    const run = { outcome, code: "", detail: "", delayMs: null, outage: false };
    if (outcome === "done" || outcome === "skip") return run;
    Object.assign(run, { code: abi.textAt(at + 8), detail: abi.textAt(at + 16) });
    if (outcome === "dead-letter") return run;
    return { ...run, delayMs: abi.byte(at + 24) === 0 ? null : ms(abi.long(at + 32)), outage: abi.byte(at + 40) !== 0 };
  }

  /** Runs a call whose answer is a result; `write` puts a value that it has. */
  #result(out, call, write = () => {}) {
    const abi = this.#abi;
    try {
      const value = call();
      abi.setByte(out, 0);
      write(value);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      abi.setByte(out, 1);
      abi.setByte(out + 4, error.tag);
      abi.put(out + 8, error.message);
    }
  }

  #request(at) {
    const abi = this.#abi;
    return {
      method: abi.textAt(at + 4),
      url: abi.textAt(at + 12),
      headers: abi.list(abi.word(at + 20), abi.word(at + 24), 16, (at) => [abi.textAt(at), abi.bytes(abi.word(at + 8), abi.word(at + 12))]),
      body: abi.option(abi.byte(at + 28), abi.word(at + 32), abi.word(at + 36)),
      timeoutMs: abi.byte(at + 40) === 0 ? null : ms(BigInt.asUintN(64, abi.long(at + 48))),
    };
  }

  #putAnswer(at, { error, words, status, headers, body }) {
    const abi = this.#abi;
    abi.setByte(at, error === undefined ? 0 : 1);
    if (error !== undefined) {
      abi.setByte(at + 4, error);
      abi.put(at + 8, words);
      return;
    }
    abi.setShort(at + 4, status);
    abi.putList(at + 8, headers, 16, (at, [name, value]) => {
      abi.put(at, name);
      abi.put(at + 8, value);
    });
    abi.put(at + 16, body);
  }

  #imports() {
    const [abi, memory] = [this.#abi, this.#memory];
    const name = (at, size) => abi.text(at, size);
    const putHeader = (at, [name, value]) => {
      abi.put(at, name);
      abi.putOption(at + 8, value);
    };
    const readHeader = (at) => [abi.textAt(at), abi.option(abi.byte(at + 8), abi.word(at + 12), abi.word(at + 16))];
    const readPair = (at) => [abi.textAt(at), abi.textAt(at + 8)];
    return {
      "keyrail:handler/context@0.1.0": {
        id: (slot, out) => abi.put(out, memory.running(slot).id),
        headers: (slot, out) => abi.putList(out, memory.running(slot).headers, 20, putHeader),
        "header-value": (slot, at, size, out) => {
          const asked = name(at, size);
          abi.putOption(out, memory.running(slot).headers.findLast(([name]) => name === asked)?.[1] ?? null);
        },
        "follows-dead-letter": (slot) => (memory.running(slot).followsDeadLetter ? 1 : 0),
        "now-ms": () => BigInt(this.nowMs),
        random: (slot) => BigInt.asIntN(64, memory.running(slot).chance.next()),
        "deadline-ms": () => BigInt(this.nowMs + this.timeoutMs),
      },
      "keyrail:handler/emit@0.1.0": {
        send: (slot, to, toSize, hasKey, key, keySize, hasValue, value, valueSize, headers, count, forward, hasTime, time, hasDelay, delay, out) =>
          this.#result(out, () =>
            memory.send(slot, {
              to: name(to, toSize),
              key: abi.option(hasKey, key, keySize),
              value: abi.option(hasValue, value, valueSize),
              headers: abi.list(headers, count, 20, readHeader),
              forwardHeaders: forward !== 0,
              timestampMs: hasTime === 0 ? null : ms(time),
              delayMs: hasDelay === 0 ? null : ms(BigInt.asUintN(64, delay)),
            }),
          ),
      },
      "keyrail:handler/state@0.1.0": {
        get: (slot, at, size, out) => this.#result(out, () => memory.get(slot, name(at, size)), (value) => abi.putOption(out + 4, value)),
        put: (slot, at, size, value, valueSize, hasTtl, ttl, out) =>
          this.#result(out, () => {
            const ttlMs = hasTtl === 0 ? null : ms(BigInt.asUintN(64, ttl));
            memory.put(slot, name(at, size), abi.bytes(value, valueSize), ttlMs);
          }),
        delete: (slot, at, size, out) => this.#result(out, () => memory.delete(slot, name(at, size))),
        scan: (slot, at, size, hasAfter, after, afterSize, limit, out) =>
          this.#result(
            out,
            () => memory.scan(slot, name(at, size), hasAfter === 0 ? null : name(after, afterSize), limit >>> 0),
            (page) =>
              abi.putList(out + 4, page, 16, (at, [name, value]) => {
                abi.put(at, name);
                abi.put(at + 8, value);
              }),
          ),
      },
      "keyrail:handler/timers@0.1.0": {
        set: (slot, at, size, atMs, payload, payloadSize, out) =>
          this.#result(out, () => memory.setTimer(slot, name(at, size), ms(atMs), abi.bytes(payload, payloadSize))),
        cancel: (slot, at, size, out) => this.#result(out, () => memory.cancelTimer(slot, name(at, size))),
      },
      "keyrail:handler/http@0.1.0": {
        "fetch-all": (at, count, out) => {
          const asked = abi.list(at, count, REQUEST_BYTES, (at) => ({ running: memory.running(abi.word(at)), ...this.#request(at) }));
          abi.putList(out, this.#outside.fetchAll(asked), ANSWER_BYTES, (at, answer) => this.#putAnswer(at, answer));
        },
      },
      "keyrail:handler/log@0.1.0": {
        threshold: () => 0,
        write: (level, at, size, fields, count) => {
          const told = Object.fromEntries(abi.list(fields, count, 16, readPair));
          this.logged.push({ level: LEVELS[level], message: name(at, size), fields: told });
        },
      },
      "keyrail:handler/metrics@0.1.0": {
        register: (at, size) => this.#metrics.push({ name: name(at, size), values: [] }) - 1,
        observe: (metric, value) => void this.#metrics[metric].values.push(value),
      },
    };
  }
}
