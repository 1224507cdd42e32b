"""The contract's imports as Python sees them, and which host answers them."""

from __future__ import annotations

import operator
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NoReturn, Protocol, cast

from ._types import Header, Message

if TYPE_CHECKING:
    from ._http import Outgoing, Reply, Unanswered

U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1
I64_MAX = 2**63 - 1


class Host(Protocol):
    """`_guest` has the one over WebAssembly's imports, `testing` the one in memory."""

    def id(self, slot: int) -> str: ...
    def headers(self, slot: int) -> list[Header]: ...
    def header_value(self, slot: int, name: str) -> bytes | None: ...
    def follows_dead_letter(self, slot: int) -> bool: ...
    def now_ms(self) -> int: ...
    def random(self, slot: int) -> int: ...
    def deadline_ms(self) -> int: ...
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
    ) -> None: ...
    def state_get(self, slot: int, name: str) -> bytes | None: ...
    def state_put(self, slot: int, name: str, value: bytes, ttl_ms: int | None) -> None: ...
    def state_delete(self, slot: int, name: str) -> None: ...
    def state_scan(
        self, slot: int, prefix: str, after: str | None, limit: int
    ) -> list[tuple[str, bytes]]: ...
    def timer_set(self, slot: int, name: str, at_ms: int, payload: bytes) -> None: ...
    def timer_cancel(self, slot: int, name: str) -> None: ...
    def fetch_all(self, requests: list[Outgoing]) -> list[Reply | Unanswered]: ...
    def log_threshold(self) -> int: ...
    def log_write(self, level: int, message: str, fields: list[tuple[str, str]]) -> None: ...
    def metric_register(self, name: str, kind: int, labels: list[tuple[str, str]]) -> int: ...
    def metric_observe(self, metric: int, value: float) -> None: ...


class _Ended:
    """In a host's place once the message has its outcome. To ask it for any call is to misuse the
    context, so that a call itself need not look whether its message still runs."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError("the message of this context has ended")


ENDED: Final = cast("Host", _Ended())


class _Current:
    host: Host | None = None
    message: Message | None = None
    """The one that runs, for lines of the log."""


current = _Current()


def host() -> Host:
    if current.host is None:
        raise RuntimeError(
            "no host is there: metrics are for a handler that runs (see keyrail.testing)"
        )
    return current.host


def data(value: bytes | bytearray | memoryview | str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    # Not whatever bytes() takes: of a number it makes that many zeros.
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"a value is bytes or str, not {type(value).__name__}")


def text(name: str) -> str:
    """Looked at here, since what is no text, or has none in UTF-8, traps on its way to the host."""
    if not isinstance(name, str):
        raise TypeError(f"a name is str, not {type(name).__name__}")
    if not name.isascii():
        name.encode()
    return name


def millis(span: timedelta) -> int:
    """Rounded up: what is to come later never comes too early."""
    if span < timedelta(0):
        raise ValueError(f"a time of {span} is negative")
    return -(-span // timedelta(milliseconds=1))


def instant(at_ms: int) -> int:
    at_ms = operator.index(at_ms)
    if not -I64_MAX <= at_ms <= I64_MAX:
        raise ValueError(f"{at_ms} ms since 1970 is no time that there is")
    return at_ms
