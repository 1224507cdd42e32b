"""Why the host refused a call, and what an exception makes of a message."""

from __future__ import annotations

import os
import traceback
from typing import ClassVar

from ._http import HttpError
from ._types import DeadLetter, Failure, Retry

# Frames of these do not tell a handler's author where to look.
_OWN = os.path.dirname(__file__) + os.sep
_LIBRARY = os.path.dirname(traceback.__file__) + os.sep
# The host keeps the first 4 KiB of a detail; the rest would only be carried there.
_WORDS = 4096


class HostError(Exception):
    """A call of the host failed, in the host's words. If nobody catches it, the message is retried.

    What would be refused alike each time has classes of its own; uncaught, they make the message
    a dead letter with their ``code``.
    """

    code: ClassVar[str] = "other"


class NoKeyError(HostError):
    """State or timers were used for a message that has no order key."""

    code = "no-key"


class UnknownOutputError(HostError):
    """The manifest's ``[output]`` has no such name."""

    code = "unknown-output"


class TooLargeError(HostError):
    """A name, a key, a value or a page of a scan is larger than the host takes."""

    code = "too-large"


class OverQuotaError(HostError):
    """The message's sends and changes of state pass the manifest's ``[limits]``."""

    code = "over-quota"


def failure_of(error: Exception) -> Failure:
    """What an exception that left the handler makes of its message."""
    if isinstance(error, (Retry, DeadLetter)):
        return error
    failure: Failure
    if isinstance(error, HttpError):
        failure = error.failure()
    elif isinstance(error, HostError) and error.code != HostError.code:
        failure = DeadLetter(error.code, _at(str(error), error))
    else:
        failure = Retry("error", described(error))
    failure.__cause__ = error
    return failure


def described(error: BaseException) -> str:
    """Class, words and place: ``ValueError: no amount (handler.py:12 in handle)``."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        text = "it fails to tell its words"
    return _at(f"{name}: {text[:_WORDS]}" if text else name, error)


def _at(words: str, error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        library = frame.filename.startswith(_LIBRARY) and "site-packages" not in frame.filename
        if not library and not frame.filename.startswith(_OWN):
            return f"{words} ({os.path.basename(frame.filename)}:{frame.lineno} in {frame.name})"
    return words
