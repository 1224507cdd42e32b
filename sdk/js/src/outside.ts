import type { WireFetched, WireHttpError, WireRequest } from "./host.js";
import type { HttpErrorCode } from "./http.js";
import { bytes } from "./text.js";

/** Methods that change nothing. */
const SAFE = ["GET", "HEAD", "OPTIONS", "TRACE"];
const IDEMPOTENCY_KEY = "idempotency-key";
const NO_ANSWER = "the test gives it no answer: say host.answer(method, url, answer), or host.answerWith(server) for all";

/** A request that was made. */
export interface Requested {
  /** Its message's `ctx.id`. */
  id: string;
  method: string;
  url: string;
  /** As they went out, with the host's `idempotency-key`. */
  headers: [name: string, value: Uint8Array][];
  body: Uint8Array | null;
  timeoutMs: number | null;
}

/** An answer, with the status 200 unless told; or the code of an error. */
export type TestAnswer =
  | { status?: number; headers?: Readonly<Record<string, string>>; body?: Uint8Array | string; json?: unknown }
  | HttpErrorCode;

/** Who answers requests. */
export class Outside {
  readonly requests: Requested[] = [];
  server: ((request: Requested) => TestAnswer) | null = null;
  readonly #table = new Map<string, TestAnswer>();

  answer(method: string, url: string, answer: TestAnswer): void {
    this.#table.set(`${method} ${url}`, answer);
  }

  fetch(running: { id: string; changing: number }, request: WireRequest): WireFetched {
    const { method, url, body, timeoutMs } = request;
    const { id } = running;
    const headers = request.headers.map(([name, value]): [string, Uint8Array] => [name, value.slice()]);
    const safe = SAFE.includes(method);
    if (!safe) running.changing += 1;
    if (!headers.some(([name]) => name.toLowerCase() === IDEMPOTENCY_KEY)) {
      headers.push([IDEMPOTENCY_KEY, bytes(safe || running.changing === 1 ? id : `${id}-${running.changing}`)]);
    }
    const made: Requested = { id, method, url, headers, body: body?.slice() ?? null, timeoutMs };
    this.requests.push(made);
    const answer = this.#table.get(`${method} ${url}`) ?? this.server?.(made);
    return answer === undefined ? { tag: "err", val: { tag: "denied", val: NO_ANSWER } } : fetchedOf(answer);
  }
}

function fetchedOf(answer: TestAnswer): WireFetched {
  if (typeof answer === "string") return { tag: "err", val: errorOf(answer) };
  const { status = 200, headers = {}, json } = answer;
  const body = json === undefined ? (answer.body ?? "") : JSON.stringify(json);
  const list = Object.entries(headers).map(([name, value]): [string, Uint8Array] => [name.toLowerCase(), bytes(value)]);
  return { tag: "ok", val: { status, headers: list, body: typeof body === "string" ? bytes(body) : body.slice() } };
}

function errorOf(code: HttpErrorCode): WireHttpError {
  return code === "timeout" || code === "too-large" ? { tag: code } : { tag: code, val: `the test says ${code}` };
}
