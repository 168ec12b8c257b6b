"""Logs: their two forms, and that what cannot be written costs nobody anything."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slimpath.service import logs
from slimpath.service.logs import configure_logging, lost_lines, request_id_var
from slimpath.service.settings import LogSettings
from slimpath.tests.service.running import wait_until

log = logging.getLogger("slimpath.tests")


@pytest.fixture
def to_stream() -> Iterator[Callable[..., io.StringIO]]:
    """Logging to a text; the lines are there once `close` was called."""
    closes: list[Callable[[], None]] = []

    def begin(**settings: Any) -> io.StringIO:
        stream = io.StringIO()
        closes.append(configure_logging(LogSettings(**settings), stream))
        return stream

    yield begin
    for close in closes:
        close()


def written(settings: dict[str, Any], *calls: Callable[[], None]) -> str:
    stream = io.StringIO()
    close = configure_logging(LogSettings(**settings), stream)
    try:
        for call in calls:
            call()
    finally:
        close()
    return stream.getvalue()


def test_json_lines_hold_the_fields_of_the_event() -> None:
    text = written({"format": "json"}, lambda: log.info("model ready", extra={"model": "tiny", "seconds": 1.5}))
    event = json.loads(text)
    assert event["message"] == "model ready" and event["level"] == "info" and event["logger"] == "slimpath.tests"
    assert (event["model"], event["seconds"]) == ("tiny", 1.5)
    assert event["time"].endswith("Z") and len(event["time"]) == 24


def test_text_lines_are_for_people() -> None:
    text = written({"format": "text"}, lambda: log.warning("a b", extra={"path": 'x "y"', "n": 3}))
    assert text.rstrip().endswith('warning slimpath.tests a b path="x \\"y\\"" n=3')


@pytest.mark.parametrize("form", ["text", "json"])
def test_one_event_is_one_line_whatever_it_says(form: str) -> None:
    text = written({"format": form}, lambda: log.info("one\ntwo\r\nthree", extra={"path": "a\nb"}))
    assert len(text.splitlines()) == 1


def test_exceptions_are_shown() -> None:
    def fail() -> None:
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("it failed")

    assert "ValueError: broken" in written({"format": "text"}, fail)
    assert "ValueError: broken" in json.loads(written({"format": "json"}, fail))["exception"]


def test_lines_carry_the_id_of_the_request_they_were_written_in() -> None:
    def inside() -> None:
        token = request_id_var.set("r1")
        log.info("inside")
        request_id_var.reset(token)
        log.info("outside")

    first, second = map(json.loads, written({"format": "json"}, inside).splitlines())
    assert first["request_id"] == "r1" and "request_id" not in second


def test_the_level_is_kept_to() -> None:
    text = written({"level": "warning"}, lambda: log.info("quiet"), lambda: log.warning("loud"))
    assert "quiet" not in text and "loud" in text


def test_afterwards_loggers_are_as_they_were() -> None:
    logger = logging.getLogger("slimpath")
    before = list(logger.handlers), logger.level, logger.propagate
    written({"level": "debug"}, lambda: None)
    assert (list(logger.handlers), logger.level, logger.propagate) == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_costs_lines_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    before = lost_lines()
    close = configure_logging(LogSettings(file="/dev/full"))
    for number in range(5):
        log.info("line %d", number)
    close()
    assert lost_lines() == before + 5
    assert "Traceback" not in capfd.readouterr().err


class FailingOnce(io.StringIO):
    """A stream whose disk is full at first."""

    failures = 2

    def write(self, text: str) -> int:
        if self.failures:
            self.failures -= 1
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_lines_are_written_again_once_there_is_room() -> None:
    stream, before = FailingOnce(), lost_lines()
    close = configure_logging(LogSettings(), stream)
    for number in range(4):
        log.info("line %d", number)
    close()
    assert lost_lines() == before + 2
    assert "line 2" in stream.getvalue() and "line 3" in stream.getvalue() and "line 0" not in stream.getvalue()


class Stuck(io.StringIO):
    """A pipe that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.read = threading.Event()  # type: ignore[assignment]

    def write(self, text: str) -> int:
        assert self.read.wait(60)  # type: ignore[attr-defined]
        return super().write(text)


def test_a_pipe_that_nobody_reads_neither_blocks_nor_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "QUEUED_LINES", 10)
    stream, before = Stuck(), lost_lines()
    close = configure_logging(LogSettings(), stream)
    for number in range(100):  # returns although not one can be written
        log.info("line %d", number)
    assert lost_lines() - before >= 85
    stream.read.set()  # type: ignore[attr-defined]
    close()


def test_a_log_file_may_be_taken_away_by_logrotate(tmp_path: Path) -> None:
    file = tmp_path / "slimpath.log"
    close = configure_logging(LogSettings(file=str(file)))
    log.info("first")
    wait_until(lambda: "first" in file.read_text())
    file.rename(tmp_path / "slimpath.log.1")
    log.info("second")
    wait_until(lambda: file.exists() and "second" in file.read_text())
    close()
    assert "second" not in (tmp_path / "slimpath.log.1").read_text()


def test_a_log_file_that_cannot_be_opened_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        configure_logging(LogSettings(file=str(tmp_path / "no" / "such" / "folder" / "log")))
