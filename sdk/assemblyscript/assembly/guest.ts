// What the contract's exports do: bin/keyrail-asc.js puts them around a handler.
import { hold, OUT, putText, release, takeOption, takeText } from "./abi";
import { Context, Message, Setup } from "./context";
import { Answer, Asked, fetchAll, Request } from "./http";
import { logsFor } from "./log";
import { done, Fate, Outcome } from "./outcome";

export { cabi_realloc } from "./abi";

const MESSAGE_BYTES: usize = 64;
const OUTCOME_BYTES: usize = 48;
let opening: Setup | null = null;

/** Reads what the manifest says. */
export function setUp(
  handler: usize, handlerSize: usize, topics: usize, topicCount: usize, outputs: usize, outputCount: usize, config: usize,
  configCount: usize, maxBatch: u32,
): Setup {
  store<u32>(OUT, <u32>handler);
  store<u32>(OUT, <u32>handlerSize, 4);
  const name = takeText(OUT);
  const setup = new Setup(
    name, texts(topics, topicCount, 8), texts(outputs, outputCount, 8), texts(config, configCount, 16), texts(config + 8, configCount, 16),
    maxBatch,
  );
  opening = setup;
  return setup;
}

function texts(at: usize, count: usize, step: usize): string[] {
  const found: string[] = [];
  for (let i: usize = 0; i < count; i++) found.push(takeText(at + i * step));
  return found;
}

/** The answer of `open`: null, or why the handler refuses. */
export function opened(refused: string | null): usize {
  store<u8>(OUT, refused === null ? 0 : 1);
  if (refused !== null) putText(OUT + 4, refused);
  return OUT;
}

/** Runs a batch, and answers with an outcome for each message. */
export function run(batch: usize, count: usize, handle: (message: Message, ctx: Context) => Outcome): usize {
  const outcomes = hold(heap.alloc(max(count * OUTCOME_BYTES, 1)));
  for (let slot: usize = 0; slot < count; slot++) {
    const ctx = begin(batch, slot);
    end(outcomes, slot, ctx, handle(ctx.message, ctx));
  }
  return answer(outcomes, count);
}

/** Runs a batch in two steps, between which the requests of all its messages are made. */
export function runSteps(
  batch: usize, count: usize, prepare: (message: Message, ctx: Context) => Request[],
  handle: (message: Message, ctx: Context, answers: Answer[]) => Outcome,
): usize {
  const outcomes = hold(heap.alloc(max(count * OUTCOME_BYTES, 1)));
  const all: Context[] = [];
  const counts: i32[] = [];
  const asked: Asked[] = [];
  for (let slot: usize = 0; slot < count; slot++) {
    const ctx = begin(batch, slot);
    const requests = prepare(ctx.message, ctx);
    all.push(ctx);
    counts.push(ctx.hasError ? 0 : requests.length);
    for (let i = 0; i < counts[<i32>slot]; i++) asked.push(ctx.asks(requests[i]));
  }
  const answers = fetchAll(asked);
  let next = 0;
  for (let slot: usize = 0; slot < count; slot++) {
    const ctx = all[<i32>slot];
    const message = ctx.message;
    logsFor(message.partition.toString(), message.offset.toString());
    const own = answers.slice(next, next + counts[<i32>slot]);
    next += own.length;
    end(outcomes, slot, ctx, ctx.hasError ? done() : handle(message, ctx, own));
  }
  return answer(outcomes, count);
}

function begin(batch: usize, slot: usize): Context {
  const setup = opening as Setup;
  const message = read(batch + slot * MESSAGE_BYTES, setup.topics);
  logsFor(message.partition.toString(), message.offset.toString());
  return new Context(setup, message, <u32>slot);
}

function end(outcomes: usize, slot: usize, ctx: Context, outcome: Outcome): void {
  const error = ctx.takeError();
  write(outcomes + slot * OUTCOME_BYTES, error === null ? outcome : error.outcome());
}

function answer(outcomes: usize, count: usize): usize {
  logsFor("", "");
  store<u32>(OUT, <u32>outcomes);
  store<u32>(OUT, <u32>count, 4);
  return OUT;
}

/** The host has read the answer. */
export function over(): void {
  release(0);
}

function read(at: usize, topics: string[]): Message {
  const isTimer = load<u8>(at) == 1;
  const topic = load<u32>(at, 4);
  const known = !isTimer && <i32>topic < topics.length;
  return new Message(
    known ? topics[topic] : null, isTimer ? takeText(at + 4) : null, load<u32>(at, 12), load<u64>(at, 16), load<i64>(at, 24),
    takeOption(at + 32), takeOption(at + 44), load<u32>(at, 56),
  );
}

function write(at: usize, outcome: Outcome): void {
  store<u8>(at, <u8>outcome.fate);
  if (outcome.fate < Fate.Retry) return;
  putText(at + 8, outcome.code);
  putText(at + 16, outcome.detail);
  store<u8>(at, outcome.hasDelay ? 1 : 0, 24);
  store<u64>(at, outcome.delayMs, 32);
  store<u8>(at, outcome.isOutage ? 1 : 0, 40);
}
