"""A handler: its function, and how one message runs through it."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar, overload

from ._context import Context, _Slot
from ._errors import described, failure_of
from ._host import Host, current
from ._http import Answer, Outgoing, Request, fetch_all, outgoing
from ._types import DONE, Failure, Message, Outcome, Refuse, Setup

Handle: TypeAlias = Callable[[Message, Context], "Outcome | None"]
Prepare: TypeAlias = Callable[[Message, Context], "Iterable[Request | str] | None"]
HandleAnswers: TypeAlias = Callable[[Message, Context, Sequence[Answer]], "Outcome | None"]
OnOpen: TypeAlias = Callable[[Setup], None]

_T = TypeVar("_T")
_log = logging.getLogger("keyrail")


class Handler:
    """Made by `handler`. Called, it is the function itself."""

    def __init__(self, function: Callable[..., Outcome | None], prepare: Prepare | None) -> None:
        for step in (function, prepare):
            if inspect.iscoroutinefunction(step):
                raise TypeError(f"{step.__name__} is async: a handler is a plain function")
        self.__name__ = function.__name__
        functools.update_wrapper(self, function)
        self._function = function
        self._prepare = prepare
        self._on_open: OnOpen | None = None

    def __call__(
        self, message: Message, ctx: Context, *answers: Sequence[Answer]
    ) -> Outcome | None:
        return self._function(message, ctx, *answers)

    def on_open(self, function: OnOpen) -> OnOpen:
        """Names what runs once, before the first message; what it raises refuses this version of
        the handler, and `Refuse` does so in its own words."""
        self._on_open = function
        return function

    def _open(self, setup: Setup) -> str | None:
        """``None``, or why it refuses."""
        if self._on_open is None:
            return None
        try:
            self._on_open(setup)
        except Refuse as refusal:
            return str(refusal)
        except Exception as error:
            _log.debug("the handler did not open", exc_info=error)
            return described(error)
        return None

    def _run(
        self, host: Host, slot_number: int, message: Message, setup: Setup
    ) -> Outcome | Failure:
        """One message to its outcome, in one step."""
        slot = _Slot(host, slot_number, message.key)
        try:
            return _step(message, self._handle, message, Context(slot, setup))
        finally:
            slot.end()

    def _run_all(
        self, host: Host, messages: Sequence[Message], setup: Setup
    ) -> list[Outcome | Failure]:
        """A batch, message by message or in two steps."""
        prepare = self._prepare
        if prepare is None:
            return [self._run(host, slot, message, setup) for slot, message in enumerate(messages)]
        slots = [_Slot(host, number, message.key) for number, message in enumerate(messages)]
        try:
            contexts = [Context(slot, setup) for slot in slots]
            prepared = [
                _step(message, _prepared, prepare, slot.number, message, ctx)
                for slot, message, ctx in zip(slots, messages, contexts, strict=True)
            ]
            asked = [requests for requests in prepared if not isinstance(requests, Failure)]
            answers = iter(fetch_all(host, [request for own in asked for request in own]))
            return [
                requests
                if isinstance(requests, Failure)
                else _step(message, self._handle, message, ctx, [next(answers) for _ in requests])
                for message, ctx, requests in zip(messages, contexts, prepared, strict=True)
            ]
        finally:
            for slot in slots:
                slot.end()

    def _handle(self, *given: Any) -> Outcome:
        returned = self._function(*given)
        if returned is None:
            return DONE
        if not isinstance(returned, Outcome):
            kind = type(returned).__name__
            name = self._function.__name__
            raise TypeError(f"{name} returned {kind}, where it may return DONE, SKIP or None")
        return returned


def _step(message: Message, step: Callable[..., _T], *given: object) -> _T | Failure:
    """A message's step, or what becomes of the message by what it raised. What ends the program
    (``sys.exit``, no memory) goes through."""
    current.message = message
    try:
        return step(*given)
    except MemoryError:
        raise
    except Exception as error:
        if not isinstance(error, Failure):
            _log.debug("the handler failed", exc_info=error)
        return failure_of(error)
    finally:
        current.message = None


def _prepared(prepare: Prepare, slot: int, message: Message, ctx: Context) -> list[Outgoing]:
    requests = prepare(message, ctx)
    if isinstance(requests, (str, Request)):
        raise TypeError("prepare returns a list of requests, not one alone")
    return [outgoing(slot, request) for request in requests or ()]


@overload
def handler(function: Handle, /) -> Handler: ...
@overload
def handler(*, prepare: Prepare) -> Callable[[HandleAnswers], Handler]: ...
def handler(
    function: Handle | None = None, /, *, prepare: Prepare | None = None
) -> Handler | Callable[[HandleAnswers], Handler]:
    """Makes a function the handler of its module, which has one::

        @keyrail.handler
        def handle(message: keyrail.Message, ctx: keyrail.Context) -> None: ...

        @handle.on_open  # may be left out
        def check(setup: keyrail.Setup) -> None: ...

    It runs once for each message; one key's messages come in order. It returns `DONE` (or
    ``None``) or `SKIP`, and raises `Retry` or `DeadLetter`. Any other exception is a retry with the
    code ``error``.

    With ``prepare`` it has two steps, between which HTTP requests are made for the whole batch::

        def prepare(message: keyrail.Message, ctx: keyrail.Context) -> list[keyrail.Request]: ...

        @keyrail.handler(prepare=prepare)
        def handle(
            message: keyrail.Message, ctx: keyrail.Context, answers: Sequence[keyrail.Answer]
        ) -> None: ...

    Each answer is that of the message's request in its place. What ``prepare`` raises decides the
    message: its requests are not made, and the function is not called. All messages of a batch are
    prepared before the first is handled; it has one of a key at most where the manifest grants
    hosts, so a service sees one key's requests in order.
    """
    if function is not None:
        return Handler(function, None)
    return lambda function: Handler(function, prepare)
