import { hold, mark, OUT, putText, release, takeBytes, takeOption, takeText } from "./abi";
import {
  contextDeadlineMs, contextFollowsDeadLetter, contextHeaders, contextHeaderValue, contextId, contextNowMs, contextRandom, emitSend,
  stateDelete, stateGet, statePut, stateScan, timersCancel, timersSet,
} from "./contract";
import { Answer, Asked, Calls, fetchAll, Request } from "./http";
import { HostError, hostError, Outcome } from "./outcome";
import { bytes, text, utf8 } from "./text";

/** One delivery. */
export class Message {
  constructor(
    /** The input topic; null for a timer. */
    public readonly topic: string | null,
    /** A timer's name; null for a record. */
    public readonly timer: string | null,
    /** Where the record was first read; a timer's are those of the message that set it. */
    public readonly partition: u32,
    public readonly offset: u64,
    /** Milliseconds since the Unix epoch; a timer's is the time it was set for. */
    public readonly timestampMs: i64,
    public readonly key: Uint8Array | null,
    /** Null is a tombstone, which differs from an empty value. A timer's payload is its value. */
    public readonly value: Uint8Array | null,
    /** 1 on the first run. */
    public readonly attempt: u32,
  ) {}
}

/** A header; a null value is Kafka's null. */
export class Header {
  constructor(
    public readonly name: string,
    public readonly value: Uint8Array | null,
  ) {}
}

/** A name of state and its value. */
export class Entry {
  constructor(
    public readonly name: string,
    public readonly value: Uint8Array,
  ) {}
}

/** What the manifest says of the pipeline. */
export class Setup {
  constructor(
    /** The pipeline's name. */
    public readonly handler: string,
    public readonly topics: string[],
    public readonly outputs: string[],
    private readonly names: string[],
    private readonly values: string[],
    /** The most messages of one call. */
    public readonly maxBatch: u32,
  ) {}

  /** The value of the manifest's `[config]` under this name, or null. */
  config(name: string): string | null {
    const at = this.names.indexOf(name);
    return at < 0 ? null : this.values[at];
  }
}

/** A record to send: it has the message's key and timestamp, and no headers but `traceparent` and `tracestate`, unless told otherwise. */
export class Output {
  key: Uint8Array | null = null;
  hasKey: bool = false;
  headers: Header[] = [];
  forward: bool = false;
  timestampMs: i64 = 0;
  hasTimestamp: bool = false;
  delayMs: u64 = 0;

  /** A null value is a tombstone. */
  constructor(
    public readonly to: string,
    public readonly value: Uint8Array | null,
  ) {}

  /** Another key than the message's; null for none. */
  withKey(key: Uint8Array | null): this {
    this.key = key;
    this.hasKey = true;
    return this;
  }

  /** Adds a header. Names may repeat. */
  withHeader(name: string, value: Uint8Array | null): this {
    this.headers.push(new Header(name, value));
    return this;
  }

  /** Also copies the message's own headers. */
  withForwardedHeaders(): this {
    this.forward = true;
    return this;
  }

  /** In milliseconds since the Unix epoch. */
  withTimestamp(timestampMs: i64): this {
    this.timestampMs = timestampMs;
    this.hasTimestamp = true;
    return this;
  }

  /** Not before this many milliseconds after the message is settled; 0: at once. See `limits.delay` of the manifest. */
  withDelay(delayMs: u64): this {
    this.delayMs = delayMs;
    return this;
  }
}

/** Looks at the answer of an import, and keeps its error. */
function accepted(calls: Calls): bool {
  if (load<u8>(OUT) == 0) return true;
  const number = <i32>load<u8>(OUT, 4);
  calls.keep(hostError(number, number == 4 ? takeText(OUT + 8) : ""));
  return false;
}

/**
 * One message's side of the host. What is staged through it (sends, state, timers) takes effect only if the message is done or
 * skipped, together with the commit of its offset. The handler's own variables are not undone.
 *
 * A call that the host refuses answers with false, null or an empty list, and its error is kept: whatever the handler returns then,
 * the message fails by the first error, unless `takeError` has taken it.
 */
export class Context {
  /** State of the message's order key. */
  readonly state: State;
  /** Timers of the message's order key. */
  readonly timers: Timers;
  private readonly calls: Calls;

