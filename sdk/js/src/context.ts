import { call } from "./errors.js";
import { fetchAll, HttpError, requestOf, type Answer, type HttpRequest, type HttpResponse } from "./http.js";
import type { Host, WireHeader, WireMessage, WireSetup } from "./host.js";
import { Sequence } from "./random.js";
import { content, named, pairsOf } from "./values.js";
import { whole } from "./whole.js";

/** One delivery. */
export interface Message {
  /** The input topic; null for a timer. */
  readonly topic: string | null;
  /** A timer's name; null for a record. */
  readonly timer: string | null;
  /** Where the record was first read, also after a retry; a timer's are those of the message that set it. */
  readonly partition: number;
  readonly offset: number;
  /** Milliseconds since the Unix epoch; a timer's is the time it was set for. */
  readonly timestampMs: number;
  readonly key: Uint8Array | null;
  /** Null is a tombstone, which differs from an empty value. A timer's payload is its value. */
  readonly value: Uint8Array | null;
  /** 1 on the first run. */
  readonly attempt: number;
}

/** What a key, a value or a header's value may be: bytes, text (sent as UTF-8), or Kafka's null. */
export type Payload = Uint8Array | string | null;

/** A header; its value may be Kafka's null. Names may repeat. */
export type Header = readonly [name: string, value: Uint8Array | null];

/** What the manifest says of the pipeline. */
export interface Setup {
  /** The pipeline's name. */
  readonly handler: string;
  readonly topics: readonly string[];
  readonly outputs: readonly string[];
  /** The manifest's `[config]`. */
  readonly config: Readonly<Record<string, string | undefined>>;
  /** The most messages of one call. */
  readonly maxBatch: number;
}

/** How a record differs from one with the message's own key and timestamp, and no headers but `traceparent` and `tracestate`. */
export interface SendOptions {
  /** Another key than the message's; null for none. */
  key?: Payload;
  headers?: Iterable<readonly [name: string, value: Payload]> | Readonly<Record<string, Payload>>;
  /** Also copies the message's own headers. */
  forwardHeaders?: boolean;
  /** Milliseconds since the Unix epoch. */
  timestampMs?: number;
  /**
   * Delivers the record no earlier than this many milliseconds after the message is settled, up to 366 days. The manifest's
   * `limits.delay` allows it.
   */
  delayMs?: number;
}

/** Which page of names a scan gives. */
export interface ScanOptions {
  /** Only names behind this one. */
  after?: string;
  /** At most this many names: 1,000 unless it is less. */
  limit?: number;
}

const MAX_SCAN = 1000;

/**
 * One message's side of the host: what else is known of it, and what its handler does.
 *
 * What is staged here (sends, state, timers) takes effect only if the message is done or skipped, together with the commit of its
 * offset. The handler's own variables are not undone. Calls that the host refuses throw a {@link HostError}.
 */
export class Context {
  readonly setup: Setup;
  readonly #host: Host;
  readonly #slot: number;
  readonly #message: WireMessage;
  #state: State | null = null;
  #timers: Timers | null = null;
  #sequence: Sequence | null = null;

  /** @internal */
  constructor(host: Host, setup: Setup, slot: number, message: WireMessage) {
    this.#host = host;
    this.#slot = slot;
    this.#message = message;
    this.setup = setup;
  }

