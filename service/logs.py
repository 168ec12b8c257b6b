"""Logs: one line of text or one JSON document per event, each with the id of the request that it belongs to.

Logging never delays or fails a request: lines go through a bounded queue to a thread that writes them. What cannot be
written (the disk is full, nobody reads the pipe) is dropped and counted, until it can be written again.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from .settings import LogSettings

    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler  # before Python 3.11 it takes no type

QUEUED_LINES = 10_000
CLOSE_S = 2.0  # that the end waits for the last lines
LOGGERS = ("slimpath", "uvicorn")
request_id_var: ContextVar[str] = ContextVar("slimpath_request_id", default="")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "request_id",
    "taskName",
    "color_message",
}


class _Lost:
    """Counts dropped lines."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.lines = 0

    def add(self) -> None:
        with self._lock:
            self.lines += 1


_lost = _Lost()


def lost_lines() -> int:
    """Lines that could not be written since the process began."""
    return _lost.lines


class TextFormatter(logging.Formatter):
    """2025-06-01T12:00:00.123Z info slimpath.service model ready model=nano seconds=1.2 request_id=..."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [_time(record), record.levelname.lower(), record.name, _one_line(record.getMessage())]
        parts += [f"{name}={_quoted(value)}" for name, value in _fields(record).items()]
        if record.exc_info:
            parts.append("\n" + self.formatException(record.exc_info))
        return " ".join(parts)


class JsonFormatter(logging.Formatter):
    """One JSON document: time, level, logger, message, request_id, then the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": _time(record), "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage(), **_fields(record),
        }  # fmt: skip
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    request_id = getattr(record, "request_id", "")
    return {**fields, "request_id": request_id} if request_id else fields


def _one_line(text: str) -> str:
    """What a client sent must not begin a line of its own."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _quoted(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and text and not any(sign in text for sign in ' "=')
    return text if plain else json.dumps(text)


class _Enqueue(logging.handlers.QueueHandler):
    """Puts lines into the queue, each with the id of the request; drops them if it is full."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        record.request_id = request_id_var.get()
        return record  # formatted by the thread: nothing is pickled here

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            _lost.add()


class _Write(_StreamHandler):
    """Writes lines, and counts those that cannot be written instead of printing a traceback for each."""

    def handleError(self, record: logging.LogRecord) -> None:
        _lost.add()


class _WriteFile(logging.handlers.WatchedFileHandler):
    """The same to a file, which logrotate may take away."""

    def handleError(self, record: logging.LogRecord) -> None:
        _lost.add()
        stream, self.stream = self.stream, None  # type: ignore[assignment]  # the next line opens it again
        # What could not be written stays in the stream's buffer: closing it fails once more, and drops it.
        if stream is not None:
            with suppress(OSError):
                stream.close()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # it could not be opened again
            _lost.add()


class _Writer(threading.Thread):
    """Takes lines out of the queue. A daemon: a pipe that nobody reads must not hold the end of the process."""

    def __init__(self, lines: queue.Queue[logging.LogRecord | None], target: logging.Handler) -> None:
        super().__init__(name="slimpath-log", daemon=True)
        self._lines, self._target = lines, target

    def run(self) -> None:
        while (record := self._lines.get()) is not None:
            self._target.handle(record)

    def stop(self) -> None:
        """Write what waits, as far as that can be done in `CLOSE_S`."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=CLOSE_S)
        self.join(CLOSE_S)
        if not self.is_alive():
            with suppress(OSError):
                self._target.close()


def configure_logging(settings: LogSettings, stream: TextIO | None = None) -> Callable[[], None]:
    """Send what slimpath and uvicorn log where the settings say. Returns what ends it, after the last line.

    Args:
        stream: instead of stderr.

    Raises:
        OSError: the file cannot be opened.
    """
    target = _WriteFile(settings.file, encoding="utf-8") if settings.file else _Write(stream or sys.stderr)
    target.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    lines: queue.Queue[Any] = queue.Queue(QUEUED_LINES)
    enqueue = _Enqueue(lines)
    writer = _Writer(lines, target)
    writer.start()
    restore = [_take_over(logging.getLogger(name), enqueue, settings.level) for name in LOGGERS]

    def close() -> None:
        for undo in restore:
            undo()
        writer.stop()

    return close


def _take_over(logger: logging.Logger, handler: logging.Handler, level: str) -> Callable[[], None]:
    before = list(logger.handlers), logger.level, logger.propagate
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False

    def undo() -> None:
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])

    return undo
