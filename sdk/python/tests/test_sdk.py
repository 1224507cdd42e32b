"""What the SDK does, with the host in memory. The handler does what its message says in one word."""

import json
import logging
import sys
import unittest
from collections.abc import Callable
from datetime import timedelta

import keyrail
from keyrail.testing import Host, Refused, Run

_SECOND = timedelta(seconds=1)
_log = logging.getLogger("orders")
_seen = keyrail.Counter("seen", labels={"kind": "test"})
_kept: list[keyrail.Context] = []


class _Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def _scan(ctx: keyrail.Context) -> None:
    for name in ("b", "a", "ab", "c", "\U0001f600", "\uffff"):
        ctx.state.put(name, name)
    assert ctx.state.scan("a") == [("a", b"a"), ("ab", b"ab")]
    assert ctx.state.scan(after="ab", limit=1) == [("b", b"b")]
    # In byte order, which is not that of UTF-16.
    assert [name for name, _ in ctx.state.scan(after="c")] == ["\uffff", "\U0001f600"]
    ctx.state.delete("b")
    assert ctx.state.scan("b") == []


def _tell(message: keyrail.Message, ctx: keyrail.Context) -> None:
    told: list[object] = [
        ctx.id,
        message.topic,
        len(ctx.headers),
        ctx.header("h"),
        ctx.header("none"),
    ]
    told += [ctx.follows_dead_letter, ctx.deadline_ms - ctx.now_ms, dict(ctx.config)]
    ctx.send(
        "out",
        repr(told),
        key="other",
        headers={"seen": "", "gone": None},
        forward_headers=True,
        timestamp_ms=5,
        delay=9 * _SECOND,
    )


def _keep(ctx: keyrail.Context) -> None:
    ctx.state.put("brief", "x", ttl=_SECOND)
    ctx.timers.set_after("remind", _SECOND, "pay")
    ctx.send("out", "kept")


def _keep_and_fail(ctx: keyrail.Context) -> None:
    _keep(ctx)
    assert ctx.state.get("brief") == b"x"
    raise keyrail.DeadLetter("asked", "100%")


def _send_times(ctx: keyrail.Context, times: int, value: bytes) -> None:
    for _ in range(times):
        ctx.send("out", value)


def _library(ctx: keyrail.Context) -> None:
    json.loads("{")


def _timer(message: keyrail.Message, ctx: keyrail.Context) -> None:
    assert message.topic is None
    if message.value == b"fail":
        raise keyrail.Retry("not-yet")
    ctx.send("out", f"{message.timer} {message.timestamp_ms} {message.offset}")


def _log_two(ctx: keyrail.Context) -> None:
    _log.debug("not kept")
    _log.warning("%d cups", 2, extra={"table": 7})


_WORDS: dict[str, Callable[[keyrail.Context], object]] = {
    "retry": lambda ctx: _raise(keyrail.Retry("later", "1 of 2", after=1.5 * _SECOND)),
    "outage": lambda ctx: _raise(keyrail.Retry("down", outage=True)),
    "bug": lambda ctx: ctx.config["missing"],
    "library": _library,
    "exit": lambda ctx: sys.exit(3),
    "memory": lambda ctx: _raise(MemoryError()),
    "unknown": lambda ctx: ctx.send("nowhere", None),
    "long": lambda ctx: ctx.state.put("x" * 2000, b""),
    "large": lambda ctx: ctx.state.put("x", bytes(513 << 10)),
    "much": lambda ctx: _send_times(ctx, 5, bytes(1 << 20)),
    "many": lambda ctx: _send_times(ctx, 1001, b""),
    "far": lambda ctx: ctx.send("out", b"", delay=timedelta(days=400)),
    "negative": lambda ctx: ctx.timers.set_after("t", -_SECOND),
    "no-text": lambda ctx: ctx.state.get("half a pair \ud800"),
    "no-name": lambda ctx: ctx.send(b"out", b""),  # type: ignore[arg-type]
    "no-value": lambda ctx: ctx.send("out", 5),  # type: ignore[arg-type]
    "no-code": lambda ctx: _raise(keyrail.Retry(5)),  # type: ignore[arg-type]
    "neither": lambda ctx: _raise(keyrail.Failure("neither")),
    "mute": lambda ctx: _raise(_Mute()),
    "scan": _scan,
    "keep": _keep,
    "keep-and-fail": _keep_and_fail,
    "cancel": lambda ctx: ctx.timers.cancel("remind"),
    "set-to-fail": lambda ctx: ctx.timers.set("remind", ctx.now_ms + 1, "fail"),
    "log": _log_two,
    "random": lambda ctx: ctx.send("out", f"{ctx.random()} {ctx.random()}"),
    "hold": _kept.append,
}


def _raise(error: Exception) -> None:
    raise error