  constructor(
    public readonly setup: Setup,
    public readonly message: Message,
    slot: u32,
  ) {
    const calls = new Calls(slot);
    this.calls = calls;
    this.state = new State(calls);
    this.timers = new Timers(calls);
  }

  /** The error that is kept, which then no longer fails the message; null if there is none. */
  takeError(): HostError | null {
    return this.calls.takeError();
  }

  /** Whether an error is kept: what the handler does from here on is undone. */
  get hasError(): bool {
    return this.calls.hasError;
  }

  /** Keeps an outcome as an error: the message ends so, whatever the handler returns, unless an error was kept before. */
  fail(outcome: Outcome): void {
    this.calls.keep(new HostError(outcome.code, outcome.detail, outcome));
  }

  /**
   * Makes a request to a host that the manifest grants under `capabilities.http`, and waits for its answer. If there is none its error is
   * kept. Any status is an answer; redirects are not followed. It is no part of the message's commit: a message that runs again asks
   * again.
   */
  fetch(request: Request): Answer {
    const answer = this.fetchAll([request])[0];
    answer.get();
    return answer;
  }

  /** Makes all of them at the same time, and waits for the last: an answer for each, in their order. It keeps no error by itself. */
  fetchAll(requests: Request[]): Answer[] {
    const all: Asked[] = [];
    for (let i = 0; i < requests.length; i++) all.push(new Asked(this.calls, requests[i]));
    return fetchAll(all);
  }

  /** For the SDK: a request to be made with those of other messages. */
  asks(request: Request): Asked {
    return new Asked(this.calls, request);
  }

  /** Sends a record with the message's own key when the message is settled. */
  send(to: string, value: Uint8Array | null): bool {
    return this.sendOutput(new Output(to, value));
  }

  sendText(to: string, value: string): bool {
    return this.sendOutput(new Output(to, bytes(value)));
  }

  sendOutput(output: Output): bool {
    const since = mark();
    const to = utf8(output.to);
    const key = output.hasKey ? output.key : this.message.key;
    const value = output.value;
    const count = output.headers.length;
    const headers = hold(heap.alloc(max(count, 1) * 20));
    for (let i = 0; i < count; i++) {
      const header = output.headers[i];
      const at = headers + i * 20;
      putText(at, header.name);
      const value = header.value;
      store<u8>(at, value === null ? 0 : 1, 8);
      store<u32>(at, <u32>start(value), 12);
      store<u32>(at, <u32>size(value), 16);
    }
    emitSend(
      this.calls.slot, changetype<usize>(to), to.byteLength, key === null ? 0 : 1, start(key), size(key), value === null ? 0 : 1, start(value),
      size(value), headers, count, output.forward ? 1 : 0, output.hasTimestamp ? 1 : 0, output.timestampMs, output.delayMs > 0 ? 1 : 0,
      output.delayMs, OUT,
    );
    const isAccepted = accepted(this.calls);
    release(since);
    return isAccepted;
  }

  /** The same over retries, parking, redrive and replay: the idempotency key for effects outside Keyrail. */
  get id(): string {
    const since = mark();
    contextId(this.calls.slot, OUT);
    const id = takeText(OUT);
    release(since);
    return id;
  }

  /** All headers, in order. */
  get headers(): Header[] {
    const since = mark();
    contextHeaders(this.calls.slot, OUT);
    const found: Header[] = [];
    let at = <usize>load<u32>(OUT);
    for (let left = load<u32>(OUT, 4); left > 0; left--) {
      found.push(new Header(takeText(at), takeOption(at + 8)));
      at += 20;
    }
    release(since);
    return found;
  }

  /** The value of the last header of that name; null if there is none or it is Kafka's null. */
  header(name: string): Uint8Array | null {
    const since = mark();
    const asked = utf8(name);
    contextHeaderValue(this.calls.slot, changetype<usize>(asked), asked.byteLength, OUT);
    const value = takeOption(OUT);
    release(since);
    return value;
  }

  /** Whether an earlier message of this key was dead-lettered or discarded. */
  get followsDeadLetter(): bool {
    return contextFollowsDeadLetter(this.calls.slot) != 0;
  }

  /** Milliseconds since the Unix epoch, fixed within a call. */
  get nowMs(): i64 {
    return contextNowMs();
  }

  /** When the host will stop this call, in milliseconds since the Unix epoch. */
  get deadlineMs(): i64 {
    return contextDeadlineMs();
  }

