"""A full disk under the log. Promised: requests are answered as ever, the lost lines are counted."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from slimpath.tests.service.faults.process import INFER, RAW, ServerProcess, sample
from slimpath.tests.service.running import encoded, wait_until

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk that is always full")


def test_requests_are_answered_while_no_line_can_be_logged(bundle: Path, cache: Path) -> None:
    with ServerProcess(bundle, cache, "--log-file", "/dev/full") as server, server.client() as client:
        for _ in range(20):
            assert client.post(INFER, content=encoded(), headers=RAW).status_code == 200
        wait_until(lambda: sample(client, "slimpath_log_lines_lost_total") >= 20)
        server.signal(signal.SIGTERM)
        assert server.end() == 0
        assert not any("Traceback" in line for line in server.lines)


def test_a_cache_that_cannot_be_written_does_not_hinder_the_start(bundle: Path, tmp_path: Path) -> None:
    not_a_folder = tmp_path / "file"
    not_a_folder.write_text("")
    with ServerProcess(bundle, not_a_folder / "cache") as server, server.client() as client:
        assert client.post(INFER, content=encoded(), headers=RAW).status_code == 200
