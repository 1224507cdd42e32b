import { Context, setupOf, type Message, type Setup } from "./context.js";
import { DeadLetter, HostError, Retry } from "./errors.js";
import { fetchAll, HttpError, requestOf, type Answer, type HttpRequest } from "./http.js";
import { useHost, useMessage, type Host, type WireFailure, type WireMessage, type WireOutcome, type WireRequest, type WireSetup } from "./host.js";
import { shown, writeEarly } from "./log.js";

/**
 * What settles a message; returning nothing is `"done"`. `"skip"` is the same, counted apart: filtered out on purpose. What fails is
 * thrown: {@link Retry}, {@link DeadLetter}, or any other error, which is a retry with the code `error`.
 */
export type Outcome = "done" | "skip" | void;

/** Runs once for each message. One key's messages come in order. */
export type Handle = (message: Message, ctx: Context) => Outcome;

/** A handler that looks at its configuration first, or has its HTTP requests made for a whole batch at the same time. */
export interface Definition {
  /** Runs once, before the first message. What it throws refuses this version of the handler. */
  open?(setup: Setup): void;
  /**
   * Names the message's HTTP requests, which are made together with those of the batch's other messages; `handle` gets the answers. What it
   * throws is the message's outcome: its requests are not made, and `handle` is not called.
   *
   * All messages of a batch are prepared before the first is handled. It has one of a key at most where the manifest grants hosts, so a
   * service sees one key's requests in order.
   */
  prepare?(message: Message, ctx: Context): readonly (HttpRequest | string)[] | void;
  /** Runs once for each message. One key's messages come in order. The answers are those of `prepare`'s requests, in their order. */
  handle(message: Message, ctx: Context, answers: readonly Answer[]): Outcome;
}

/** What a handler's module exports by default; made by {@link handler}. */
export class Handler {
  readonly definition: Definition;

  /** @internal */
  constructor(definition: Definition) {
    this.definition = definition;
  }
}

/** Makes a handler of a function, or of `{ open, prepare, handle }`. */
export function handler(definition: Handle | Definition): Handler {
  const complete = typeof definition === "function" ? { handle: definition } : definition;
  if (typeof complete?.handle !== "function") throw new TypeError("a handler is a function, or { open, prepare, handle }");
  return new Handler(complete);
}

/** Where in the handler's own code a frame of a stack is; null if it is elsewhere. */
export type Locate = (file: string, line: number) => string | null;

/** A message of the batch. */
interface Delivery {
  wire: WireMessage;
  slot: number;
  message: Message;
  context: Context;
}

/** A handler that is opened: it runs what the host gives it. */
export class Guest {
  /** What the last message of the batch threw, for tests. */
  thrown: unknown;
  readonly #definition: Definition;
  readonly #host: Host;
  readonly #locate: Locate;
  #setup: Setup | null = null;
  #context: Context | null = null;

  constructor(handler: Handler, host: Host, locate: Locate) {
    this.#definition = handler.definition;
    this.#host = host;
    this.#locate = locate;
  }

  /** The context of the message that is run. */
  get context(): Context | null {
    return this.#context;
  }

