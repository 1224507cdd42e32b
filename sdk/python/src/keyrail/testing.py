"""A host in memory, to test a handler without Keyrail::

    from keyrail.testing import Host

    host = Host(handle, outputs=["changes"])
    run = host.run("red", key="k1")
    assert run.outcome is keyrail.DONE

It keeps state, timers, sends and a clock that only the test moves, holds the limits of state and the
manifest's default ones, and undoes what a failed message staged. It repeats nothing by a policy:
each call runs what it is given, once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from ._context import Data, read_only
from ._handler import Handler
from ._host import current, data, millis
from ._http import Answer
from ._log import LogHandler
from ._memory import Kept, LogLine, MemoryHost, Requested, Sent, Timer
from ._types import Failure, Header, Message, Outcome, Setup

__all__ = ["Host", "LogLine", "Refused", "Requested", "Run", "Sent", "Timer"]


class Refused(Exception):
    """The handler refuses to open, in these words."""


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a message."""

    outcome: Outcome | Failure
    """What an exception made of it has that exception as its ``__cause__``."""
    sent: Sequence[Sent] = field(default=())
    """Nothing, if the message failed."""

    @property
    def failure(self) -> Failure | None:
        """The `keyrail.Retry` or `keyrail.DeadLetter` of a message that failed."""
        return self.outcome if isinstance(self.outcome, Failure) else None


class Host:
    """A host for one handler. Its clock stands at 1,700,000,000,000 ms.

    The handler opens before its first message; `Refused` is raised if it does not.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        outputs: Iterable[str] = (),
        config: Mapping[str, str] | None = None,
        topics: Iterable[str] = ("in",),
    ) -> None:
        self._handler = handler
        self._memory = MemoryHost(frozenset(outputs))
        names = tuple(sorted(self._memory.outputs))
        self._setup = Setup("test", tuple(topics), names, read_only((config or {}).items()), 1)
        self._opened = False
        self._offset = 0

    @property
    def now_ms(self) -> int:
        """The clock, in milliseconds since the Unix epoch. `advance` also runs timers."""
        return self._memory.clock_ms

    @now_ms.setter
    def now_ms(self, now_ms: int) -> None:
        self._memory.clock_ms = now_ms

    def open(self) -> None:
        """Opens the handler, or raises `Refused`."""
        with _Running(self._memory):
            refused = self._handler._open(self._setup)
        if refused is not None:
            raise Refused(refused)
        self._opened = True

    def run(
        self,
        value: Data | None = None,
        *,
        key: Data | None = None,
        headers: Mapping[str, Data | None] | Iterable[tuple[str, Data | None]] = (),
        topic: str | None = None,
        timestamp_ms: int = 0,
        attempt: int = 1,
        follows_dead_letter: bool = False,
    ) -> Run:
        """Runs one message: the next of partition 0 of the first topic, or of ``topic``."""
        message = Message(
            topic=self._setup.topics[0] if topic is None else topic,
            timer=None,
            partition=0,
            offset=self._offset,
            timestamp_ms=timestamp_ms,
            key=None if key is None else data(key),
            value=None if value is None else data(value),
            attempt=attempt,
        )
        self._offset += 1
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        own = [Header(name, None if value is None else data(value)) for name, value in pairs]
        return self._run(message, own, follows_dead_letter)

    def run_timer(self, key: Data, name: str, *, attempt: int = 1) -> Run:
        """Runs a key's timer now, due or not. One that fails stays."""
        timer = self._memory.timers[data(key), name]
        message = Message(
            topic=None,
            timer=name,
            partition=timer.partition,
            offset=timer.offset,
            timestamp_ms=timer.at_ms,
            key=timer.key,
            value=timer.payload,
            attempt=attempt,
        )
        del self._memory.timers[timer.key, name]
        run = self._run(message, [], False)
        if run.failure is not None:
            self._memory.timers[timer.key, name] = timer
        return run

    def advance(self, by: timedelta) -> list[Run]:
        """Moves the clock, and runs once each timer that is due then, in the order of time."""
        self._memory.clock_ms += millis(by)
        due = [timer for timer in self._memory.timers.values() if timer.at_ms <= self.now_ms]
        due.sort(key=lambda timer: timer.at_ms)
        runs = []
        for timer in due:
            # One that ran before may have cancelled or moved it.
            if self._memory.timers.get((timer.key, timer.name)) is timer:
                runs.append(self.run_timer(timer.key, timer.name))
        return runs

    def state(self, key: Data, name: str) -> bytes | None:
        """What a key keeps under a name."""
        return self._memory.read(data(key), name)

    def put_state(self, key: Data, name: str, value: Data) -> None:
        """Lets a key keep a value, as if an earlier message had."""
        self._memory.state[data(key), name] = Kept(data(value), None)

    def timer(self, key: Data, name: str) -> Timer | None:
        """A key's timer that is set."""
        return self._memory.timers.get((data(key), name))

    def observed(self, metric: str) -> list[float]:
        """All values of a metric, in order, of whatever labels."""
        return list(self._memory.observed.get(metric, ()))

    def answer(self, method: str, url: str, answer: Answer) -> None:
        """Answers HTTP requests of this method to this URL, written as the handler sends them:
        ``keyrail.Response(200, body="paid")``, or ``keyrail.HttpError("timeout")``."""
        self._memory.answers[method, url] = answer

    def answer_with(self, server: Callable[[Requested], Answer]) -> None:
        """Answers all HTTP requests that `answer` names no answer for."""
        self._memory.server = server

    @property
    def requests(self) -> Sequence[Requested]:
        """The HTTP requests that were made, in order, of failed messages too."""
        return self._memory.requests

    @property
    def logs(self) -> Sequence[LogLine]:
        """Lines of the log, through `logging`, from its level info on."""
        return self._memory.logs

    def _run(self, message: Message, headers: list[Header], follows_dead_letter: bool) -> Run:
        if not self._opened:
            self.open()
        self._memory.begin(message, headers, follows_dead_letter)
        outcome: Outcome | Failure | None = None
        with _Running(self._memory):
            try:
                (outcome,) = self._handler._run_all(self._memory, [message], self._setup)
            finally:
                # A program's end, such as sys.exit, undoes the message as well.
                sent = self._memory.settle(isinstance(outcome, Outcome))
        return Run(outcome, sent)


class _Running:
    """While a handler runs, its host is the current one, and has the log as in a component."""

    def __init__(self, memory: MemoryHost) -> None:
        self._memory = memory
        self._log = LogHandler()

    def __enter__(self) -> None:
        root = logging.getLogger()
        self._before = current.host, root.level
        current.host = self._memory
        root.addHandler(self._log)
        root.setLevel(min(root.level, logging.INFO))

    def __exit__(self, *_: object) -> None:
        root = logging.getLogger()
        root.removeHandler(self._log)
        current.host, level = self._before
        root.setLevel(level)
