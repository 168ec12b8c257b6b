"""`slimpath doctor`: what this machine is, what slimpath can use on it, and how to get what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import BAD_INPUT, Debug, Json, verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..runtime.doctor.diagnose import Finding, Report
    from ..runtime.doctor.installs import Install
    from ..runtime.doctor.machine import Machine


@verb
def doctor(
    backend: Annotated[
        str, typer.Option("--backend", metavar="NAME", help="That has to be usable for the machine to be ready.")
    ] = "onnxruntime",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what this machine is, what slimpath can use on it, what is missing, and the commands that install it.

    Looks at /proc, /sys and the installed packages, tries each inference library out in a process of its own, and lets
    the bundled model answer once. Nothing is installed or changed. The exit code is 0 where slimpath is ready to run
    with the backend, else 2.

    \b
    Examples:
      slimpath doctor
      slimpath doctor --backend onnxruntime-cuda
      slimpath doctor --json
    """
    from ..runtime.doctor.diagnose import diagnose

    _check(backend)
    with _status(shown=not json) as progress:
        report = diagnose(backend, on_progress=progress)
    if json:
        _print_json(report.to_json())
    else:
        print_report(report, backend)
    if not report.ready:
        raise typer.Exit(BAD_INPUT)


def print_report(report: Report, backend: str) -> None:
    """The report for people, on stdout."""
    from .output import print_table

    for name, value in _machine_rows(report):
        print(f"{name:13} {value}")
    print()
    rows = [(verdict.name, verdict.status, verdict.version, verdict.detail) for verdict in report.backends]
    print_table("Backends", ("name", "status", "version", ""), rows)
    print("libraries     " + ", ".join(f"{name} {version}" for name, version in report.libraries.items()))
    if report.opencv:
        print(
            "OpenCV has    "
            + (", ".join(name for name, has in report.opencv.items() if has) or "neither windows nor video")
        )
    for extra, missing in report.extras.items():
        if extra != "dev":  # of no use on a device
            print(f"extra {extra:9} {'installed' if not missing else 'without ' + ', '.join(missing)}")
    print()
    for finding in report.findings:
        _print_finding(finding)
    others = [verdict for verdict in report.backends if verdict.status in ("missing", "broken") and verdict.fix]
    for verdict in others:
        if verdict.name != backend and verdict.fix is not None:
            print(f"to get {verdict.name}, {verdict.fix.what}:")
            _print_fix(verdict.fix)
    print("ready" if report.ready else "not ready: see the problems above")


def _machine_rows(report: Report) -> list[tuple[str, str]]:
    machine = report.machine
    rows = [
        ("model", machine.model),
        *_jetson_rows(machine),
        ("system", ", ".join(filter(None, (machine.system, f"Linux {machine.kernel}", machine.architecture)))),
        ("processor", f"{machine.cpu}, {machine.cpus} CPU{'s' if machine.cpus != 1 else ''}"),
        ("instructions", " ".join(machine.features)),
        ("memory", f"{machine.memory_mb:,} MB, {machine.free_mb:,} MB free" if machine.memory_mb else ""),
        ("NVIDIA GPU", f"driver {machine.driver or 'of the system'}" if machine.nvidia_gpu else "none"),
        ("CUDA", machine.cuda),
        ("cuDNN", machine.cudnn),
        ("TensorRT", machine.tensorrt),
        ("Python", f"{machine.python}, {'an environment' if machine.in_venv else 'of the system'}"),
        ("C library", f"glibc {machine.glibc}" if machine.glibc else ""),
        ("now", "" if report.health is None else report.health.text()),
    ]
    return [(name, value) for name, value in rows if value]


def _jetson_rows(machine: Machine) -> list[tuple[str, str]]:
    jetson = machine.jetson
    if jetson is None:
        return []
    jetpack = f"{jetson.jetpack or 'unknown'} (Linux for Tegra {jetson.l4t or 'unknown'})"
    return [
        ("module", ", ".join(filter(None, (jetson.chip, jetson.module)))),
        ("JetPack", jetpack),
        ("power mode", jetson.power_mode),
    ]


def _print_finding(finding: Finding) -> None:
    print(f"{finding.level}: {finding.text}")
    if finding.fix is not None:
        _print_fix(finding.fix)


def _print_fix(fix: Install) -> None:
    for command in fix.commands:
        print(f"    {command}")
    for note in fix.notes:
        print(f"    ({note})")


def _check(backend: str) -> None:
    """Refuse a name that no backend has.

    Raises:
        InputError: naming those that there are.
    """
    from ..runtime.doctor.diagnose import known_backends
    from .errors import InputError

    names = known_backends()
    if backend not in names:
        raise InputError(f"unknown backend {backend!r}", hint=f"this version has {', '.join(names)}")


@contextmanager
def _status(*, shown: bool) -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is being done, on a terminal only."""
    from rich.console import Console

    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield lambda what: None
        return
    with console.status("looking") as status:
        yield lambda what: status.update(what)


def _print_json(document: dict[str, Any]) -> None:
    """With the standard library: what the other verbs use may be what is missing."""
    import json

    print(json.dumps(document, indent=2, ensure_ascii=False))
