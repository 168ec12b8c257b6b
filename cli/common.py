"""What every verb shares: options, and how errors reach the reader.

An error that slimpath itself raised, or a file that is not there, becomes one line on stderr and exit code 2; a defect
of slimpath one line and exit code 1. `--debug` shows the traceback instead.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from .errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from ..runtime import Bundle, Engine
    from ..runtime.backends.base import Backend

BAD_INPUT = 2
DEFECT = 1

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; progress goes to stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
BundlePath = Annotated[
    Path | None, typer.Option("--bundle", metavar="DIR", help="The bundle to run.", show_default="the bundled model")
]
Tasks = Annotated[
    str | None,
    typer.Option(
        "--tasks",
        metavar="LIST",
        help='Such as "depth,edge"; with preferences "depth=2,edge"; with floors, shares of the full accuracy, '
        '"depth>=0.9,edge".',
        show_default="all",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="BUDGET",
        help='Limits such as "20ms", "300MB", "50mJ", "1.5GFLOPs", or 0.5, a share of the full FLOPs; pins such as '
        '"width=0.5", "top_k=2"; joined by commas. Or "min", the cheapest. Time and energy need `slimpath calibrate`.',
        show_default="full",
    ),
]
BackendName = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="onnxruntime, onnxruntime-cuda, onnxruntime-tensorrt, tensorrt, openvino, torch, torch-cuda, or auto: the "
        "fastest measured here that gives the same answers.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="Of the large products: fp32, bf16 (openvino, torch), fp16 or int8 (tensorrt, as the bundle has them), or "
        "auto: bf16 where it is native. Routers are always in fp32.",
    ),
]
Packs = Annotated[
    list[Path] | None,
    typer.Option("--pack", metavar="PACK", help="Also the task of this pack (`slimpath add-task`); may be repeated."),
]
_Verb = TypeVar("_Verb", bound=Callable[..., None])


def verb(function: _Verb) -> _Verb:
    """Make a function a verb: its errors reach the reader as one line, its exit code says how it went."""

    @functools.wraps(function)
    def run(*arguments: Any, debug: bool = False, **options: Any) -> None:
        try:
            function(*arguments, debug=debug, **options)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except Exception as error:  # the outermost frame: whatever comes must become a line and an exit code
            if debug:
                raise
            _refuse(error)

    return run  # type: ignore[return-value]  # wraps() keeps the signature that typer reads


def _refuse(error: Exception) -> NoReturn:
    expected = is_expected(error)
    say(
        f"slimpath: {describe(error)}"
        if expected
        else f"slimpath: internal error: {type(error).__name__}: {one_line(error)}"
    )
    if not expected:
        say("slimpath: this is a defect; run again with --debug and report what it prints")
    raise typer.Exit(BAD_INPUT if expected else DEFECT)


def is_expected(error: BaseException) -> bool:
    """Is this an error that tells the reader what to do: one of slimpath's own, or the file system's?

    Each folder has its own error tree, some of them in folders that need torch; they are known by where they are
    defined, so that nothing has to be imported to recognise them.
    """
    ours = __name__.partition(".")[0]
    return isinstance(error, OSError) or any(kind.__module__.partition(".")[0] == ours for kind in type(error).__mro__)


def describe(error: BaseException) -> str:
    """What to print for an expected error, in one line."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return one_line(error)


def one_line(error: BaseException) -> str:
    """The text of an error without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def say(text: str) -> None:
    """A line for the reader, on stderr: stdout belongs to results."""
    print(text, file=sys.stderr, flush=True)


def need(modules: tuple[str, ...], extra: str, purpose: str) -> None:
    """Refuse, with the command that helps, where libraries are missing.

    Raises:
        MissingExtraError: one of `modules` is not installed.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingExtraError(f"{purpose} needs {', '.join(missing)}", hint=f'pip install "slimpath[{extra}]"')


def load_engine(
    bundle: Path | None,
    *,
    threads: int | None = None,
    backend: str = "onnxruntime",
    precision: str = "fp32",
    packs: Iterable[Path] | None = None,
) -> Engine:
    """Open a bundle, with the tasks of some packs, for inference; None is the bundled model."""
    from ..runtime import Bundle, Engine, bundled_path

    opened = Bundle.open(bundled_path() if bundle is None else bundle)
    chosen = load_backend(opened, backend, precision, threads=threads)
    return Engine.load(opened, threads=threads, backend=chosen, packs=packs or ())


def load_backend(bundle: Bundle, name: str, precision: str, *, threads: int | None = None) -> Backend:
    """The backend of that name; where "auto" has to measure first, a terminal shows that it does."""
    from ..runtime.backends import AUTO, make_backend

    if name != AUTO:
        return make_backend(name, threads=threads, precision=precision)
    from rich.console import Console

    from ..runtime.backends.auto import choose_backend

    console = Console(stderr=True)
    with console.status("choosing a backend") as status:  # shows nothing unless stderr is a terminal
        return choose_backend(
            bundle, threads=threads, precision=precision, progress=lambda text: status.update(f"backends: {text}")
        )


def parse_numbers(text: str, what: str, low: float, high: float) -> list[float]:
    """Numbers from a comma-separated list, each above `low` and at most `high`.

    Raises:
        InputError: naming the part that is no such number.
    """
    numbers: list[float] = []
    for part in text.split(","):
        try:
            number = float(part)
        except ValueError:
            number = float("nan")
        if not low < number <= high:
            raise InputError(
                f"{what} must be numbers above {low:g}, at most {high:g}, got {part.strip()!r}",
                hint="for example 1,0.5,0.25",
            )
        numbers.append(number)
    return numbers


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from "224x320", or a square from "224".

    Raises:
        InputError: it is neither.
    """
    height, cross, width = text.lower().partition("x")
    try:
        size = int(height), int(width if cross else height)
    except ValueError:
        size = 0, 0
    if min(size) < 1:
        raise InputError(f"a size must be HEIGHTxWIDTH in pixels, got {text!r}", hint="for example 224x320")
    return size
