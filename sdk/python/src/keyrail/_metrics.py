"""Metrics of the handler's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ._host import Host, host, text


class _Metric:
    _kind: ClassVar[int]

    def __init__(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        self.name = text(name)
        self.labels = {text(label): text(value) for label, value in (labels or {}).items()}
        self._registered: tuple[Host, int] | None = None

    def _observe(self, value: float) -> None:
        # At first use: while a module is imported there is no host yet.
        asked = host()
        if self._registered is None or self._registered[0] is not asked:
            handle = asked.metric_register(self.name, self._kind, list(self.labels.items()))
            self._registered = (asked, handle)
        asked.metric_observe(self._registered[1], float(value))


class Counter(_Metric):
    """A sum of what is added. As all metrics it is made once, beside the handler, and named by
    letters, digits and ``_``; what is observed is not undone if the message fails."""

    _kind = 0

    def add(self, value: float = 1) -> None:
        self._observe(value)


class Gauge(_Metric):
    """A value that goes up and down."""

    _kind = 1

    def set(self, value: float) -> None:
        self._observe(value)


class Histogram(_Metric):
    """A distribution."""

    _kind = 2

    def observe(self, value: float) -> None:
        self._observe(value)
