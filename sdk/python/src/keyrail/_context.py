"""A message's side of the host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final, TypeAlias

from ._host import ENDED, I64_MAX, U32_MAX, Host, data, instant, millis, text
from ._http import Answer, HttpError, Request, Response, fetch_all, outgoing
from ._types import Header, Setup

Data: TypeAlias = "bytes | bytearray | memoryview | str"
"""Bytes, or text that becomes its UTF-8."""


class _OwnKey:
    def __repr__(self) -> str:
        return "OWN_KEY"


OWN_KEY: Final = _OwnKey()
"""The message's own key."""


class _Slot:
    """The message's place in its batch, as long as it runs.

    Once the message has its outcome the number means another one, so that a context which was
    kept must not be used any more.
    """

    __slots__ = ("host", "key", "number")

    def __init__(self, host: Host, number: int, key: bytes | None) -> None:
        self.host = host
        self.number = number
        self.key = key

    def end(self) -> None:
        self.host = ENDED


class State:
    """Values by name, for the message's order key.

    One key's messages run one at a time, in order, so a plain read, change and write is safe.
    Each call may raise `NoKeyError`, `TooLargeError` and `HostError`, and one that writes
    `OverQuotaError`.
    """

    __slots__ = ("_slot",)

    def __init__(self, slot: _Slot) -> None:
        self._slot = slot

    def get(self, name: str) -> bytes | None:
        """The value of that name, or ``None``."""
        slot = self._slot
        return slot.host.state_get(slot.number, text(name))

    def put(self, name: str, value: Data, *, ttl: timedelta | None = None) -> None:
        """Keeps a value under a name; with ``ttl`` it goes away after this long."""
        slot = self._slot
        ttl_ms = None if ttl is None else millis(ttl)
        slot.host.state_put(slot.number, text(name), data(value), ttl_ms)

    def delete(self, name: str) -> None:
        """Removes a value. It is no error if there is none."""
        self._slot.host.state_delete(self._slot.number, text(name))

    def scan(
        self, prefix: str = "", *, after: str | None = None, limit: int = 1000
    ) -> list[tuple[str, bytes]]:
        """At most ``limit`` names that begin with ``prefix``, and their values, in byte order.

        ``after`` begins behind that name, for the next page. The host gives at most 1,000 names
        and 4 MiB.
        """
        if not 0 <= limit <= U32_MAX:
            raise ValueError(f"{limit} is no number of names")
        behind = None if after is None else text(after)
        return self._slot.host.state_scan(self._slot.number, text(prefix), behind, limit)


class Timers:
    """A timer is a message to the same key, later, in that key's order.

    Each key has one of a name. Each call may raise `NoKeyError`, `TooLargeError`,
    `OverQuotaError` and `HostError`.
    """

    __slots__ = ("_slot",)

    def __init__(self, slot: _Slot) -> None:
        self._slot = slot

    def set(self, name: str, at_ms: int, payload: Data = b"") -> None:
        """At a time in milliseconds since the Unix epoch; replaces one of the same name."""
        self._slot.host.timer_set(self._slot.number, text(name), instant(at_ms), data(payload))

    def set_after(self, name: str, wait: timedelta, payload: Data = b"") -> None:
        """That long after `Context.now_ms`; replaces one of the same name."""
        at_ms = min(self._slot.host.now_ms() + millis(wait), I64_MAX)
        self._slot.host.timer_set(self._slot.number, text(name), at_ms, data(payload))

    def cancel(self, name: str) -> None:
        """Takes a timer back. It is no error if there is none."""
        self._slot.host.timer_cancel(self._slot.number, text(name))


class Context:
    """What a message may ask and tell its host, until its handler returns.

    What is staged through it (sends, state, timers) takes effect only if the message is settled,
    together with the commit of its offset. The handler's own memory is not undone.
    """

    __slots__ = ("_slot", "setup", "state")

    def __init__(self, slot: _Slot, setup: Setup) -> None:
        self._slot = slot
        self.setup = setup
        self.state = State(slot)

    @property
    def timers(self) -> Timers:
        # Not made before it is asked for, as few messages do.
        return Timers(self._slot)

    @property
    def config(self) -> Mapping[str, str]:
        """The manifest's ``[config]``."""
        return self.setup.config

    @property
    def id(self) -> str:
        """The same over retries, parking, redrive and replay: the idempotency key for effects
        outside Keyrail."""
        return self._slot.host.id(self._slot.number)

    @property
    def headers(self) -> list[Header]:
        """All headers of the record, in order."""
        return self._slot.host.headers(self._slot.number)

    def header(self, name: str) -> bytes | None:
        """The value of the last header of that name, or ``None``."""
        return self._slot.host.header_value(self._slot.number, text(name))

    @property
    def follows_dead_letter(self) -> bool:
        """Whether an earlier message of this key was dead-lettered or discarded."""
        return self._slot.host.follows_dead_letter(self._slot.number)

    @property
    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, fixed within a call; ``time.time`` says the same."""
        return self._slot.host.now_ms()

    @property
    def deadline_ms(self) -> int:
        """When the host will stop this call, in milliseconds since the Unix epoch."""
        return self._slot.host.deadline_ms()

    def random(self) -> int:
        """The next number of 64 bits of a sequence seeded by the message's id and attempt, so that
        a run can be repeated."""
        return self._slot.host.random(self._slot.number)

    def send(
        self,
        to: str,
        value: Data | None,
        *,
        key: Data | None | _OwnKey = OWN_KEY,
        headers: Mapping[str, Data | None] | Iterable[tuple[str, Data | None]] = (),
        forward_headers: bool = False,
        timestamp_ms: int | None = None,
        delay: timedelta | None = None,
    ) -> None:
        """Sends a record to an output of the manifest when the message is settled.

        ``None`` as the value is a tombstone. The record has the message's own key and timestamp
        (milliseconds since the Unix epoch) unless told otherwise; ``forward_headers`` also copies
        the message's headers, of which ``traceparent`` and ``tracestate`` are always copied. With
        ``delay`` it goes out no earlier than this long after the message is settled.

        Raises `UnknownOutputError`, `TooLargeError`, `OverQuotaError` and `HostError`.
        """
        slot = self._slot
        slot.host.send(
            slot.number,
            text(to),
            slot.key if isinstance(key, _OwnKey) else _optional(key),
            None if value is None else data(value),
            # Most sends have none, and to ask what is a Mapping takes long.
            _headers(headers) if headers else [],
            forward_headers,
            None if timestamp_ms is None else instant(timestamp_ms),
            None if delay is None else millis(delay),
        )

    def fetch(self, request: Request | str) -> Response:
        """Makes an HTTP request to a host that the manifest grants, and waits for its answer.

        Any status is an answer: `Response.raise_for_status` tells what it means for the message.
        The request is made now, whatever becomes of the message, and again if the message runs
        again, with the same ``idempotency-key``.

        Raises `HttpError` if there is no answer.
        """
        (answer,) = self.fetch_all([request])
        if isinstance(answer, HttpError):
            raise answer
        return answer

    def fetch_all(self, requests: Iterable[Request | str]) -> list[Answer]:
        """Makes HTTP requests at the same time, and waits for the last: one answer or error for
        each, in their order."""
        slot = self._slot
        return fetch_all(slot.host, [outgoing(slot.number, request) for request in requests])


def _headers(
    headers: Mapping[str, Data | None] | Iterable[tuple[str, Data | None]],
) -> list[Header]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [Header(text(name), _optional(value)) for name, value in pairs]


def _optional(value: Data | None) -> bytes | None:
    return None if value is None else data(value)


def read_only(config: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    return MappingProxyType(dict(config))
