"""What every backend does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from ..bundles.bundle import Bundle

# packed: the library may keep its own, rearranged copy of the weights, which runs faster.
# mapped: it reads them from the mapped file, so that several widths share one copy in memory.
Tier = Literal["mapped", "packed"]


def installed_version(distributions: Iterable[str]) -> str:
    """Of the first that is installed of some packages, found without importing it; "missing" where there is none."""
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "missing"


class Session(Protocol):
    """A loaded graph. `run` may be called from several threads at once."""

    @property
    def inputs(self) -> tuple[str, ...]: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    def run(self, feeds: Mapping[str, np.ndarray], *, shrink: bool = False) -> dict[str, np.ndarray]:
        """All outputs by name.

        Args:
            shrink: give memory that this run took back to the system: for runs larger than the usual ones.

        Raises:
            BackendError: the library failed; the message is its own.
        """
        ...

    def memory_bytes(self) -> int | None:
        """What the session holds beside the mapped weights, where the library says so."""
        ...

    def close(self) -> None: ...


class Backend(Protocol):
    """An inference library, computing in one precision.

    It may also say `tiers` (those that it tells apart; by default it is asked for "packed"), `loads_slowly` (so that
    requests are answered by ONNX Runtime while it compiles), `uses_gpu` (so that profiles are of that device),
    `graph_precisions` and `offered_encoders` (see the functions of those names).
    """

    @property
    def name(self) -> str:
        """With the precision behind it where it is not fp32: "openvino-bf16". Profiles are kept by it."""
        ...

    @property
    def version(self) -> str:
        """Of the library, found without importing it. A profile of another version says nothing."""
        ...

    @property
    def threads(self) -> int:
        """Of each run; 0 where the library decides."""
        ...

    @property
    def precision(self) -> str:
        """Of the large products; routers are in fp32 whatever it is."""
        ...

    @property
    def precisions(self) -> tuple[str, ...]:
        """What it could compute in on this device, fp32 first."""
        ...

    def load(self, graph: bytes, folder: Path, *, tier: Tier = "packed") -> Session:
        """Load a checked graph.

        Args:
            graph: the bytes of its file.
            folder: where its external data lie, by bare names.

        Raises:
            BackendError: the library is missing, broken, or cannot load the graph.
        """
        ...


def graph_precisions(backend: Backend) -> tuple[str, ...]:
    """Precisions of a bundle's graphs that a backend runs; fp32 alone unless it says more.

    Not to be confused with `precision`, what it computes fp32 graphs in.
    """
    return getattr(backend, "graph_precisions", ("fp32",))


def offered_encoders(backend: Backend, bundle: Bundle) -> tuple[tuple[float, int], ...] | None:
    """(width, top_k) of the encoders that a backend has for a bundle; None for whatever the bundle has.

    Raises:
        BackendError: it has none.
    """
    ask = getattr(backend, "offered_encoders", None)
    return None if ask is None else ask(bundle)
