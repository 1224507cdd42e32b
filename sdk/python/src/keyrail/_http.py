"""HTTP requests of a message, and what becomes of them."""

from __future__ import annotations

import codecs
import json as _json
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, TypeAlias

from ._host import Host, data, millis, text
from ._types import DeadLetter, Failure, Retry

if TYPE_CHECKING:
    from ._context import Data

# The longest wait that a retry-after gets.
_RETRY_AFTER_S = 3600
# So many bytes of an answer's body stand in a failure's detail.
_DETAIL_BYTES = 200

HttpErrorCode: TypeAlias = Literal["denied", "invalid", "timeout", "unreachable", "too-large"]

_WORDS: Mapping[HttpErrorCode, str] = {
    "timeout": "no answer in time",
    "too-large": "the answer is larger than limits.response-bytes allows",
}
# Another run may be answered.
_PASSING = ("timeout", "unreachable")


@dataclass(frozen=True, slots=True)
class Request:
    """A request: a ``GET``, or a ``POST`` if it has a body, unless ``method`` tells otherwise."""

    url: str
    """The whole of it: ``https://HOST/PATH``."""
    _: KW_ONLY
    method: str | None = None
    headers: Mapping[str, Data] | Iterable[tuple[str, Data]] = ()
    """Those of the connection (``host``, ``content-length``, ...) are the host's."""
    body: Data | None = None
    json: object = None
    """A body of JSON instead, with its ``content-type`` unless the headers have one."""
    timeout: timedelta | None = None
    """Until the answer's last byte has come; at most, and unless told: the manifest's
    ``limits.timeout``."""


class Response:
    """An answer, whatever its status."""

    __slots__ = ("_asked", "body", "headers", "status")

    def __init__(
        self,
        status: int = 200,
        *,
        headers: Mapping[str, Data] | Iterable[tuple[str, Data]] = (),
        body: Data = b"",
        json: object = None,
    ) -> None:
        """For tests, `keyrail.testing.Host.answer`."""
        self._asked = ""
        self.status: int = status
        self.headers: tuple[tuple[str, str], ...] = tuple(
            (name.lower(), value.decode("utf-8", "replace")) for name, value in _pairs(headers)
        )
        """In order, names in lower case."""
        self.body: bytes = data(body) if json is None else _json.dumps(json).encode()
        """As it came over the wire."""

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status <= 299

    def header(self, name: str) -> str | None:
        """The value of the last header of that name, in any case, or ``None``."""
        wanted = name.lower()
        return next((value for own, value in reversed(self.headers) if own == wanted), None)

    @property
    def text(self) -> str:
        """The body as UTF-8; what is none becomes U+FFFD."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. Raises `ValueError` if it is none."""
        return _json.loads(self.body)

    def raise_for_status(self) -> Response:
        """The response itself if its status is 2xx.

        Raises `Retry` with the code ``http-STATUS`` for 408, 425, 429 and 5xx, ``after`` the seconds
        of a ``retry-after`` of 429 and 503 (an hour at most), and `DeadLetter` with that code for
        any other status.
        """
        if self.ok:
            return self
        code, detail = f"http-{self.status}", self._detail()
        if self.status in (429, 503):
            raise Retry(code, detail, after=self._retry_after())
        if self.status in (408, 425) or 500 <= self.status <= 599:
            raise Retry(code, detail)
        raise DeadLetter(code, detail)

    def _retry_after(self) -> timedelta | None:
        value = (self.header("retry-after") or "").strip()
        if not (value.isascii() and value.isdigit()):
            return None
        # Python reads no number of thousands of digits.
        digits = value.lstrip("0")[: len(str(_RETRY_AFTER_S)) + 1]
        seconds = min(int(digits or "0"), _RETRY_AFTER_S)
        return timedelta(seconds=seconds) if seconds else None

    def _detail(self) -> str:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            # Not its end: a character that is cut in two there is left out.
            told = decoder.decode(self.body[:_DETAIL_BYTES])
        except UnicodeDecodeError:
            told = ""
        return f"{self._asked}: {self.status}{' ' if told else ''}{told}"

    def __repr__(self) -> str:
        return f"<Response {self.status}, {len(self.body)} bytes>"


class HttpError(Exception):
    """A request was not answered.

    Its ``code`` says why: ``denied`` (the manifest does not grant it), ``invalid`` (no such request
    can be sent), ``timeout`` and ``unreachable`` (it may have been done all the same), ``too-large``
    (the answer's body passes the manifest's ``limits.response-bytes``).

    If nobody catches it, ``timeout`` and ``unreachable`` retry the message under the code
    ``http-timeout`` or ``http-unreachable``; the others make it a dead letter with such a code.
    """

    def __init__(self, code: HttpErrorCode, words: str = "") -> None:
        super().__init__(words or _WORDS.get(code, code))
        self.code: HttpErrorCode = code

    @property
    def ok(self) -> Literal[False]:
        return False

    def raise_for_status(self) -> NoReturn:
        """Raises it."""
        raise self

    def failure(self) -> Failure:
        """What becomes of a message that does not catch it."""
        code = f"http-{self.code}"
        return Retry(code, self) if self.code in _PASSING else DeadLetter(code, self)


Answer: TypeAlias = Response | HttpError
"""What came of a request. ``answer.raise_for_status()`` is a response that is well, or raises."""


class Outgoing(NamedTuple):
    """A request as the contract has it."""

    slot: int
    method: str
    url: str
    headers: list[tuple[str, bytes]]
    body: bytes | None
    timeout_ms: int | None

    @property
    def asked(self) -> str:
        # What follows ? or # may be secret.
        url = self.url.partition("#")[0].partition("?")[0]
        return f"{self.method} {url}"


class Reply(NamedTuple):
    """A response as the contract has it."""

    status: int
    headers: list[tuple[str, bytes]]
    body: bytes


class Unanswered(NamedTuple):
    """An error as the contract has it."""

    code: HttpErrorCode
    words: str = ""


def outgoing(slot: int, request: Request | str) -> Outgoing:
    """Raises `TypeError` and `ValueError` for what cannot cross the border."""
    if isinstance(request, str):
        request = Request(request)
    if not isinstance(request, Request):
        raise TypeError(f"a request is a Request or a URL, not {type(request).__name__}")
    headers = _pairs(request.headers)
    body = None if request.body is None else data(request.body)
    if request.json is not None:
        if body is not None:
            raise ValueError("a request has a body or json, not both")
        body = _json.dumps(request.json).encode()
        if all(name.lower() != "content-type" for name, _ in headers):
            headers.append(("content-type", b"application/json"))
    method = request.method or ("GET" if body is None else "POST")
    timeout_ms = None if request.timeout is None else millis(request.timeout)
    return Outgoing(slot, text(method), text(request.url), headers, body, timeout_ms)


def fetch_all(host: Host, requests: list[Outgoing]) -> list[Answer]:
    """All at the same time: one answer for each, in their order."""
    if not requests:
        return []
    answers: list[Answer] = []
    for request, reply in zip(requests, host.fetch_all(requests), strict=True):
        if isinstance(reply, Unanswered):
            words = reply.words or _WORDS.get(reply.code, reply.code)
            answers.append(HttpError(reply.code, f"{request.asked}: {words}"))
        else:
            response = Response(reply.status, headers=reply.headers, body=reply.body)
            response._asked = request.asked
            answers.append(response)
    return answers


def _pairs(
    headers: Mapping[str, Data] | Iterable[tuple[str, Data]],
) -> list[tuple[str, bytes]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(text(name), data(value)) for name, value in pairs]
