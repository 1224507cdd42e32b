"""What WebAssembly's side of the contract calls. Only in a component: `wit_world` is written there."""

from __future__ import annotations

import io
import logging
import sys
from types import ModuleType
from typing import Any, ClassVar, cast

from componentize_py_types import Err
from wit_world.imports import context, emit, http, log, metrics, state, timers, types

from ._context import read_only
from ._errors import HostError, NoKeyError, OverQuotaError, TooLargeError, UnknownOutputError
from ._handler import Handler
from ._host import current, millis
from ._http import HttpErrorCode, Outgoing, Reply, Unanswered
from ._log import THRESHOLDS, LogHandler
from ._types import DONE, SKIP, DeadLetter, Failure, Header, Message, Outcome, Retry, Setup

_LEVELS = list(log.Level)
_KINDS = list(metrics.Kind)


class _WasmHost:
    """The contract's imports."""

    id = staticmethod(context.id)
    header_value = staticmethod(context.header_value)
    follows_dead_letter = staticmethod(context.follows_dead_letter)
    now_ms = staticmethod(context.now_ms)
    random = staticmethod(context.random)
    deadline_ms = staticmethod(context.deadline_ms)
    metric_observe = staticmethod(metrics.observe)

    def headers(self, slot: int) -> list[Header]:
        return [Header(header.name, header.value) for header in context.headers(slot)]

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
        own = [types.Header(*header) for header in headers]
        record = emit.Output(to, key, value, own, forward_headers, timestamp_ms, delay_ms)
        try:
            emit.send(slot, record)
        except Err as error:
            raise _refused(error, "output", to) from None

    def state_get(self, slot: int, name: str) -> bytes | None:
        try:
            return cast("bytes | None", state.get(slot, name))
        except Err as error:
            raise _refused(error, "state", name) from None

    def state_put(self, slot: int, name: str, value: bytes, ttl_ms: int | None) -> None:
        try:
            state.put(slot, name, value, ttl_ms)
        except Err as error:
            raise _refused(error, "state", name) from None

    def state_delete(self, slot: int, name: str) -> None:
        try:
            state.delete(slot, name)
        except Err as error:
            raise _refused(error, "state", name) from None

    def state_scan(
        self, slot: int, prefix: str, after: str | None, limit: int
    ) -> list[tuple[str, bytes]]:
        try:
            return list(state.scan(slot, prefix, after, limit))
        except Err as error:
            raise _refused(error, "scan", prefix) from None

    def timer_set(self, slot: int, name: str, at_ms: int, payload: bytes) -> None:
        try:
            timers.set(slot, name, at_ms, payload)
        except Err as error:
            raise _refused(error, "timer", name) from None

    def timer_cancel(self, slot: int, name: str) -> None:
        try:
            timers.cancel(slot, name)
        except Err as error:
            raise _refused(error, "timer", name) from None

    def fetch_all(self, requests: list[Outgoing]) -> list[Reply | Unanswered]:
        return [_reply(result) for result in http.fetch_all([http.Request(*r) for r in requests])]

    def log_threshold(self) -> int:
        return _LEVELS.index(log.threshold())

    def log_write(self, level: int, message: str, fields: list[tuple[str, str]]) -> None:
        pairs = [(_text(name), _text(value)) for name, value in fields]
        log.write(_LEVELS[level], _text(message), pairs)

    def metric_register(self, name: str, kind: int, labels: list[tuple[str, str]]) -> int:
        return int(metrics.register(name, _KINDS[kind], labels))


def _refused(refusal: Any, kind: str, name: str) -> HostError:
    what, error = f"{kind} {name!r}", refusal.value
    match error:
        case types.Error_NoKey():
            return NoKeyError(f"{what}: the message has no order key")
        case types.Error_UnknownOutput():
            return UnknownOutputError(f"{what}: the manifest has no such output")
        case types.Error_TooLarge():
            return TooLargeError(f"{what}: larger than the host takes")
        case types.Error_OverQuota():
            return OverQuotaError(f"{what}: over the manifest's limits for one message")
    return HostError(f"{what}: {error.value}")


_UNANSWERED: dict[type, HttpErrorCode] = {
    http.Error_Denied: "denied",
    http.Error_Invalid: "invalid",
    http.Error_Timeout: "timeout",
    http.Error_Unreachable: "unreachable",
    http.Error_TooLarge: "too-large",
}


def _reply(result: Any) -> Reply | Unanswered:
    value = result.value
    if isinstance(result, Err):
        return Unanswered(_UNANSWERED[type(value)], getattr(value, "value", ""))
    return Reply(value.status, value.headers, value.body)


def prepare() -> None:
    """Before the handler's module is loaded, so that its `logging.basicConfig` finds a log there."""
    logging.getLogger().addHandler(LogHandler())
    # What is printed stands between the other lines of the log, in its order.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def guest_of(module: ModuleType) -> type:
    """The export for the handler of this module."""
    found = {id(value): value for value in vars(module).values() if isinstance(value, Handler)}
    own = [handler for handler in found.values() if handler.__module__ == module.__name__]
    handlers = own or list(found.values())
    if len(handlers) != 1:
        raise SystemExit(
            f"{module.__name__} has {len(handlers)} functions with @keyrail.handler: it must be one"
        )

    class Guest(_Guest):
        handler = handlers[0]

    return Guest


class _Guest:
    handler: ClassVar[Handler]
    # Of the class, since each call from outside comes to a new object.
    setup: ClassVar[Setup]

    def open(self, setup: Any) -> None:
        _begin()
        _Guest.setup = Setup(
            setup.handler,
            tuple(setup.topics),
            tuple(setup.outputs),
            read_only(setup.config),
            setup.max_batch,
        )
        try:
            refused = self.handler._open(self.setup)
        finally:
            _end()
        if refused is not None:
            raise Err(refused)

    def process(self, batch: list[Any]) -> list[Any]:
        _begin()
        try:
            setup = self.setup
            messages = [_message(given, setup.topics) for given in batch]
            return [_told(outcome) for outcome in self.handler._run_all(_HOST, messages, setup)]
        finally:
            _end()


_HOST = _WasmHost()


def _begin() -> None:
    current.host = _HOST
    logging.getLogger().setLevel(THRESHOLDS[_HOST.log_threshold()])


def _end() -> None:
    # What was printed belongs to this call's lines of the log.
    sys.stdout.flush()
    sys.stderr.flush()


def _message(given: Any, topics: tuple[str, ...]) -> Message:
    source = given.source
    is_timer = isinstance(source, types.Source_Timer)
    return Message(
        None if is_timer else topics[source.value],
        source.value if is_timer else None,
        given.partition,
        given.offset,
        given.timestamp_ms,
        given.key,
        given.value,
        given.attempt,
    )


# One of each will do: they say nothing more of a message.
_TOLD_DONE = types.Outcome_Done()
_TOLD_SKIP = types.Outcome_Skip()


def _told(outcome: Outcome | Failure) -> Any:
    if outcome is DONE:
        return _TOLD_DONE
    if outcome is SKIP:
        return _TOLD_SKIP
    assert isinstance(outcome, Failure)
    failure = types.Failure(_text(outcome.code), _text(outcome.detail))
    if isinstance(outcome, Retry):
        after_ms = None if outcome.after is None else millis(outcome.after)
        return types.Outcome_Retry(types.Retry(failure, after_ms, outcome.outage))
    assert isinstance(outcome, DeadLetter)
    return types.Outcome_DeadLetter(failure)


def _text(text: str) -> str:
    """Text that UTF-8 can hold: file names and decoded bytes may bring halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode()
