"""HTTP requests, with the host in memory."""

import unittest
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import keyrail
from keyrail._http import Outgoing, Reply, Unanswered
from keyrail._memory import MemoryHost
from keyrail.testing import Host, Run

_URL = "https://api.example.com/pay?token=secret#top"
_NAMED = "https://api.example.com/pay"
_Do = Callable[[keyrail.Context], object]


def _host(do: _Do) -> Host:
    @keyrail.handler
    def handle(message: keyrail.Message, ctx: keyrail.Context) -> None:
        do(ctx)

    return Host(handle, outputs=["out"])


def _ran(do: _Do, answer: keyrail.Answer | None = None) -> Run:
    host = _host(do)
    if answer is not None:
        host.answer_with(lambda _: answer)
    return host.run("x", key="k")


def _required(ctx: keyrail.Context) -> None:
    ctx.fetch(_URL).raise_for_status()


def _failure(do: _Do, answer: keyrail.Answer | None = None) -> keyrail.Failure:
    failure = _ran(do, answer).failure
    assert failure is not None
    return failure


class Statuses(unittest.TestCase):
    def test_a_status_says_what_becomes_of_the_message(self) -> None:
        for status in (200, 204, 299):
            self.assertIs(_ran(_required, keyrail.Response(status)).outcome, keyrail.DONE)
        for status in (408, 425, 429, 500, 503, 599):
            failure = _failure(_required, keyrail.Response(status))
            assert isinstance(failure, keyrail.Retry)
            self.assertEqual(str(failure), f"http-{status}: GET {_NAMED}: {status}")
            self.assertEqual((failure.after, failure.outage), (None, False))
        for status in (199, 300, 301, 400, 404, 499, 600):
            failure = _failure(_required, keyrail.Response(status))
            self.assertIsInstance(failure, keyrail.DeadLetter)
            self.assertEqual(str(failure), f"http-{status}: GET {_NAMED}: {status}")

    def test_a_retry_after_of_429_and_503_is_the_wait(self) -> None:
        cases = [(429, "7", 7), (503, " 3600 ", 3600), (503, "3601", 3600), (503, "9" * 5000, 3600)]
        cases += [(503, "007", 7)]
        odd = ("0", "", "-1", "1.5", "\u0667", "Wed, 21 Oct 2026 07:28:00 GMT")
        cases += [(503, value, 0) for value in odd]
        cases += [(500, "7", 0)]
        for status, value, seconds in cases:
            failure = _failure(_required, keyrail.Response(status, headers={"Retry-After": value}))
            assert isinstance(failure, keyrail.Retry)
            expected = timedelta(seconds=seconds) if seconds else None
            self.assertEqual(failure.after, expected, (status, value[:9]))

    def test_the_detail_has_the_first_200_bytes_of_a_text(self) -> None:
        def detail(body: bytes) -> str:
            said = _failure(_required, keyrail.Response(500, body=body)).detail
            return said.removeprefix(f"GET {_NAMED}: 500")

        self.assertEqual(detail(b""), "")
        self.assertEqual(detail(b"no room"), " no room")
        self.assertEqual(detail(b"x" * 201), " " + "x" * 200)
        self.assertEqual(detail(b"x" * 199 + "\u00e9".encode()), " " + "x" * 199)
        self.assertEqual(detail(b"x\xff"), "")
        self.assertEqual(detail(b"x" * 200 + b"\xff"), " " + "x" * 200)

    def test_a_response_tells_its_parts(self) -> None:
        response = keyrail.Response(201, headers=[("X-A", "1"), ("x-a", "2")], json={"a": [1]})
        self.assertEqual((response.status, response.ok), (201, True))
        self.assertEqual((response.text, response.body), ('{"a": [1]}', b'{"a": [1]}'))
        self.assertEqual(response.json(), {"a": [1]})
        self.assertEqual((response.header("X-a"), response.header("x-b")), ("2", None))
        self.assertEqual(response.headers, (("x-a", "1"), ("x-a", "2")))
        self.assertEqual(repr(response), "<Response 201, 10 bytes>")
        broken = _failure(lambda ctx: ctx.fetch(_URL).json(), keyrail.Response(body="{"))
        self.assertEqual(broken.code, "error")
        self.assertRegex(broken.detail, r"^JSONDecodeError: .* \(test_http\.py:\d+ in <lambda>\)$")