  /** The next number of a sequence seeded by the message's id and attempt, so that a run can be repeated. */
  random(): u64 {
    return contextRandom(this.calls.slot);
  }

  /** The value of the manifest's `[config]` under this name, or null. */
  config(name: string): string | null {
    return this.setup.config(name);
  }
}

/**
 * State of the message's order key. One key's messages run one at a time, in order, so a plain read, change and write is safe. A
 * name has at most 1 KiB, a value 512 KiB.
 */
export class State {
  constructor(private readonly calls: Calls) {}

  /** The value under that name, or null. */
  get(name: string): Uint8Array | null {
    const since = mark();
    const asked = utf8(name);
    stateGet(this.calls.slot, changetype<usize>(asked), asked.byteLength, OUT);
    const value = accepted(this.calls) ? takeOption(OUT + 4) : null;
    release(since);
    return value;
  }

  getText(name: string): string | null {
    const value = this.get(name);
    return value === null ? null : text(value);
  }

  put(name: string, value: Uint8Array): bool {
    return this.write(name, value, false, 0);
  }

  putText(name: string, value: string): bool {
    return this.write(name, bytes(value), false, 0);
  }

  /** Writes a value that goes away after this many milliseconds. */
  putFor(name: string, value: Uint8Array, ttlMs: u64): bool {
    return this.write(name, value, true, ttlMs);
  }

  private write(name: string, value: Uint8Array, ends: bool, ttlMs: u64): bool {
    const since = mark();
    const asked = utf8(name);
    statePut(this.calls.slot, changetype<usize>(asked), asked.byteLength, value.dataStart, value.length, ends ? 1 : 0, ttlMs, OUT);
    const isAccepted = accepted(this.calls);
    release(since);
    return isAccepted;
  }

  /** Removes a name; no error if it is not there. */
  delete(name: string): bool {
    const since = mark();
    const asked = utf8(name);
    stateDelete(this.calls.slot, changetype<usize>(asked), asked.byteLength, OUT);
    const isAccepted = accepted(this.calls);
    release(since);
    return isAccepted;
  }

  /** At most `limit` (up to 1,000) names that begin with the prefix, in the order of their bytes, those behind `after`. */
  scan(prefix: string, limit: u32 = 1000, after: string | null = null): Entry[] {
    const since = mark();
    const begin = utf8(prefix);
    const from = utf8(after === null ? "" : after);
    stateScan(
      this.calls.slot, changetype<usize>(begin), begin.byteLength, after === null ? 0 : 1, changetype<usize>(from), from.byteLength, limit, OUT,
    );
    const found: Entry[] = [];
    if (accepted(this.calls)) {
      let at = <usize>load<u32>(OUT, 4);
      for (let left = load<u32>(OUT, 8); left > 0; left--) {
        found.push(new Entry(takeText(at), takeBytes(at + 8)));
        at += 16;
      }
    }
    release(since);
    return found;
  }
}

/** Timers of the message's order key: a timer is a message to the same key, later, in that key's order. */
export class Timers {
  constructor(private readonly calls: Calls) {}

  /** Sets a timer for a time in milliseconds since the Unix epoch; it replaces one of the same key and name. */
  set(name: string, atMs: i64, payload: Uint8Array = new Uint8Array(0)): bool {
    const since = mark();
    const asked = utf8(name);
    timersSet(this.calls.slot, changetype<usize>(asked), asked.byteLength, atMs, payload.dataStart, payload.length, OUT);
    const isAccepted = accepted(this.calls);
    release(since);
    return isAccepted;
  }

  /** Sets a timer for this many milliseconds from now. */
  setAfter(name: string, waitMs: u64, payload: Uint8Array = new Uint8Array(0)): bool {
    const nowMs = contextNowMs();
    const left = <u64>(i64.MAX_VALUE - nowMs);
    return this.set(name, waitMs > left ? i64.MAX_VALUE : nowMs + <i64>waitMs, payload);
  }

  /** No error if there is none. */
  cancel(name: string): bool {
    const since = mark();
    const asked = utf8(name);
    timersCancel(this.calls.slot, changetype<usize>(asked), asked.byteLength, OUT);
    const isAccepted = accepted(this.calls);
    release(since);
    return isAccepted;
  }
}

function start(bytes: Uint8Array | null): usize {
  return bytes === null ? 0 : bytes.dataStart;
}

function size(bytes: Uint8Array | null): i32 {
  return bytes === null ? 0 : bytes.length;
}