  /** Null, or why the handler refuses. */
  open(wire: WireSetup): string | null {
    this.#setup = setupOf(wire);
    useHost(this.#host);
    writeEarly();
    try {
      const returned: unknown = this.#definition.open?.(this.#setup);
      return isPromise(returned) ? promised("open") : null;
    } catch (thrown) {
      throwIfSpent(thrown);
      const expected = thrown instanceof Error && thrown.constructor === Error;
      return (expected ? thrown.message : this.#words(thrown)).toWellFormed();
    }
  }

  process(batch: readonly WireMessage[]): WireOutcome[] {
    useHost(this.#host);
    const setup = this.#setup;
    if (setup === null) throw new Error("the handler is not open");
    this.thrown = undefined;
    const deliver = (wire: WireMessage, slot: number): Delivery => {
      return { wire, slot, message: messageOf(wire, setup), context: new Context(this.#host, setup, slot, wire) };
    };
    return this.#definition.prepare === undefined
      ? batch.map((wire, slot) => this.#handle(deliver(wire, slot), []))
      : this.#inTwoSteps(batch.map(deliver));
  }

  #inTwoSteps(batch: readonly Delivery[]): WireOutcome[] {
    const requests: WireRequest[] = [];
    /** So many requests of each message, or what became of it. */
    const prepared = batch.map((delivery) =>
      this.#run(delivery, ({ slot, message, context }) => {
        const returned: unknown = this.#definition.prepare?.(message, context) ?? [];
        if (isPromise(returned)) throw new TypeError(promised("prepare"));
        if (!Array.isArray(returned)) throw new TypeError(`prepare returned ${shown(returned)}: return an array of requests, or nothing`);
        const named = returned.map((request: HttpRequest | string) => requestOf(slot, request));
        requests.push(...named);
        return named.length;
      }),
    );
    const answers = fetchAll(this.#host, requests);
    let from = 0;
    return batch.map((delivery, at) => {
      const asked = prepared[at] as number | WireOutcome;
      return typeof asked === "number" ? this.#handle(delivery, answers.slice(from, (from += asked))) : asked;
    });
  }

  #handle(delivery: Delivery, answers: readonly Answer[]): WireOutcome {
    return this.#run(delivery, ({ message, context }) => settled(this.#definition.handle(message, context, answers)));
  }

  /** Runs a step of a message: what it returns, or what becomes of the message if it throws. */
  #run<T>(delivery: Delivery, step: (delivery: Delivery) => T): T | WireOutcome {
    useMessage(delivery.wire);
    this.#context = delivery.context;
    try {
      return step(delivery);
    } catch (thrown) {
      throwIfSpent(thrown);
      this.thrown = thrown;
      return this.#failed(thrown);
    } finally {
      useMessage(null);
      this.#context = null;
    }
  }

  #failed(thrown: unknown): WireOutcome {
    if (thrown instanceof DeadLetter) return { tag: "dead-letter", val: failure(thrown.code, detailOf(thrown)) };
    if (thrown instanceof Retry) {
      const { code, afterMs: delayMs, outage } = thrown;
      return { tag: "retry", val: { failure: failure(code, detailOf(thrown)), delayMs, outage } };
    }
    if (thrown instanceof HttpError) {
      const why = failure(`http-${thrown.code}`, thrown.message);
      const passes = thrown.code === "timeout" || thrown.code === "unreachable";
      return passes ? { tag: "retry", val: { failure: why, delayMs: null, outage: false } } : { tag: "dead-letter", val: why };
    }
    if (thrown instanceof HostError && thrown.code !== "other") {
      return { tag: "dead-letter", val: failure(thrown.code, thrown.message) };
    }
    const detail = thrown instanceof HostError ? thrown.message : this.#words(thrown);
    return { tag: "retry", val: { failure: failure("error", detail), delayMs: null, outage: false } };
  }

  /** Class and message of an error and its causes, and where it was raised. */
  #words(thrown: unknown): string {
    if (!(thrown instanceof Error)) return `thrown: ${shown(thrown)}`;
    const place = placeOf(thrown, this.#locate);
    return `${thrown.name}: ${detailOf(thrown)}${place === null ? "" : `, ${place}`}`;
  }
}

const MAX_CAUSES = 4;

/** The message of an error, then those of its causes. */
function detailOf(error: Error): string {
  let words = error.message;
  let cause = error.cause;
  for (let deep = 0; cause instanceof Error && deep < MAX_CAUSES; deep++) {
    words += `; caused by ${cause.name}: ${cause.message}`;
    cause = cause.cause;
  }
  return words;
}

/** The innermost frame of the handler's own code: `in total (totals.ts:12)`. */
function placeOf(error: Error, locate: Locate): string | null {
  for (const frame of (error.stack ?? "").split("\n")) {
    const found = /^\s*at (?:(.+) \()?(.+?):(\d+)(?::\d+)?\)?$/.exec(frame);
    if (found === null) continue;
    const [, name, file, line] = found;
    // The constructor of an error's class is not where it was raised.
    if (name?.replace(/^new /, "") === error.constructor.name) continue;
    const place = locate(file as string, Number(line));
    if (place !== null) return name === undefined || name === "<anonymous>" ? `at ${place}` : `in ${name} (${place})`;
  }
  return null;
}

/**
 * An engine out of memory can't be trusted any more: the call ends, and a new instance takes over. Where it has no room for the error
 * it throws null.
 */
function throwIfSpent(thrown: unknown): void {
  if (thrown === null) throw new Error("out of memory");
  if (thrown instanceof Error && thrown.name === "InternalError" && thrown.message === "out of memory") throw thrown;
}

function failure(code: string, detail: string): WireFailure {
  return { code: String(code).toWellFormed(), detail: String(detail).toWellFormed() };
}

function settled(returned: unknown): WireOutcome {
  if (returned === undefined || returned === "done") return { tag: "done" };
  if (returned === "skip") return { tag: "skip" };
  if (isPromise(returned)) throw new TypeError(promised("handle"));
  throw new TypeError(`the handler returned ${String(returned)}: return nothing, "done" or "skip", and throw what fails`);
}

function isPromise(value: unknown): boolean {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function";
}

function promised(what: string): string {
  return `${what} returned a promise: a handler is synchronous, there is nothing to wait for`;
}

function messageOf(wire: WireMessage, setup: Setup): Message {
  const { source, partition, offset, timestampMs, key, value, attempt } = wire;
  const topic = source.tag === "topic" ? (setup.topics[source.val] ?? null) : null;
  const timer = source.tag === "timer" ? source.val : null;
  return { topic, timer, partition, offset, timestampMs, key, value, attempt };
}
