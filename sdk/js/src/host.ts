// The contract in the shape that the engine gives it: numbers for 64 bits, null for none, errors thrown with a `payload`.

export type Level = "trace" | "debug" | "info" | "warn" | "error" | "critical";
export type Kind = "counter" | "gauge" | "histogram";
export type Pairs = [string, string][];

export interface WireHeader {
  name: string;
  value: Uint8Array | null;
}

export interface WireMessage {
  source: { tag: "topic"; val: number } | { tag: "timer"; val: string };
  partition: number;
  offset: number;
  timestampMs: number;
  key: Uint8Array | null;
  value: Uint8Array | null;
  attempt: number;
}

export interface WireFailure {
  code: string;
  detail: string;
}

export type WireOutcome =
  | { tag: "done" }
  | { tag: "skip" }
  | { tag: "retry"; val: { failure: WireFailure; delayMs: number | null; outage: boolean } }
  | { tag: "dead-letter"; val: WireFailure };

export interface WireSetup {
  handler: string;
  topics: string[];
  outputs: string[];
  config: Pairs;
  maxBatch: number;
}

export interface WireOutput {
  to: string;
  key: Uint8Array | null;
  value: Uint8Array | null;
  headers: WireHeader[];
  forwardHeaders: boolean;
  timestampMs: number | null;
  delayMs: number | null;
}

export type WireError = { tag: "no-key" | "unknown-output" | "too-large" | "over-quota" } | { tag: "other"; val: string };

export interface WireRequest {
  slot: number;
  method: string;
  url: string;
  headers: [string, Uint8Array][];
  body: Uint8Array | null;
  timeoutMs: number | null;
}

export interface WireResponse {
  status: number;
  headers: [string, Uint8Array][];
  body: Uint8Array;
}

export type WireHttpError = { tag: "denied" | "invalid" | "unreachable"; val: string } | { tag: "timeout" | "too-large" };

/** A result within a list is not thrown. */
export type WireFetched = { tag: "ok"; val: WireResponse } | { tag: "err"; val: WireHttpError };

/** All that a handler imports. */
export interface Host {
  context: {
    id(slot: number): string;
    headers(slot: number): WireHeader[];
    headerValue(slot: number, name: string): Uint8Array | null;
    followsDeadLetter(slot: number): boolean;
    nowMs(): number;
    deadlineMs(): number;
  };
  emit: { send(slot: number, output: WireOutput): void };
  state: {
    get(slot: number, name: string): Uint8Array | null;
    put(slot: number, name: string, value: Uint8Array, ttlMs: number | null): void;
    delete(slot: number, name: string): void;
    scan(slot: number, prefix: string, after: string | null, limit: number): [string, Uint8Array][];
  };
  timers: {
    set(slot: number, name: string, atMs: number, payload: Uint8Array): void;
    cancel(slot: number, name: string): void;
  };
  http: { fetchAll(requests: WireRequest[]): WireFetched[] };
  log: {
    threshold(): Level;
    write(level: Level, message: string, fields: Pairs): void;
  };
  metrics: {
    register(name: string, kind: Kind, labels: Pairs): number;
    observe(metric: number, value: number): void;
  };
}

let current: Host | null = null;
let running: WireMessage | null = null;

/** The host that logs and metrics go to; there is none while a module of the handler is loaded. */
export function currentHost(): Host | null {
  return current;
}

/** The message that is run at the moment. */
export function currentMessage(): WireMessage | null {
  return running;
}

export function useHost(host: Host | null): void {
  current = host;
}

export function useMessage(message: WireMessage | null): void {
  running = message;
}
