// Who answers requests over HTTP in tests.

/** Methods that change nothing. */
const SAFE = ["GET", "HEAD", "OPTIONS", "TRACE"];
const IDEMPOTENCY_KEY = "idempotency-key";
const NO_ANSWER = "the test gives it no answer: say host.answer(method, url, answer), or host.answerWith(server) for all";
/** By the contract's numbers. */
const ERRORS = ["denied", "invalid", "timeout", "unreachable", "too-large"];

const bytesOf = (payload) => (typeof payload === "string" ? new TextEncoder().encode(payload) : payload);

export class Outside {
  requests = [];
  server = null;
  #table = new Map();
  #calls = 0;

  answer(method, url, answer) {
    this.#table.set(`${method} ${url}`, answer);
  }

  /** Answers requests of one call: `{ status, headers, body }`, or the number of an error with its words. */
  fetchAll(requests) {
    const call = this.#calls++;
    return requests.map(({ running, ...request }) => this.#fetch(running, request, call));
  }

  #fetch(running, { method, url, headers, body, timeoutMs }, call) {
    const { id } = running;
    const isSafe = SAFE.includes(method);
    if (!isSafe) running.changing += 1;
    const own = headers.some(([name]) => name.toLowerCase() === IDEMPOTENCY_KEY);
    const key = isSafe || running.changing === 1 ? id : `${id}-${running.changing}`;
    const made = { id, method, url, headers: own ? headers : [...headers, [IDEMPOTENCY_KEY, bytesOf(key)]], body, timeoutMs, call };
    this.requests.push(made);
    const answer = this.#table.get(`${method} ${url}`) ?? this.server?.(made);
    if (answer === undefined) return { error: 0, words: NO_ANSWER };
    if (typeof answer !== "string") {
      const { status = 200, headers = {}, body = "" } = answer;
      return { status, headers: Object.entries(headers).map(([name, value]) => [name.toLowerCase(), bytesOf(value)]), body: bytesOf(body) };
    }
    if (!ERRORS.includes(answer)) throw new Error(`an answer is no ${answer}, but one of ${ERRORS.join(", ")}`);
    return { error: ERRORS.indexOf(answer), words: `the test says ${answer}` };
  }
}
