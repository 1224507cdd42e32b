"""The conformance handler by the Python SDK: `tests/conformance/README.md` tells what each command does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import keyrail

_log = logging.getLogger(__name__)
_LEVELS = {
    "trace": 5,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_COUNTERS: dict[str, keyrail.Counter] = {}
# What the message asks by `ask`, and what came of what its first step asked.
_asked: list[keyrail.Request] = []
_answered: list[keyrail.Answer] = []


def prepare(message: keyrail.Message, ctx: keyrail.Context) -> list[keyrail.Request]:
    requests = []
    for line in (ctx.header("ask") or b"").decode().split("\n"):
        verb, _, rest = line.partition(" ")
        if verb == "dead":
            _dead(message, ctx, rest)
        elif line:
            requests.append(_request(line))
    return requests


@keyrail.handler(prepare=prepare)
def handle(
    message: keyrail.Message, ctx: keyrail.Context, answers: Sequence[keyrail.Answer]
) -> keyrail.Outcome:
    _asked.clear()
    _answered[:] = answers
    do = ctx.header("do")
    for line in ["describe"] if do is None else do.decode().split("\n"):
        if not line:
            continue
        name, _, rest = line.partition(" ")
        if name == "skip" and not rest:
            return keyrail.SKIP
        command = _COMMANDS.get(name)
        if command is None:
            raise keyrail.DeadLetter("unknown-command", line)
        command(message, ctx, rest)
    return keyrail.DONE


@handle.on_open
def check(setup: keyrail.Setup) -> None:
    if "refuse" in setup.config:
        raise keyrail.Refuse(setup.config["refuse"])


def _ms(text: str) -> timedelta:
    return timedelta(milliseconds=int(text))


def _or_null(value: bytes | str | None) -> str:
    return "null" if value is None else value if isinstance(value, str) else value.decode()


def _sized(value: bytes | None) -> str:
    if value is None:
        return "null"
    hashed = 2166136261
    for byte in value:
        hashed = (hashed ^ byte) * 16777619 & 0xFFFFFFFF
    return f"{len(value)} {hashed:08x}"


def _describe(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    source = f"timer {message.timer}" if message.topic is None else f"topic {message.topic}"
    headers = ctx.headers
    lines = [
        f"from {source}",
        f"at {message.partition}/{message.offset} {message.timestamp_ms}",
        f"attempt {message.attempt}",
        f"id {ctx.id}",
        f"follows {'yes' if ctx.follows_dead_letter else 'no'}",
        f"key {_sized(message.key)}",
        f"value {_sized(message.value)}",
        f"headers {len(headers)}",
    ]
    lines += [f"header {name} {_sized(value)}" for name, value in headers[:3]]
    ctx.send("out", "\n".join(lines))


def _send(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    to, _, text = rest.partition(" ")
    ctx.send(to, text)


def _caught(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    try:
        ctx.send(rest, "x")
    except keyrail.HostError as error:
        ctx.send("out", f"caught {error.code}")
    else:
        ctx.send("out", "caught nothing")


def _record(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    ctx.send(
        "out",
        "v2",
        key="k2",
        headers=[("a", "1"), ("b", None), ("a", "2")],
        forward_headers=True,
        timestamp_ms=1234567890123,
    )


def _later(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    ms, _, text = rest.partition(" ")
    ctx.send("out", text, delay=_ms(ms))


def _put(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    name, _, text = rest.partition(" ")
    ctx.state.put(name, text)


def _put_for(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    ms, _, rest = rest.partition(" ")
    name, _, text = rest.partition(" ")
    ctx.state.put(name, text, ttl=_ms(ms))


def _scan(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    prefix, limit, *after = rest.split(" ")
    prefix = "" if prefix == "-" else prefix
    found = ctx.state.scan(prefix, after=after[0] if after else None, limit=int(limit))
    ctx.send("out", "scan " + ",".join(f"{name}={value.decode()}" for name, value in found))


def _timer(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    name, _, rest = rest.partition(" ")
    ms, _, text = rest.partition(" ")
    ctx.timers.set_after(name, _ms(ms), text)


def _logged(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    level, _, text = rest.partition(" ")
    _log.log(_LEVELS[level], "%s", text)


def _count(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    if rest not in _COUNTERS:
        _COUNTERS[rest] = keyrail.Counter(rest)
    _COUNTERS[rest].add(1)


def _until(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    attempts, _, code = rest.partition(" ")
    if message.attempt <= int(attempts):
        raise keyrail.Retry(code, f"attempt {message.attempt}")


def _retry(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    code, _, text = rest.partition(" ")
    raise keyrail.Retry(code, text)


def _after(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    ms, _, rest = rest.partition(" ")
    code, _, text = rest.partition(" ")
    raise keyrail.Retry(code, text, after=_ms(ms))


def _outage(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    code, _, text = rest.partition(" ")
    raise keyrail.Retry(code, text, outage=True)


def _dead(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    code, _, text = rest.partition(" ")
    raise keyrail.DeadLetter(code, text)


def _raise(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    raise RuntimeError(rest)


def _request(line: str) -> keyrail.Request:
    """`METHOD URL [TEXT]`."""
    method, _, rest = line.partition(" ")
    url, _, text = rest.partition(" ")
    return keyrail.Request(url, method=None if method == "-" else method, body=text or None)


def _ask_header(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    name, _, text = rest.partition(" ")
    last = _asked[-1]
    _asked[-1] = replace(last, headers=[*last.headers, (name, text)])


def _ask_timeout(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    _asked[-1] = replace(_asked[-1], timeout=_ms(rest))


def _told(ctx: keyrail.Context, answers: Sequence[keyrail.Answer]) -> None:
    lines = [
        f"error {answer.code}".encode()
        if isinstance(answer, keyrail.HttpError)
        else f"{answer.status} ".encode() + answer.body
        for answer in answers
    ]
    ctx.send("out", b"\n".join(lines))


def _fetch(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    _told(ctx, ctx.fetch_all(_asked))
    _asked.clear()


def _ok(message: keyrail.Message, ctx: keyrail.Context, rest: str) -> None:
    _told(ctx, [ctx.fetch(_request(rest)).raise_for_status()])


_COMMANDS: dict[str, Callable[[keyrail.Message, keyrail.Context, str], None]] = {
    "describe": _describe,
    "send": _send,
    "caught": _caught,
    "record": _record,
    "tombstone": lambda message, ctx, rest: ctx.send("out", None),
    "keyless": lambda message, ctx, rest: ctx.send("out", b"", key=None),
    "later": _later,
    "put": _put,
    "put-for": _put_for,
    "delete": lambda message, ctx, rest: ctx.state.delete(rest),
    "get": lambda message, ctx, rest: ctx.send(
        "out", f"get {rest} {_or_null(ctx.state.get(rest))}"
    ),
    "scan": _scan,
    "timer": _timer,
    "cancel": lambda message, ctx, rest: ctx.timers.cancel(rest),
    "header": lambda message, ctx, rest: ctx.send(
        "out", f"header {rest} {_or_null(ctx.header(rest))}"
    ),
    "now": lambda message, ctx, rest: ctx.send("out", f"now {ctx.now_ms}"),
    "deadline": lambda message, ctx, rest: ctx.send(
        "out", f"deadline {ctx.deadline_ms - ctx.now_ms}"
    ),
    "random": lambda message, ctx, rest: ctx.send("out", f"random {ctx.random()} {ctx.random()}"),
    "config": lambda message, ctx, rest: ctx.send(
        "out", f"config {rest} {_or_null(ctx.config.get(rest))}"
    ),
    "log": _logged,
    "count": _count,
    "ask": lambda message, ctx, rest: _asked.append(_request(rest)),
    "ask-header": _ask_header,
    "ask-timeout": _ask_timeout,
    "fetch": _fetch,
    "ok": _ok,
    "answers": lambda message, ctx, rest: _told(ctx, _answered),
    "until": _until,
    "retry": _retry,
    "after": _after,
    "outage": _outage,
    "dead": _dead,
    "raise": _raise,
}
