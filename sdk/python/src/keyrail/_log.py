"""The `logging` module, to the host's log."""

from __future__ import annotations

import logging

from ._host import current

_LEVELS = (
    (logging.CRITICAL, 5),
    (logging.ERROR, 4),
    (logging.WARNING, 3),
    (logging.INFO, 2),
    (logging.DEBUG, 1),
)
# By the host's levels; what is below DEBUG is its trace.
THRESHOLDS = (1, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LogHandler(logging.Handler):
    """Writes to the host's log, with the message's partition and offset, the logger's name as
    ``module``, and what stands in ``extra`` as fields.

    A handler has it on its root logger from the start, at the level of the host's log.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if current.host is None:
            return
        try:
            fields = [("module", record.name)]
            message = current.message
            if message is not None:
                fields += [("partition", str(message.partition)), ("offset", str(message.offset))]
            extra = vars(record).items()
            fields += [(name, str(value)) for name, value in extra if name not in _STANDARD]
            current.host.log_write(_level(record.levelno), self.format(record), fields)
        except Exception:
            self.handleError(record)


def _level(levelno: int) -> int:
    return next((level for least, level in _LEVELS if levelno >= least), 0)