class Errors(unittest.TestCase):
    def test_an_error_that_is_not_caught_becomes_an_outcome(self) -> None:
        large = "the answer is larger than limits.response-bytes allows"
        cases: list[tuple[keyrail.HttpError, type[keyrail.Failure], str]] = [
            (keyrail.HttpError("denied", "not granted"), keyrail.DeadLetter, "not granted"),
            (keyrail.HttpError("invalid", "no URL"), keyrail.DeadLetter, "no URL"),
            (keyrail.HttpError("too-large"), keyrail.DeadLetter, large),
            (keyrail.HttpError("timeout"), keyrail.Retry, "no answer in time"),
            (keyrail.HttpError("unreachable", "refused"), keyrail.Retry, "refused"),
        ]
        for error, kind, words in cases:
            failure = _failure(_required, error)
            self.assertIs(type(failure), kind)
            self.assertEqual(str(failure), f"http-{error.code}: GET {_NAMED}: {words}")
            self.assertFalse(getattr(failure, "outage", False))
            self.assertIsInstance(failure.__cause__, keyrail.HttpError)

    def test_an_error_can_be_caught_and_an_answer_that_is_one_raises_itself(self) -> None:
        def do(ctx: keyrail.Context) -> None:
            with self.assertRaises(keyrail.HttpError) as caught:
                ctx.fetch(_URL)
            self.assertEqual(caught.exception.code, "timeout")
            (answer,) = ctx.fetch_all([_URL])
            self.assertFalse(answer.ok)
            answer.raise_for_status()

        self.assertEqual(_failure(do, keyrail.HttpError("timeout")).code, "http-timeout")

    def test_a_request_without_an_answer_says_how_to_give_one(self) -> None:
        failure = _failure(_required)
        self.assertEqual(failure.code, "http-denied")
        self.assertIn("Host.answer", failure.detail)

    def test_what_cannot_cross_the_border_is_an_exception_on_this_side(self) -> None:
        odd: list[Any] = [
            5,
            None,
            keyrail.Request(b"https://a/"),  # type: ignore[arg-type]
            keyrail.Request(_URL, method=5),  # type: ignore[arg-type]
            keyrail.Request(_URL, body=5),  # type: ignore[arg-type]
            keyrail.Request(_URL, body="x", json=1),
            keyrail.Request(_URL, json=object()),
            keyrail.Request(_URL, headers={"a": None}),  # type: ignore[arg-type]
            keyrail.Request(_URL, timeout=timedelta(seconds=-1)),
            "half a pair \ud800",
        ]
        for request in odd:
            failure = _failure(partial(keyrail.Context.fetch, request=request), keyrail.Response())
            self.assertEqual(failure.code, "error", repr(request))
            self.assertRegex(failure.detail, "^(Type|Value|UnicodeEncode)Error: ")


class Requests(unittest.TestCase):
    def asked(self, request: keyrail.Request | str) -> object:
        host = _host(lambda ctx: ctx.fetch(request))
        host.answer_with(lambda _: keyrail.Response())
        self.assertIs(host.run("x").outcome, keyrail.DONE)
        (made,) = host.requests
        self.assertEqual((made.id, made.slot, made.url), ("in/0/0", 0, _URL))
        self.assertEqual(made.headers[-1], ("idempotency-key", b"in/0/0"))
        return made.method, made.headers[:-1], made.body, made.timeout_ms

    def test_a_request_is_sent_as_it_was_told(self) -> None:
        self.assertEqual(self.asked(_URL), ("GET", (), None, None))
        self.assertEqual(self.asked(keyrail.Request(_URL, body="")), ("POST", (), b"", None))
        json = keyrail.Request(_URL, json={"a": 1}, timeout=timedelta(microseconds=4001))
        kind = ("content-type", b"application/json")
        self.assertEqual(self.asked(json), ("POST", (kind,), b'{"a": 1}', 5))
        own = keyrail.Request(_URL, method="PUT", headers={"Content-Type": "text/x"}, json=False)
        self.assertEqual(self.asked(own), ("PUT", (("Content-Type", b"text/x"),), b"false", None))
        twice = keyrail.Request(_URL, headers=[("a", "1"), ("a", b"2")])
        self.assertEqual(self.asked(twice), ("GET", (("a", b"1"), ("a", b"2")), None, None))

    def test_requests_of_one_call_are_answered_in_their_order(self) -> None:
        def do(ctx: keyrail.Context) -> None:
            own = keyrail.Request(
                "https://a/2", method="POST", headers={"Idempotency-Key": "mine"}
            )
            third = keyrail.Request("https://a/3", body="x")
            for answer in ctx.fetch_all(["https://a/1", own, third, "https://a/4"]):
                told = answer.code if isinstance(answer, keyrail.HttpError) else answer.text
                ctx.send("out", told)
            self.assertEqual(ctx.fetch_all([]), [])

        host = _host(do)
        host.answer("POST", "https://a/3", keyrail.HttpError("unreachable"))
        host.answer_with(lambda made: keyrail.Response(body=made.url[-1]))
        sent = [sent.value for sent in host.run("x").sent]
        self.assertEqual(sent, [b"1", b"2", b"unreachable", b"4"])
        keys = [made.header("Idempotency-key") for made in host.requests]
        self.assertEqual(keys, [b"in/0/0", b"mine", b"in/0/0-2", b"in/0/0"])


