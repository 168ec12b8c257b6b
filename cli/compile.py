"""`slimpath compile`: build on this device what a backend cannot build while a request waits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import BAD_INPUT, Debug, Json, parse_numbers, say, verb
from .errors import InputError
from .output import human_bytes, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from ..runtime.tensorrt.compiling import Built

_BACKENDS = ("tensorrt",)


@verb
def compile(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle of `slimpath export --target gpu`.")],
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="What to build for: tensorrt.")] = (
        "tensorrt"
    ),
    precision: Annotated[
        str | None,
        typer.Option("--precision", metavar="LIST", help="Such as fp16.", show_default="all that the bundle has"),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option("--tasks", metavar="LIST", help="Heads to build.", show_default="all")
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option("--widths", metavar="LIST", help="Encoder and decoder widths to build.", show_default="all"),
    ] = None,
    stripped: Annotated[
        bool,
        typer.Option(
            "--stripped", help="Leave the weights out of the engines; they are taken from the bundle at every load."
        ),
    ] = False,
    memory: Annotated[
        int | None,
        typer.Option(
            "--memory",
            metavar="MB",
            min=16,
            help="What a build may use on the device.",
            show_default="half of the free",
        ),
    ] = None,
    level: Annotated[
        int, typer.Option("--level", min=0, max=5, help="TensorRT's optimisation level: higher searches longer.")
    ] = 3,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1, help="Give up a build after that long.")
    ] = 3600.0,
    force: Annotated[bool, typer.Option("--force", help="Build again what is there already.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Build TensorRT engines of a bundle on this device, and check each against ONNX Runtime.

    Run it once per device, before the first `--backend tensorrt`; it takes minutes. Engines are kept in
    $SLIMPATH_CACHE and hold for this bundle, GPU, driver and version of TensorRT; others are refused, with the reason.
    Each is built in a process of its own, and kept only if it computes in the types of its graph and gives its answers.
    The exit code is 2 where an engine could not be built.

    \b
    Examples:
      slimpath compile my_bundle --backend tensorrt
      slimpath compile my_bundle --backend tensorrt --precision fp16 --tasks depth,semseg
      slimpath compile my_bundle --backend tensorrt --stripped --memory 1024
    """
    from ..runtime import Bundle
    from ..runtime.cpus import usable_cpus
    from ..runtime.tensorrt.compiling import CompileOptions, choose_graphs, compile_engines

    if backend not in _BACKENDS:
        raise InputError(
            f"--backend must be {' or '.join(_BACKENDS)}, got {backend!r}",
            hint="the other backends build nothing ahead: use them at once",
        )
    opened = Bundle.open(bundle)
    graphs = choose_graphs(
        opened,
        precisions=_names(precision),
        tasks=_known_tasks(_names(tasks), opened.manifest.task_names),
        widths=parse_numbers(widths, "--widths", 0, 1) if widths else (),
    )
    options = CompileOptions(stripped, memory, level, force, usable_cpus(), timeout)
    with progress_bar("building", len(graphs), shown=not json) as progress:
        task, done = progress.task_ids[0], {graph.file: index for index, graph in enumerate(graphs)}

        def tell(file: str, doing: str, step: int, steps: int) -> None:
            share = f" {100 * step // steps} %" if steps else ""
            progress.update(task, description=f"{file}: {doing}{share}", completed=done[file])

        results = compile_engines(opened, graphs, options, progress=tell)
    _report(opened.path, results, json)
    failed = [result for result in results if result.state == "failed"]
    for result in failed:
        say(f"slimpath: {result.reason}")
    if failed:
        raise typer.Exit(BAD_INPUT)


def _report(bundle: Path, results: Sequence[Built], json: bool) -> None:
    if json:
        print_json({"bundle": str(bundle), "engines": [_row(result) for result in results]})
        return
    rows = []
    for result in results:
        header = result.header
        size = human_bytes(header.plan_bytes) if header else ""
        error = f"{header.checked.max_abs_error:.1e}" if header else ""
        rows.append((result.file, result.state, size, f"{header.build_s:.0f} s" if header else "", error))
    print_table("", ("graph", "engine", "size", "build", "error"), rows, numeric=(2, 3, 4))
    kept = [result for result in results if result.header is not None]
    if kept:
        print(f"{len(kept)} engines in {kept[0].path.parent}")


def _row(result: Built) -> dict[str, Any]:
    row: dict[str, Any] = {"file": result.file, "state": result.state, "path": str(result.path)}
    if result.header is not None:
        checked = result.header.checked
        row |= {
            "bytes": result.header.plan_bytes,
            "build_s": result.header.build_s,
            "stripped": result.header.stripped,
            "max_abs_error": checked.max_abs_error,
            "tolerance": checked.tolerance,
            "reference": checked.reference,
            "layer_types": checked.layer_types,
        }
    if result.reason:
        row["reason"] = result.reason
    return row


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _known_tasks(wanted: tuple[str, ...], known: Sequence[str]) -> tuple[str, ...]:
    for task in wanted:
        if task not in known:
            raise InputError(f"unknown task {task!r}", hint=f"this bundle has {', '.join(known)}")
    return wanted