  /** State of the message's order key. */
  get state(): State {
    return (this.#state ??= new State(this.#host, this.#slot));
  }

  /** Timers of the message's order key. */
  get timers(): Timers {
    return (this.#timers ??= new Timers(this.#host, this.#slot));
  }

  /** Sends a record to an output of the manifest when the message is settled. */
  send(to: string, value: Payload, options: SendOptions = {}): void {
    const { key = this.#message.key, headers = [], forwardHeaders = false, timestampMs, delayMs } = options;
    const output = {
      to: named(to, "an output"),
      key: payload(key, "a key"),
      value: payload(value, "a value"),
      headers: headerList(headers),
      forwardHeaders,
      timestampMs: timestampMs === undefined ? null : whole(timestampMs, "timestampMs"),
      delayMs: delayMs === undefined || delayMs === 0 ? null : whole(delayMs, "delayMs", 0),
    };
    call(() => this.#host.emit.send(this.#slot, output));
  }

  /**
   * Makes an HTTP request to a host that the manifest grants under `capabilities.http`, and waits for its answer; any status is one. It
   * throws an {@link HttpError} if there is none. A request is made now, whatever becomes of the message, and again if the message runs
   * again, with the same `idempotency-key`.
   */
  fetch(request: HttpRequest | string): HttpResponse {
    const [answer] = this.fetchAll([request]) as [Answer];
    if (answer instanceof HttpError) throw answer;
    return answer;
  }

  /** Makes HTTP requests at the same time, and waits for the last: one answer or error for each, in their order. */
  fetchAll(requests: readonly (HttpRequest | string)[]): Answer[] {
    return fetchAll(this.#host, requests.map((request) => requestOf(this.#slot, request)));
  }

  /** The same over retries, parking, redrive and replay: the idempotency key for effects outside Keyrail. */
  get id(): string {
    return this.#host.context.id(this.#slot);
  }

  /** All headers, in order. */
  get headers(): Header[] {
    return this.#host.context.headers(this.#slot).map((header: WireHeader) => [header.name, header.value] as const);
  }

  /** The value of the last header of that name; null if there is none or it is Kafka's null. */
  header(name: string): Uint8Array | null {
    return this.#host.context.headerValue(this.#slot, named(name, "a header"));
  }

  /** Whether an earlier message of this key was dead-lettered or discarded. */
  get followsDeadLetter(): boolean {
    return this.#host.context.followsDeadLetter(this.#slot);
  }

  /** Milliseconds since the Unix epoch, fixed within a call; `Date.now()` gives the same. */
  get nowMs(): number {
    return this.#host.context.nowMs();
  }

  /** When the host will stop this call, in milliseconds since the Unix epoch. */
  get deadlineMs(): number {
    return this.#host.context.deadlineMs();
  }

  /** The manifest's `[config]`. */
  get config(): Setup["config"] {
    return this.setup.config;
  }

  /**
   * The next number of a sequence of 64-bit numbers seeded by the message's id and attempt, so that a run can be repeated.
   * `Math.random()` draws from the same sequence.
   */
  random(): bigint {
    return this.sequence().next();
  }

  /** @internal */
  sequence(): Sequence {
    return (this.#sequence ??= new Sequence(this.id, this.#message.attempt));
  }
}

/**
 * State of the message's order key. One key's messages run one at a time, in order, so a plain read, change and write is safe. A
 * name has at most 1 KiB, a value 512 KiB.
 */
export class State {
  readonly #host: Host;
  readonly #slot: number;

  /** @internal */
  constructor(host: Host, slot: number) {
    this.#host = host;
    this.#slot = slot;
  }

  /** The value under that name, or null. */
  get(name: string): Uint8Array | null {
    return call(() => this.#host.state.get(this.#slot, named(name, "a name")));
  }

  put(name: string, value: Uint8Array | string): void {
    this.#put(name, value, null);
  }

  /** Writes a value that goes away after this many milliseconds. */
  putFor(name: string, value: Uint8Array | string, ttlMs: number): void {
    this.#put(name, value, whole(ttlMs, "ttlMs", 0));
  }

  #put(name: string, value: Uint8Array | string, ttlMs: number | null): void {
    const written = content(value, "a value of state");
    call(() => this.#host.state.put(this.#slot, named(name, "a name"), written, ttlMs));
  }

  /** Removes a name; no error if it is not there. */
  delete(name: string): void {
    call(() => this.#host.state.delete(this.#slot, named(name, "a name")));
  }

  /** Names that begin with the prefix, with their values, in the order of their bytes. */
  scan(prefix = "", options: ScanOptions = {}): [name: string, value: Uint8Array][] {
    const after = options.after === undefined ? null : named(options.after, "a name");
    const limit = whole(options.limit ?? MAX_SCAN, "limit", 0, 0xffff_ffff);
    return call(() => this.#host.state.scan(this.#slot, named(prefix, "a prefix"), after, limit));
  }
}

/** Timers of the message's order key: a timer is a message to the same key, later, in that key's order. */
export class Timers {
  readonly #host: Host;
  readonly #slot: number;

  /** @internal */
  constructor(host: Host, slot: number) {
    this.#host = host;
    this.#slot = slot;
  }

  /** Sets a timer for a time in milliseconds since the Unix epoch; it replaces one of the same key and name. */
  set(name: string, atMs: number, payload: Uint8Array | string = ""): void {
    const value = content(payload, "a timer's payload");
    call(() => this.#host.timers.set(this.#slot, named(name, "a name"), whole(atMs, "atMs"), value));
  }

  /** Sets a timer for this many milliseconds from now. */
  setAfter(name: string, waitMs: number, payload: Uint8Array | string = ""): void {
    this.set(name, this.#host.context.nowMs() + whole(waitMs, "waitMs", 0), payload);
  }

  /** No error if there is none. */
  cancel(name: string): void {
    call(() => this.#host.timers.cancel(this.#slot, named(name, "a name")));
  }
}

/** The setup as handlers see it. */
export function setupOf(wire: WireSetup): Setup {
  const config: Record<string, string | undefined> = Object.create(null);
  for (const [name, value] of wire.config) config[name] = value;
  return Object.freeze({ ...wire, config: Object.freeze(config) });
}

function payload(value: Payload, what: string): Uint8Array | null {
  return value === null ? null : content(value, what);
}

function headerList(headers: NonNullable<SendOptions["headers"]>): WireHeader[] {
  return pairsOf(headers).map(([name, value]) => ({ name: named(name, "a header"), value: payload(value, "a header's value") }));
}
