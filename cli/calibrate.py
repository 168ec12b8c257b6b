"""`slimpath calibrate`: measure what a bundle costs on this device, or show what was measured."""

from __future__ import annotations

import re
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .calibrate_tables import print_profile
from .common import BAD_INPUT, BackendName, Debug, Json, Precision, load_backend, say, verb
from .errors import InputError
from .files import find_images
from .output import print_json

if TYPE_CHECKING:
    from ..runtime import Bundle
    from ..runtime.backends.base import Backend
    from ..runtime.profiling.calibrate_steps import Progress
    from ..runtime.profiling.profile import Profile

_TIME = re.compile(r"([0-9]*\.?[0-9]+)\s*(s|sec|m|min|h)?", re.IGNORECASE)
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
_BUSY = 0.1  # above this share of the CPUs used by others, the reader is told
_MAX_IMAGES = 8  # that routing is measured on; more only fill memory
_REFRESH_S = 0.25  # of the progress bar, which must not draw while something is timed


class TierName(str, Enum):
    """The tiers of a session, as an option."""

    packed = "packed"
    mapped = "mapped"


@verb
def calibrate(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="The bundle.", show_default="the bundled model")
    ] = None,
    time: Annotated[str, typer.Option("--time", metavar="TIME", help='How long to measure: "60s", "2min".')] = "60s",
    backend: BackendName = "onnxruntime",
    precision: Precision = "fp32",
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads of each run.", show_default="the usable CPUs")
    ] = None,
    tier: Annotated[TierName, typer.Option("--tier", help="How weights are held; packed is what runs in the end.")] = (
        TierName.packed
    ),
    images: Annotated[
        Path | None,
        typer.Option(
            "--images", metavar="DIR", help="Pictures like those to come.", show_default="a rendered room and patterns"
        ),
    ] = None,
    parity: Annotated[
        bool, typer.Option("--parity/--no-parity", help="Also check that the backend gives the bundle's answers.")
    ] = True,
    show: Annotated[bool, typer.Option("--show", help="Measure nothing; show what was measured here before.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure latency, memory and energy of every part of a bundle on this device.

    Budgets in milliseconds and millijoules need it. The most informative configurations are measured first; what the
    time does not suffice for is modelled, and marked with ~. Nothing else should run meanwhile. The profile is kept in
    $SLIMPATH_CACHE and holds for this bundle, device, backend and its version, number of threads and tier.
    The exit code is 2 where the profile cannot be kept, or the backend fails the parity check.

    \b
    Examples:
      slimpath calibrate
      slimpath calibrate my_bundle --time 5min --images photos/
      slimpath calibrate my_bundle --backend openvino --threads 4
      slimpath calibrate my_bundle --show --json
    """
    from ..runtime import Bundle, bundled_path
    from ..runtime.profiling.profile import Profile, conditions_of
    from ..runtime.profiling.profile_data import profile_folder

    limit_s = parse_time(time)
    opened = Bundle.open(bundle or bundled_path())
    chosen = load_backend(opened, backend, precision, threads=threads)
    if show:
        profile = Profile.find(opened.manifest, conditions_of(opened, chosen, tier.value))
    else:
        profile = _measure(opened, chosen, tier.value, limit_s, images, parity, shown=not json)
    failed = [] if show else _save(profile)
    path = profile_folder(opened.digest) / f"{profile.data.conditions.key}.json"
    if json:
        print_json({"path": str(path), "key": profile.key, **_document(profile)})
    else:
        print_profile(profile, opened.manifest)
        if not failed:
            print(f"{'kept in' if show else 'written to'} {path}")
    failed += [f"the backend fails its parity check: {name}" for name, ok in parity_results(profile).items() if not ok]
    for line in [*warnings(profile), *failed]:
        say(f"slimpath: {line}")
    if failed:
        raise typer.Exit(BAD_INPUT)


def parse_time(text: str) -> float:
    """Seconds from "60s", "2min", "1.5h" or "90".

    Raises:
        InputError: no such time, or under a second or over a day.
    """
    found = _TIME.fullmatch(text.strip())
    seconds = float(found[1]) * _SECONDS[(found[2] or "s").lower()] if found else 0.0
    if not 1 <= seconds <= 86400:
        raise InputError(f"a time must be from 1s to 24h, got {text!r}", hint='for example "60s" or "2min"')
    return seconds


def warnings(profile: Profile) -> list[str]:
    """What the reader should know before trusting the figures."""
    quality, found = profile.data.quality, []
    if quality.others_busy is not None and quality.others_busy > _BUSY:
        found.append(
            f"other processes used {100 * quality.others_busy:.0f} % of the CPUs meanwhile: figures may be too high; "
            "calibrate again when they are done"
        )
    if quality.median_error is not None and quality.median_error > 0.1:
        found.append(
            f"predictions of whole calls are off by {100 * quality.median_error:.0f} % (median): "
            "calibrate again for longer, or on a quieter device"
        )
    return found


def parity_results(profile: Profile) -> dict[str, bool]:
    """Backend and precision -> whether the parity check was passed."""
    return {name: bool(result.get("passed")) for name, result in profile.data.parity.items()}


def _measure(
    bundle: Bundle, backend: Backend, tier: str, limit_s: float, images: Path | None, parity: bool, *, shown: bool
) -> Profile:
    from ..runtime import Engine
    from ..runtime.profiling.calibrate import calibrate as measure
    from ..runtime.profiling.parity import check_backend

    pictures = None
    if images is not None:
        pictures = [entry.path for entry in find_images([str(images)], images / ".none")][:_MAX_IMAGES]
    with bar(limit_s, shown=shown) as report, Engine.load(bundle, backend=backend, tier=tier, profile=None) as engine:  # type: ignore[arg-type]
        profile = measure(engine, time_limit_s=limit_s, images=pictures, progress=report)
    # ONNX Runtime on the CPU is the reference itself: its graphs were checked at export.
    if not parity or backend.name == "onnxruntime":
        return profile
    return profile.with_parity(check_backend(bundle, backend).to_profile())


def _save(profile: Profile) -> list[str]:
    """Store it; what was measured is shown even where that fails."""
    from ..runtime.errors import ProfileError

    try:
        profile.save()
    except ProfileError as error:
        return [str(error)]
    return []


def _document(profile: Profile) -> dict[str, Any]:
    import msgspec

    return msgspec.to_builtins(profile.data)


@contextmanager
def bar(limit_s: float, *, shown: bool) -> Iterator[Callable[[Progress], None]]:
    """A progress bar in seconds with the time left; drawn between measurements, so that it costs them nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
    progress = Progress(*columns, console=console, transient=True, auto_refresh=False)
    task = progress.add_task("calibrating", total=limit_s, left="")
    drawn_s = [0.0]

    def report(state: Any) -> None:
        if (now := clock.monotonic()) - drawn_s[0] < _REFRESH_S:
            return
        left = f"{state.left_s:.0f} s left" if state.left_s > 0 else "a moment more"
        progress.update(task, completed=min(state.elapsed_s, limit_s), description=state.what, left=left, refresh=True)
        drawn_s[0] = now

    if shown and console.is_terminal:
        with progress:
            yield report
    else:  # never started: even a disabled one of rich 13 ends with an empty line
        yield lambda state: None
