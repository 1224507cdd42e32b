/**
 * Keyrail handlers in TypeScript and JavaScript.
 *
 * @packageDocumentation
 */
export type { Context, Header, Message, Payload, ScanOptions, SendOptions, Setup, State, Timers } from "./context.js";
export { DeadLetter, HostError, Retry } from "./errors.js";
export type { HostErrorCode, RetryOptions } from "./errors.js";
export { HttpError, HttpResponse } from "./http.js";
export type { Answer, HttpErrorCode, HttpRequest } from "./http.js";
export { handler } from "./handler.js";
export type { Definition, Handle, Handler, Outcome } from "./handler.js";
export { log } from "./log.js";
export type { Fields } from "./log.js";
export { counter, gauge, histogram } from "./metrics.js";
export type { Counter, Gauge, Histogram, Labels } from "./metrics.js";
export { bytes, text } from "./text.js";
