import { hold, mark, OUT, putText, release, takeBytes, takeText } from "./abi";
import { httpFetchAll } from "./contract";
import { deadLetter, HostError, Outcome, retry } from "./outcome";
import { bytes, head, text } from "./text";

const REQUEST_BYTES: usize = 56;
const ANSWER_BYTES: usize = 24;
/** Of an answer whose status is no success, so much of the body is told. */
const TOLD_BYTES: i32 = 200;
/** The longest wait that a `retry-after` gets. */
const MOST_WAIT_S: u64 = 3600;
const CODES: StaticArray<string> = ["http-denied", "http-invalid", "http-timeout", "http-unreachable", "http-too-large"];
const TIMEOUT: i32 = 2;
const TOO_LARGE: i32 = 4;

/** A header of a request or an answer. */
export class HttpHeader {
  constructor(
    public readonly name: string,
    public readonly value: Uint8Array,
  ) {}
}

/** A request: a `GET`, or a `POST` if it has a body, unless told otherwise. */
export class Request {
  headers: HttpHeader[] = [];
  body: Uint8Array | null = null;
  timeoutMs: u64 = 0;
  hasTimeout: bool = false;
  private own: string | null = null;

  /** The whole URL: `https://HOST/PATH`. */
  constructor(public readonly url: string) {}

  /** The method that is sent. */
  get method(): string {
    const own = this.own;
    if (own !== null) return own;
    return this.body === null ? "GET" : "POST";
  }

  withMethod(method: string): this {
    this.own = method;
    return this;
  }

  /**
   * Adds a header. Names may repeat. The host adds `idempotency-key`, the same when the message runs again, and `traceparent` and
   * `tracestate`, unless they are here.
   */
  withHeader(name: string, value: string): this {
    this.headers.push(new HttpHeader(name, bytes(value)));
    return this;
  }

  withBody(body: Uint8Array): this {
    this.body = body;
    return this;
  }

  withText(body: string): this {
    return this.withBody(bytes(body));
  }

  /** Until the answer's last byte has come; unless set, and at most: `limits.timeout` of the manifest. */
  withTimeout(timeoutMs: u64): this {
    this.timeoutMs = timeoutMs;
    this.hasTimeout = true;
    return this;
  }

  /** For people. What follows `?` or `#` may be secret. */
  get title(): string {
    let end = 0;
    while (end < this.url.length && this.url.charCodeAt(end) != 0x3f && this.url.charCodeAt(end) != 0x23) end++;
    return `${this.method} ${this.url.substring(0, end)}`;
  }
}

/** The calls of one message: its slot, and the first error that nobody took. */
export class Calls {
  private error: HostError | null = null;

  constructor(public readonly slot: u32) {}

  takeError(): HostError | null {
    const error = this.error;
    this.error = null;
    return error;
  }

  get hasError(): bool {
    return this.error !== null;
  }

  /** Keeps an error, unless one is kept already. */
  keep(error: HostError): void {
    if (this.error === null) this.error = error;
  }
}

/** An answer, whatever its status. */
export class Response {
  constructor(
    private readonly calls: Calls,
    private readonly title: string,
    /** As in HTTP: 200. */
    public readonly status: i32,
    /** In order, their names in lower case. */
    public readonly headers: HttpHeader[],
    public readonly body: Uint8Array,
  ) {}

  /** Whether the status is from 200 to 299. */
  get ok(): bool {
    return this.status >= 200 && this.status <= 299;
  }

  /** The value of the last header of that name, in any case; or null. */
  header(name: string): Uint8Array | null {
    const asked = name.toLowerCase();
    for (let at = this.headers.length - 1; at >= 0; at--) {
      if (this.headers[at].name == asked) return this.headers[at].value;
    }
    return null;
  }

  /** The body as text. */
  text(): string {
    return text(this.body);
  }

  /**
   * The same response if its status is 2xx; else null, and the message fails, unless the error is taken: 408, 425, 429 and 5xx are
   * a retry, of 429 and 503 after the seconds of `retry-after`, at most an hour; any other status is a dead letter. Both have the
   * code `http-STATUS`.
   */
  orRetry(): Response | null {
    if (this.ok) return this;
    const status = this.status;
    const told = head(this.body, TOLD_BYTES);
    const code = `http-${status}`;
    const detail = `${this.title}: ${status}${told == "" ? "" : " "}${told}`;
    const again = status == 408 || status == 425 || status == 429 || (status >= 500 && status <= 599);
    const outcome = again ? retry(code, detail) : deadLetter(code, detail);
    const waitS = status == 429 || status == 503 ? this.waitS() : 0;
    if (waitS > 0) outcome.after(waitS * 1000);
    this.calls.keep(new HostError(code, detail, outcome));
    return null;
  }