def _prepare(message: keyrail.Message, ctx: keyrail.Context) -> list[keyrail.Request | str] | None:
    """Asks once for each character of the value."""
    word = (message.value or b"").decode()
    ctx.send("out", "prepared")
    if word == "-":
        raise keyrail.DeadLetter("not-this-one")
    if word == "one":
        return _URL  # type: ignore[return-value]
    return [f"https://a/{name}" for name in word] if word else None


@keyrail.handler(prepare=_prepare)
def _handle(
    message: keyrail.Message, ctx: keyrail.Context, answers: Sequence[keyrail.Answer]
) -> None:
    for answer in answers:
        ctx.send("out", answer.raise_for_status().body)


class _Server(MemoryHost):
    """Answers with the URL, and keeps the calls."""

    def __init__(self) -> None:
        super().__init__(frozenset(["out"]))
        self.calls: list[list[tuple[int, str]]] = []
        self.staged: list[tuple[int, bytes | None]] = []

    def fetch_all(self, requests: list[Outgoing]) -> list[Reply | Unanswered]:
        self.calls.append([(request.slot, request.url[-1]) for request in requests])
        return [Reply(200, [], request.url[-1].encode()) for request in requests]

    def send(self, slot: int, *given: Any) -> None:
        self.staged.append((slot, given[2]))


class TwoSteps(unittest.TestCase):
    def test_what_is_prepared_is_asked_and_handled_with_its_answers(self) -> None:
        host = Host(_handle, outputs=["out"])
        host.answer("GET", "https://a/x", keyrail.HttpError("timeout"))
        host.answer_with(lambda made: keyrail.Response(body=made.url))
        sent = [sent.value for sent in host.run("bc").sent]
        self.assertEqual(sent, [b"prepared", b"https://a/b", b"https://a/c"])
        self.assertEqual([sent.value for sent in host.run("").sent], [b"prepared"])
        refused = host.run("-")
        self.assertEqual((str(refused.failure), refused.sent), ("not-this-one", ()))
        self.assertEqual(len(host.requests), 2)
        self.assertEqual(getattr(host.run("x").failure, "code", None), "http-timeout")
        alone = host.run("one").failure
        self.assertIn("prepare returns a list of requests", str(alone))

    def test_the_requests_of_a_batch_are_made_in_one_call(self) -> None:
        server, setup = _Server(), keyrail.Setup("h", ("in",), ("out",), {}, 9)
        values = [b"ab", b"-", b"", b"c"]
        messages = [keyrail.Message("in", None, 0, 0, 0, None, value, 1) for value in values]
        outcomes = _handle._run_all(server, messages, setup)
        told = [getattr(outcome, "code", outcome) for outcome in outcomes]
        self.assertEqual(told, [keyrail.DONE, "not-this-one", keyrail.DONE, keyrail.DONE])
        self.assertEqual(server.calls, [[(0, "a"), (0, "b"), (3, "c")]])
        prepared = [(slot, b"prepared") for slot in range(4)]
        self.assertEqual(server.staged, [*prepared, (0, b"a"), (0, b"b"), (3, b"c")])
        _handle._run_all(server, messages[2:3], setup)
        self.assertEqual(len(server.calls), 1, "no request, no call")

    def test_a_step_is_a_plain_function(self) -> None:
        async def later(message: keyrail.Message, ctx: keyrail.Context) -> None: ...

        with self.assertRaisesRegex(TypeError, "later is async"):
            keyrail.handler(prepare=later)(lambda *_: None)  # type: ignore[arg-type]

    def test_called_it_is_the_function_itself(self) -> None:
        host = _host(lambda ctx: _handle(_MESSAGE, ctx, [keyrail.Response(body="y")]))
        self.assertEqual([sent.value for sent in host.run("x").sent], [b"y"])


_MESSAGE = keyrail.Message("in", None, 0, 0, 0, None, b"x", 1)

if __name__ == "__main__":
    unittest.main()
