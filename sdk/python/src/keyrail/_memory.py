"""The contract's imports over dictionaries, for `testing`."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ._errors import (
    HostError,
    NoKeyError,
    OverQuotaError,
    TooLargeError,
    UnknownOutputError,
)
from ._host import I64_MAX, U64_MAX
from ._http import Answer, HttpError, Outgoing, Reply, Unanswered
from ._types import Header, Message

# What the real host takes: a name of state, a key that has any, a value; names and bytes of a scan.
_NAME_BYTES = 1 << 10
_KEY_BYTES = 32 << 10
_VALUE_BYTES = 512 << 10
_SCAN_NAMES = 1000
_SCAN_BYTES = 4 << 20
_DELAY_MS = 366 * 24 * 3_600_000
# The manifest's defaults for one message, and what counts beside names, values and keys.
_OUTPUTS = 1000
_OUTPUT_BYTES = 4 << 20
_TIMEOUT_MS = 5000
_HEADER_BYTES = 16
_CHANGE_BYTES = 67
_ALWAYS_FORWARDED = ("traceparent", "tracestate")
_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
_NO_ANSWER = "the test gives it no answer: say Host.answer, or Host.answer_with for all"
_LEVELS = (5, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Sent:
    """A record that was sent."""

    to: str
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    """With those of the message that went along."""
    timestamp_ms: int
    delay_ms: int | None


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer that is set; partition and offset are those of the message that set it."""

    key: bytes
    name: str
    at_ms: int
    payload: bytes
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Requested:
    """An HTTP request that was made."""

    id: str
    """Its message's `keyrail.Context.id`."""
    slot: int
    method: str
    url: str
    headers: tuple[tuple[str, bytes], ...]
    """As they went out, with the host's ``idempotency-key``."""
    body: bytes | None
    timeout_ms: int | None

    def header(self, name: str) -> bytes | None:
        """The value of the last header of that name, in any case."""
        found = (value for own, value in reversed(self.headers) if own.lower() == name.lower())
        return next(found, None)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log."""

    level: int
    """As in `logging`."""
    message: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Kept:
    """A value of state."""

    value: bytes
    until_ms: int | None


class MemoryHost:
    """One message at a time, in slot 0."""

    def __init__(self, outputs: frozenset[str]) -> None:
        self.outputs = outputs
        self.clock_ms = 1_700_000_000_000
        self.state: dict[tuple[bytes, str], Kept] = {}
        self.timers: dict[tuple[bytes, str], Timer] = {}
        self.logs: list[LogLine] = []
        self.observed: dict[str, list[float]] = defaultdict(list)
        self.answers: dict[tuple[str, str], Answer] = {}
        self.server: Callable[[Requested], Answer] | None = None
        self.requests: list[Requested] = []
        self._metrics: list[str] = []

    def begin(self, message: Message, headers: list[Header], follows_dead_letter: bool) -> None:
        origin = f"timer {message.timer}" if message.topic is None else message.topic
        self._message, self._headers, self._follows = message, headers, follows_dead_letter
        self._id = f"{origin}/{message.partition}/{message.offset}"
        self._random = _seed(self._id) ^ message.attempt * 0xD1342543DE82EF95 & U64_MAX
        self._sent: list[Sent] = []
        self._staged_bytes = 0
        self._changing = 0
        self._before = self.state.copy(), self.timers.copy()

    def settle(self, settled: bool) -> tuple[Sent, ...]:
        if settled:
            return tuple(self._sent)
        self.state, self.timers = self._before
        return ()

    def read(self, key: bytes, name: str) -> bytes | None:
        kept = self.state.get((key, name))
        if kept is None or kept.until_ms is not None and kept.until_ms <= self.clock_ms:
            return None
        return kept.value

    def id(self, slot: int) -> str:
        return self._id

    def headers(self, slot: int) -> list[Header]:
        return list(self._headers)

    def header_value(self, slot: int, name: str) -> bytes | None:
        return next((value for own, value in reversed(self._headers) if own == name), None)

    def follows_dead_letter(self, slot: int) -> bool:
        return self._follows

    def now_ms(self) -> int:
        return self.clock_ms

    def deadline_ms(self) -> int:
        return self.clock_ms + _TIMEOUT_MS

    def random(self, slot: int) -> int:
        # splitmix64, whose numbers are those of the real host.
        self._random = self._random + 0x9E3779B97F4A7C15 & U64_MAX
        z = (self._random ^ self._random >> 30) * 0xBF58476D1CE4E5B9 & U64_MAX
        z = (z ^ z >> 27) * 0x94D049BB133111EB & U64_MAX
        return z ^ z >> 31

    def send(
        self,
        slot: int,
        to: str,
        key: bytes | None,
        value: bytes | None,
        headers: list[Header],
        forward_headers: bool,
        timestamp_ms: int | None,
        delay_ms: int | None,
    ) -> None:
        if to not in self.outputs:
            raise UnknownOutputError(f"output {to!r}: the test's host has no such output")
        if delay_ms is not None and delay_ms > _DELAY_MS:
            raise HostError(f"{_DELAY_MS} ms are the most, that is 366 days")
        size = len(key or b"") + len(value or b"")
        for header in headers:
            size += _HEADER_BYTES + len(header.name.encode()) + len(header.value or b"")
        if len(self._sent) >= _OUTPUTS:
            raise OverQuotaError(f"a message sends {_OUTPUTS} records at most")
        self._stage(size)
        along = [
            header
            for header in self._headers
            if forward_headers or header.name in _ALWAYS_FORWARDED
        ]
        at_ms = self._message.timestamp_ms if timestamp_ms is None else timestamp_ms
        self._sent.append(Sent(to, key, value, (*along, *headers), at_ms, delay_ms))

    def state_get(self, slot: int, name: str) -> bytes | None:
        return self.read(self._owner(name), name)

    def state_put(self, slot: int, name: str, value: bytes, ttl_ms: int | None) -> None:
        owner = self._change(name, value)
        until_ms = None if ttl_ms is None else min(self.clock_ms + ttl_ms, I64_MAX)
        self.state[owner, name] = Kept(value, until_ms)

    def state_delete(self, slot: int, name: str) -> None:
        self.state.pop((self._change(name, b""), name), None)

    def state_scan(
        self, slot: int, prefix: str, after: str | None, limit: int
    ) -> list[tuple[str, bytes]]:
        owner = self._owner(prefix)
        _short("name", (after or "").encode(), _NAME_BYTES)
        if limit > _SCAN_NAMES:
            raise TooLargeError(f"a scan gives {_SCAN_NAMES} names at most")
        names = (name for key, name in self.state if key == owner and name.startswith(prefix))
        found: list[tuple[str, bytes]] = []
        for name in sorted(names, key=str.encode):
            value = self.read(owner, name)
            behind = after is None or name.encode() > after.encode()
            if value is not None and behind and len(found) < limit:
                found.append((name, value))
        if sum(len(name.encode()) + len(value) for name, value in found) > _SCAN_BYTES:
            raise TooLargeError(f"a scan gives {_SCAN_BYTES} bytes at most")
        return found

    def timer_set(self, slot: int, name: str, at_ms: int, payload: bytes) -> None:
        owner = self._change(name, payload)
        message = self._message
        timer = Timer(owner, name, at_ms, payload, message.partition, message.offset)
        self.timers[owner, name] = timer

    def timer_cancel(self, slot: int, name: str) -> None:
        self.timers.pop((self._change(name, b""), name), None)

    def fetch_all(self, requests: list[Outgoing]) -> list[Reply | Unanswered]:
        return [self._fetch(request) for request in requests]

    def _fetch(self, request: Outgoing) -> Reply | Unanswered:
        slot, method, url, headers, body, timeout_ms = request
        key = self._id
        if method not in _SAFE:
            self._changing += 1
            key = self._id if self._changing == 1 else f"{self._id}-{self._changing}"
        if all(name.lower() != "idempotency-key" for name, _ in headers):
            headers = [*headers, ("idempotency-key", key.encode())]
        made = Requested(self._id, slot, method, url, tuple(headers), body, timeout_ms)
        self.requests.append(made)
        answer = self.answers.get((method, url))
        if answer is None and self.server is not None:
            answer = self.server(made)
        if answer is None:
            return Unanswered("denied", _NO_ANSWER)
        if isinstance(answer, HttpError):
            return Unanswered(answer.code, str(answer))
        own = [(name, value.encode()) for name, value in answer.headers]
        return Reply(answer.status, own, answer.body)

    def log_threshold(self) -> int:
        return _LEVELS.index(logging.INFO)

    def log_write(self, level: int, message: str, fields: list[tuple[str, str]]) -> None:
        self.logs.append(LogLine(_LEVELS[level], message, dict(fields)))

    def metric_register(self, name: str, kind: int, labels: list[tuple[str, str]]) -> int:
        self._metrics.append(name)
        return len(self._metrics) - 1

    def metric_observe(self, metric: int, value: float) -> None:
        self.observed[self._metrics[metric]].append(value)

    def _owner(self, name: str) -> bytes:
        """The key whose state it is."""
        key = self._message.key
        if key is None:
            raise NoKeyError("the message has no order key")
        _short("key", key, _KEY_BYTES)
        _short("name", name.encode(), _NAME_BYTES)
        return key

    def _change(self, name: str, value: bytes) -> bytes:
        owner = self._owner(name)
        _short("value", value, _VALUE_BYTES)
        self._stage(len(name.encode()) + len(value) + len(owner) + _CHANGE_BYTES)
        return owner

    def _stage(self, size: int) -> None:
        if self._staged_bytes + size > _OUTPUT_BYTES:
            raise OverQuotaError(f"a message sends and changes {_OUTPUT_BYTES} bytes at most")
        self._staged_bytes += size


def _short(what: str, value: bytes, most: int) -> None:
    if len(value) > most:
        raise TooLargeError(f"a {what} of {len(value)} bytes, of {most} at most")


def _seed(text: str) -> int:
    # 64-bit FNV-1a.
    hashed = 0xCBF29CE484222325
    for byte in text.encode():
        hashed = (hashed ^ byte) * 0x100000001B3 & U64_MAX
    return hashed
