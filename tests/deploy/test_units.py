"""The systemd units: systemd itself reads them, they name what install.sh puts there, and options that exist."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import slimpath

FOLDER = Path(slimpath.__file__).parent / "deploy" / "jetson"
UNITS = ("slimpath.service", "slimpath-stream.service")
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


def read(unit: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((FOLDER / unit).read_text())
    return parser


@pytest.fixture
def runnable(tmp_path: Path) -> Path:
    """The units with an interpreter that exists: systemd looks."""
    for unit in UNITS:
        text = (FOLDER / unit).read_text()
        (tmp_path / unit).write_text(re.sub(r"/opt/slimpath/venv/bin/python", sys.executable, text))
    return tmp_path


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_every_line(runnable: Path, unit: str):
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(runnable / unit)], capture_output=True, text=True, timeout=60
    )
    complaints = [line for line in done.stderr.splitlines() if unit in line]
    assert done.returncode == 0 and complaints == [], done.stderr


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_the_unit_well_shut_in(runnable: Path, unit: str):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=25", "--no-pager", str(runnable / unit)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if "unrecognized option" in done.stderr or "Unknown" in done.stderr:
        pytest.skip("this systemd cannot judge a file")
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_unit_has_limits_a_watchdog_and_no_rights(unit: str):
    service = read(unit)["Service"]
    assert service["Type"] == "notify" and service["NotifyAccess"] == "main"
    assert int(service["WatchdogSec"]) >= 10 and service["Restart"] == "on-failure"
    for limit in ("MemoryMax", "TasksMax", "LimitNOFILE", "TimeoutStartSec", "TimeoutStopSec"):
        assert service[limit]
    assert service["User"] == "slimpath" and service["NoNewPrivileges"] == "yes"
    assert service["CapabilityBoundingSet"] == "" and service["ProtectSystem"] == "strict"


def test_units_differ_only_in_what_they_run():
    first, second = (dict(read(unit)["Service"]) for unit in UNITS)
    assert {name for name in first if first[name] != second.get(name)} == {"Environment", "ExecStart"}
    assert set(first) == set(second)


@pytest.mark.parametrize("unit", UNITS)
def test_unit_runs_what_the_script_installs(unit: str):
    started = read(unit)["Service"]["ExecStart"]
    script = (FOLDER / "install.sh").read_text()
    assert started.startswith("/opt/slimpath/venv/bin/python /opt/slimpath/notify.py ")
    assert "PREFIX=/opt/slimpath\n" in script and '"$PREFIX/notify.py"' in script and f"/{unit}" in script
    assert read(unit)["Service"]["EnvironmentFile"] == "-/etc/slimpath/slimpath.env"


def options(verb: str) -> set[str]:
    """Of a verb of slimpath."""
    from slimpath.cli.app import app
    from slimpath.cli.reference import parameters

    (command,) = (command for command in app.registered_commands if command.name == verb)
    assert command.callback is not None
    return {word for row in parameters(command.callback) for word in row.spelling.split()[0].split("/")}


def test_options_in_units_and_settings_exist():
    texts = [(FOLDER / name).read_text() for name in (*UNITS, "slimpath.env")]
    stream = re.findall(r"SLIMPATH_STREAM=([^\n\"]*)", "\n".join(texts))
    used = {word for line in stream for word in line.split() if word.startswith("--")}
    assert used and used | {"--json"} <= options("stream")


def test_settings_name_the_variables_of_the_units():
    named = set(re.findall(r"^#?(SLIMPATH_\w+)=", (FOLDER / "slimpath.env").read_text(), re.MULTILINE))
    read_by_units = {
        name for unit in UNITS for name in re.findall(r"\$\{?(SLIMPATH_\w+)", read(unit)["Service"]["ExecStart"])
    }
    assert named == read_by_units
