import type { Payload } from "./context.js";
import { DeadLetter, Retry } from "./errors.js";
import type { Host, WireHttpError, WireRequest, WireResponse } from "./host.js";
import { bytes, decode, text } from "./text.js";
import { content, kindOf, named, pairsOf } from "./values.js";
import { whole } from "./whole.js";

/** The longest wait that a `retry-after` gets. */
const MAX_RETRY_AFTER_S = 3600;
/** So many bytes of an answer's body stand in a failure's detail. */
const DETAIL_BYTES = 200;
/** Neither says anything of the message: the service may do it later. */
const LATER = [408, 425, 429];
const WITH_RETRY_AFTER = [429, 503];

/** A request. A URL alone is a `GET`. */
export interface HttpRequest {
  /** The whole of it: `https://HOST/PATH`. */
  url: string;
  /** `GET` unless told, and `POST` where there is a body. */
  method?: string;
  /** Names may repeat; those of the connection (`host`, `content-length`, ...) are the host's. */
  headers?: Iterable<readonly [name: string, value: Uint8Array | string]> | Readonly<Record<string, Uint8Array | string>>;
  body?: Payload;
  /** A body of JSON instead, with its `content-type` unless the headers have one. */
  json?: unknown;
  /** Until the answer's last byte has come; at most, and unless told: the manifest's `limits.timeout`. */
  timeoutMs?: number;
}

/** What came of a request: `answer.orRetry()` is the response, or throws what becomes of the message. */
export type Answer = HttpResponse | HttpError;

/** An answer, whatever its status. */
export class HttpResponse {
  readonly status: number;
  /** In their order, names in lower case. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** As it came over the wire. */
  readonly body: Uint8Array;
  readonly #asked: string;

  /** @internal */
  constructor(wire: WireResponse, asked: string) {
    this.status = wire.status;
    this.headers = wire.headers.map(([name, value]) => [name, text(value)] as const);
    this.body = wire.body;
    this.#asked = asked;
  }

  /** Whether the status is 2xx. */
  get ok(): boolean {
    return this.status >= 200 && this.status <= 299;
  }

  /** The value of the last header of that name, in any case, or null. */
  header(name: string): string | null {
    const wanted = name.toLowerCase();
    return this.headers.findLast(([known]) => known === wanted)?.[1] ?? null;
  }

  /** The body as text; what is no UTF-8 becomes U+FFFD. */
  text(): string {
    return text(this.body);
  }

  /** The body as JSON; throws a `SyntaxError` if it is none. */
  json(): unknown {
    return JSON.parse(this.text());
  }

  /**
   * The response itself if its status is 2xx.
   *
   * Else it throws: 408, 425, 429 and 5xx become a {@link Retry} with the code `http-STATUS`, after the seconds of a `retry-after` of 429 and
   * 503 (an hour at most); any other status becomes a {@link DeadLetter} with that code.
   */
  orRetry(): HttpResponse {
    if (this.ok) return this;
    const { status } = this;
    const [code, detail] = [`http-${status}`, this.#detail()];
    if (!LATER.includes(status) && !(status >= 500 && status <= 599)) throw new DeadLetter(code, detail);
    const afterMs = WITH_RETRY_AFTER.includes(status) ? this.#retryAfterMs() : 0;
    throw new Retry(code, detail, afterMs > 0 ? { afterMs } : {});
  }

  #retryAfterMs(): number {
    const value = (this.header("retry-after") ?? "").trim();
    return /^\d+$/.test(value) ? Math.min(Number(value), MAX_RETRY_AFTER_S) * 1000 : 0;
  }

  #detail(): string {
    const head = this.body.subarray(0, DETAIL_BYTES);
    let told = "";
    try {
      told = decode(head.subarray(0, head.length - unfinished(head)), true);
    } catch {
      // No text.
    }
    return `${this.#asked}: ${this.status}${told === "" ? "" : " "}${told}`;
  }
}

/** How many bytes at the end begin a character and do not end it. */
function unfinished(head: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, head.length); back++) {
    const byte = head[head.length - back] as number;
    if ((byte & 0xc0) === 0x80) continue;
    const size = byte >= 0xf5 || byte < 0xc2 ? 1 : byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    return size > back ? back : 0;
  }
  return 0;
}

/**
 * Why a request has no answer.
 *
 * - `denied`: the manifest does not grant it; nothing was sent.
 * - `invalid`: no such request can be sent; nothing was.
 * - `timeout`: no answer in time; it may have been done all the same.
 * - `unreachable`: no connection, or one that broke; it may have been done all the same.
 * - `too-large`: the answer's body is larger than the manifest's `limits.response-bytes`.
 */
export type HttpErrorCode = WireHttpError["tag"];

/**
 * A request was not answered. Not caught, it dead-letters the message under the code `http-denied`, `http-invalid` or `http-too-large`, or
 * retries it under `http-timeout` or `http-unreachable`.
 */
export class HttpError extends Error {
  override readonly name = "HttpError";
  /** So that `answer.ok` tells a response that is well from all else. */
  readonly ok = false;
  readonly code: HttpErrorCode;

  /** @internal */
  constructor(error: WireHttpError, asked: string) {
    super(`${asked}: ${"val" in error ? error.val : WORDS[error.tag]}`);
    this.code = error.tag;
  }

  /** Throws it. */
  orRetry(): never {
    throw this;
  }
}

const WORDS = {
  timeout: "no answer in time",
  "too-large": "the answer is larger than limits.response-bytes allows",
};

/** Makes the requests of all slots at the same time: one answer for each, in their order. */
export function fetchAll(host: Host, requests: WireRequest[]): Answer[] {
  if (requests.length === 0) return [];
  return host.http.fetchAll(requests).map((fetched, at) => {
    // What follows ? or # may be secret.
    const asked = `${requests[at]?.method} ${requests[at]?.url.split(/[?#]/, 1)[0]}`;
    return fetched.tag === "ok" ? new HttpResponse(fetched.val, asked) : new HttpError(fetched.val, asked);
  });
}

/** A message's request as the contract has it. */
export function requestOf(slot: number, request: HttpRequest | string): WireRequest {
  const given = typeof request === "string" ? { url: request } : request;
  if (typeof given !== "object" || given === null) throw new TypeError(`a request is an object or a URL, not ${kindOf(given)}`);
  const { url, headers = [], timeoutMs } = given;
  const list = pairsOf(headers).map(([name, value]): [string, Uint8Array] => [named(name, "a header"), content(value, "a header's value")]);
  const body = bodyOf(given, list);
  const { method = body === null ? "GET" : "POST" } = given;
  return {
    slot,
    method: named(method, "a method"),
    url: named(url, "a URL"),
    headers: list,
    body,
    timeoutMs: timeoutMs === undefined ? null : whole(timeoutMs, "timeoutMs", 0),
  };
}

function bodyOf({ body, json }: HttpRequest, headers: [string, Uint8Array][]): Uint8Array | null {
  if (json === undefined) return body === undefined || body === null ? null : content(body, "a body");
  if (body !== undefined) throw new TypeError("a request has a body or json, not both");
  const written: unknown = JSON.stringify(json);
  if (typeof written !== "string") throw new TypeError(`${kindOf(json)} is no JSON`);
  if (!headers.some(([name]) => name.toLowerCase() === "content-type")) headers.push(["content-type", bytes("application/json")]);
  return bytes(written);
}