  /** The seconds of `retry-after`; 0: it says none. */
  private waitS(): u64 {
    const asked = this.header("retry-after");
    const digits = asked === null ? "" : text(asked).trim();
    let seconds: u64 = 0;
    for (let at = 0; at < digits.length; at++) {
      const unit = digits.charCodeAt(at);
      if (unit < 0x30 || unit > 0x39) return 0;
      seconds = min(seconds * 10 + <u64>(unit - 0x30), MOST_WAIT_S);
    }
    return seconds;
  }
}

/** What came of a request. */
export class Answer {
  constructor(
    private readonly calls: Calls,
    /** Null: there is none, and `error` says why. */
    public readonly response: Response | null,
    public readonly error: HostError | null,
  ) {}

  /** The response; if there is none, null, and the message fails by the error, unless it is taken. */
  get(): Response | null {
    const error = this.error;
    if (error !== null) this.calls.keep(error);
    return this.response;
  }

  /** The same, and what `Response.orRetry` says of its status. */
  orRetry(): Response | null {
    const response = this.get();
    return response === null ? null : response.orRetry();
  }
}

/** A request, and on behalf of which message. */
export class Asked {
  constructor(
    public readonly calls: Calls,
    public readonly request: Request,
  ) {}
}

/** Makes them at the same time, in one call of the host: an answer for each, in their order. */
export function fetchAll(all: Asked[]): Answer[] {
  const answers: Answer[] = [];
  if (all.length == 0) return answers;
  const since = mark();
  const requests = hold(heap.alloc(<usize>all.length * REQUEST_BYTES));
  for (let i = 0; i < all.length; i++) write(requests + <usize>i * REQUEST_BYTES, all[i]);
  httpFetchAll(requests, all.length, OUT);
  let at = <usize>load<u32>(OUT);
  for (let i = 0; i < all.length; i++) {
    answers.push(read(at, all[i]));
    at += ANSWER_BYTES;
  }
  release(since);
  return answers;
}

function write(at: usize, asked: Asked): void {
  const request = asked.request;
  store<u32>(at, asked.calls.slot);
  putText(at + 4, request.method);
  putText(at + 12, request.url);
  const headers = hold(heap.alloc(max(request.headers.length, 1) * 16));
  for (let i = 0; i < request.headers.length; i++) {
    const header = request.headers[i];
    putText(headers + i * 16, header.name);
    store<u32>(headers + i * 16, <u32>header.value.dataStart, 8);
    store<u32>(headers + i * 16, header.value.length, 12);
  }
  store<u32>(at, <u32>headers, 20);
  store<u32>(at, request.headers.length, 24);
  const body = request.body;
  store<u8>(at, body === null ? 0 : 1, 28);
  store<u32>(at, body === null ? 0 : <u32>body.dataStart, 32);
  store<u32>(at, body === null ? 0 : body.length, 36);
  store<u8>(at, request.hasTimeout ? 1 : 0, 40);
  store<u64>(at, request.timeoutMs, 48);
}

function read(at: usize, asked: Asked): Answer {
  const title = asked.request.title;
  if (load<u8>(at) == 1) {
    const number = <i32>load<u8>(at, 4);
    let why = "no answer in time";
    if (number == TOO_LARGE) why = "the answer is larger than limits.response-bytes allows";
    else if (number != TIMEOUT) why = takeText(at + 8);
    return new Answer(asked.calls, null, new HostError(CODES[number], `${title}: ${why}`));
  }
  const headers: HttpHeader[] = [];
  let header = <usize>load<u32>(at, 8);
  for (let left = load<u32>(at, 12); left > 0; left--) {
    headers.push(new HttpHeader(takeText(header), takeBytes(header + 8)));
    header += 16;
  }
  return new Answer(asked.calls, new Response(asked.calls, title, load<u16>(at, 4), headers, takeBytes(at + 16)), null);
}
