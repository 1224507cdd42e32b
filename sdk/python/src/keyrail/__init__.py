"""Keyrail handlers in Python.

A handler is a function from a message to what becomes of it::

    import keyrail

    @keyrail.handler
    def handle(message: keyrail.Message, ctx: keyrail.Context) -> None:
        ctx.send("copies", message.value)

``python -m keyrail build handler.py`` makes it a WebAssembly file for the plugin folder;
``keyrail.testing`` runs it without a host.
"""

from ._context import OWN_KEY, Context, State, Timers
from ._errors import (
    HostError,
    NoKeyError,
    OverQuotaError,
    TooLargeError,
    UnknownOutputError,
)
from ._handler import Handler, handler
from ._http import Answer, HttpError, HttpErrorCode, Request, Response
from ._log import LogHandler
from ._metrics import Counter, Gauge, Histogram
from ._types import (
    DONE,
    SKIP,
    DeadLetter,
    Failure,
    Header,
    Message,
    Outcome,
    Refuse,
    Retry,
    Setup,
)

__version__ = "0.1.0"

__all__ = [
    "DONE",
    "OWN_KEY",
    "SKIP",
    "Answer",
    "Context",
    "Counter",
    "DeadLetter",
    "Failure",
    "Gauge",
    "Handler",
    "Header",
    "Histogram",
    "HostError",
    "HttpError",
    "HttpErrorCode",
    "LogHandler",
    "Message",
    "NoKeyError",
    "Outcome",
    "OverQuotaError",
    "Refuse",
    "Request",
    "Response",
    "Retry",
    "Setup",
    "State",
    "Timers",
    "TooLargeError",
    "UnknownOutputError",
    "handler",
]
