"""Messages, and what becomes of them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple


class Header(NamedTuple):
    """A header of a record. ``None`` as its value is Kafka's null, which differs from ``b""``."""

    name: str
    value: bytes | None


class Message(NamedTuple):
    """One delivery: a record of an input topic, or a timer that the handler set earlier."""

    topic: str | None
    """The input topic; ``None`` for a timer."""
    timer: str | None
    """A timer's name; ``None`` for a record."""
    partition: int
    """Partition and offset are where the record was first read; a timer's are those of the
    message that set it."""
    offset: int
    timestamp_ms: int
    """Milliseconds since the Unix epoch; a timer's is the time it was set for."""
    key: bytes | None
    value: bytes | None
    """``None`` is a tombstone. A timer's payload is its value."""
    attempt: int
    """1 on the first run."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the handler is opened with."""

    handler: str
    """The pipeline's name."""
    topics: tuple[str, ...]
    outputs: tuple[str, ...]
    config: Mapping[str, str]
    """The manifest's ``[config]``."""
    max_batch: int


class Outcome(enum.Enum):
    """The message is settled, and what it staged takes effect."""

    DONE = "done"
    SKIP = "skip"


DONE: Final = Outcome.DONE
"""Settled; ``None`` means the same."""
SKIP: Final = Outcome.SKIP
"""Settled, and counted apart: filtered out on purpose."""


class Failure(Exception):
    """The message is not settled, and what it staged is undone: what `Retry` and `DeadLetter` share.

    ``code`` is short and stable, for it becomes a header, a metric's label and a group in lists;
    what varies goes into ``detail``.
    """

    def __init__(self, code: str, detail: object = "") -> None:
        if not isinstance(code, str):
            raise TypeError(f"a code is str, not {type(code).__name__}")
        super().__init__(code, detail)
        self.code = code
        self.detail = str(detail)

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


class Retry(Failure):
    """Raised to run the message again, its key's later messages behind it.

    When is up to the manifest's retry policy, or ``after`` this long. With ``outage`` the cause
    lies outside the message, such as a service that is down: that costs no attempt.
    """

    def __init__(
        self,
        code: str,
        detail: object = "",
        *,
        after: timedelta | None = None,
        outage: bool = False,
    ) -> None:
        super().__init__(code, detail)
        if after is not None and after < timedelta(0):
            raise ValueError(f"a time of {after} is negative")
        self.after = after
        self.outage = outage


class DeadLetter(Failure):
    """Raised to give the message up to the dead letters: no other run can succeed."""


class Refuse(Exception):
    """Raised by what `Handler.on_open` names, to refuse this version of the handler in its words."""