@keyrail.handler
def handle(message: keyrail.Message, ctx: keyrail.Context) -> keyrail.Outcome | None:
    _seen.add()
    word = (message.value or b"").decode(errors="replace")
    if message.timer is not None:
        _timer(message, ctx)
    elif word == "skip":
        return keyrail.SKIP
    elif word == "number":
        return 5  # type: ignore[return-value]
    elif word == "tell":
        _tell(message, ctx)
    elif word in _WORDS:
        _WORDS[word](ctx)
    else:
        ctx.send("out", message.value)
    return None


@handle.on_open
def check(setup: keyrail.Setup) -> None:
    limit = setup.config.get("limit", "5")
    if limit == "none":
        raise keyrail.Refuse("there must be a limit")
    int(limit)


class Sdk(unittest.TestCase):
    def setUp(self) -> None:
        self.host = Host(handle, outputs=["out"])

    def failed(self, word: str, key: str | None = "k") -> keyrail.Failure:
        run = self.host.run(word, key=key)
        self.assertIsNotNone(run.failure, run.outcome)
        self.assertEqual(run.sent, ())
        assert run.failure is not None
        return run.failure

    def dead(self, word: str, key: str | None = "k") -> str:
        failure = self.failed(word, key)
        self.assertIsInstance(failure, keyrail.DeadLetter)
        return failure.code

    def retried(self, word: str) -> keyrail.Retry:
        failure = self.failed(word)
        assert isinstance(failure, keyrail.Retry)
        return failure

    def values(self, run: Run) -> list[bytes | None]:
        self.assertIsNone(run.failure)
        return [sent.value for sent in run.sent]

    def test_outcomes_carry_what_was_said(self) -> None:
        self.assertIs(self.host.run("x").outcome, keyrail.DONE)
        self.assertIs(self.host.run("skip").outcome, keyrail.SKIP)
        retry = self.retried("retry")
        self.assertEqual((retry.code, retry.detail), ("later", "1 of 2"))
        self.assertEqual((retry.after, retry.outage), (1.5 * _SECOND, False))
        self.assertEqual(str(retry), "later: 1 of 2")
        outage = self.retried("outage")
        self.assertEqual((outage.after, outage.outage, str(outage)), (None, True, "down"))
        self.assertEqual(self.dead("keep-and-fail"), "asked")

    def test_an_exception_is_a_retry_that_tells_its_place(self) -> None:
        bug = self.retried("bug")
        self.assertEqual(bug.code, "error")
        self.assertRegex(bug.detail, r"^KeyError: 'missing' \(test_sdk\.py:\d+ in <lambda>\)$")
        self.assertIsInstance(bug.__cause__, KeyError)
        # The handler's line, not the library's.
        self.assertRegex(self.retried("library").detail, r"^JSONDecodeError: .* in _library\)$")
        returned = self.retried("number").detail
        self.assertIn("TypeError: handle returned int, where it may return", returned)
        self.assertIn("a time of", self.retried("negative").detail)
        self.assertIn("Failure: neither (", self.retried("neither").detail)
        self.assertIn("_Mute: it fails to tell its words", self.retried("mute").detail)

    def test_what_cannot_cross_the_border_is_an_exception_on_this_side(self) -> None:
        self.assertIn("UnicodeEncodeError", self.retried("no-text").detail)
        self.assertIn("TypeError: a name is str, not bytes", self.retried("no-name").detail)
        self.assertIn(
            "TypeError: a value is bytes or str, not int", self.retried("no-value").detail
        )
        self.assertIn("TypeError: a code is str, not int", self.retried("no-code").detail)

    def test_what_the_host_refuses_alike_each_time_is_a_dead_letter(self) -> None:
        self.assertEqual(self.dead("unknown"), "unknown-output")
        self.assertEqual(self.dead("scan", key=None), "no-key")
        self.assertEqual(self.dead("long"), "too-large")
        self.assertEqual(self.dead("large"), "too-large")
        self.assertEqual(self.dead("much"), "over-quota")
        self.assertEqual(self.dead("many"), "over-quota")
        far = self.retried("far")
        self.assertEqual(far.code, "error")
        self.assertRegex(far.detail, r"^HostError: .* are the most, that is 366 days \(test_sdk")

    def test_the_program_s_end_is_no_outcome_and_undoes_the_message(self) -> None:
        with self.assertRaises(SystemExit):
            self.host.run("exit")
        with self.assertRaises(MemoryError):
            self.host.run("memory")
        self.assertEqual(self.values(self.host.run("x")), [b"x"])

    def test_null_and_empty_stay_apart(self) -> None:
        (sent,) = self.host.run(None).sent
        self.assertEqual((sent.key, sent.value), (None, None))
        (sent,) = self.host.run(b"a\0\xff", key="").sent
        self.assertEqual((sent.key, sent.value), (b"", b"a\0\xff"))

    def test_state_is_of_its_key_and_ends_in_time(self) -> None:
        self.assertEqual(self.values(self.host.run("keep", key="k")), [b"kept"])
        self.assertEqual(self.host.state("k", "brief"), b"x")
        self.assertIsNone(self.host.state("other", "brief"))
        self.host.now_ms += 1000
        self.assertIsNone(self.host.state("k", "brief"))
        self.assertIs(self.host.run("scan", key="k").outcome, keyrail.DONE)
        self.assertIsNone(self.host.state("k", "b"))
        self.host.put_state("k", "b", "put")
        self.assertEqual(self.host.state("k", "b"), b"put")

    def test_what_a_failed_message_staged_is_undone(self) -> None:
        self.host.put_state("k", "brief", "before")
        self.assertEqual(self.dead("keep-and-fail"), "asked")
        self.assertEqual(self.host.state("k", "brief"), b"before")
        self.assertIsNone(self.host.timer("k", "remind"))

    def test_timers_come_when_they_are_due(self) -> None:
        self.host.run("keep", key="k")
        timer = self.host.timer("k", "remind")
        assert timer is not None
        self.assertEqual((timer.at_ms, timer.payload), (1_700_000_001_000, b"pay"))
        self.assertEqual(self.host.advance(timedelta(milliseconds=999)), [])
        (run,) = self.host.advance(timedelta(milliseconds=1))
        self.assertEqual(self.values(run), [b"remind 1700000001000 0"])
        self.assertEqual(self.host.advance(_SECOND), [])
        self.host.run("keep", key="k")
        self.assertIs(self.host.run("cancel", key="k").outcome, keyrail.DONE)
        self.assertIsNone(self.host.timer("k", "remind"))

    def test_a_timer_that_fails_stays(self) -> None:
        self.host.run("set-to-fail", key="k")
        for _ in range(2):
            (run,) = self.host.advance(_SECOND)
            self.assertEqual(str(run.failure), "not-yet")

    def test_the_context_tells_of_the_message(self) -> None:
        host = Host(handle, outputs=["out"], config={"limit": "7"})
        headers = [("h", "first"), ("n", None), ("h", "last")]
        (sent,) = host.run("tell", headers=headers, follows_dead_letter=True).sent
        told = ["in/0/0", "in", 3, b"last", None, True, 5000, {"limit": "7"}]
        self.assertEqual(sent.value, repr(told).encode())
        self.assertEqual((sent.key, sent.timestamp_ms, sent.delay_ms), (b"other", 5, 9000))
        self.assertEqual([header.name for header in sent.headers], ["h", "n", "h", "seen", "gone"])
        self.assertEqual([header.value for header in sent.headers[3:]], [b"", None])

    def test_chance_is_that_of_the_real_host(self) -> None:
        for _ in range(41):
            self.host.run("x")
        expected = b"6234505094295872582 1184959377266346791"
        self.assertEqual(self.values(self.host.run("random")), [expected])

    def test_a_context_ends_with_its_message(self) -> None:
        self.host.run("hold")
        with self.assertRaisesRegex(RuntimeError, "has ended"):
            _kept.pop().send("out", "too late")

    def test_open_may_refuse(self) -> None:
        with self.assertRaisesRegex(Refused, "^there must be a limit$"):
            Host(handle, config={"limit": "none"}).open()
        with self.assertRaisesRegex(Refused, r"^ValueError: .*'many' \(test_sdk\.py:\d+ in check"):
            Host(handle, config={"limit": "many"}).run("x")

    def test_the_log_is_that_of_the_module(self) -> None:
        root = logging.getLogger()
        before = (root.level, list(root.handlers))
        self.host.run("log", key="k")
        (line,) = self.host.logs
        self.assertEqual((line.level, line.message), (logging.WARNING, "2 cups"))
        fields = {"module": "orders", "partition": "0", "offset": "0", "table": "7"}
        self.assertEqual(line.fields, fields)
        self.assertEqual((root.level, list(root.handlers)), before)

    def test_metrics_are_not_undone(self) -> None:
        self.failed("bug")
        self.host.run("x")
        self.assertEqual(self.host.observed("seen"), [1, 1])
        self.assertEqual(self.host.observed("none"), [])
        with self.assertRaisesRegex(RuntimeError, "no host is there"):
            _seen.add()

    def test_a_handler_is_a_plain_function(self) -> None:
        async def later(message: keyrail.Message, ctx: keyrail.Context) -> None: ...

        with self.assertRaisesRegex(TypeError, "later is async"):
            keyrail.handler(later)  # type: ignore[arg-type]
        self.assertEqual(handle.__name__, "handle")


if __name__ == "__main__":
    unittest.main()
