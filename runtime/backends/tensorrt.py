"""TensorRT's own runtime: engines that `slimpath compile` built on this device.

Unverified: nobody has run this on hardware. See docs/tensorrt.md.

A bundle of `slimpath export --target gpu` has, beside the graphs of the CPU, graphs of one top_k and one batch each.
This backend takes a CPU graph by its hash and answers with the engines that stand for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BackendError
from .base import Tier
from .gpu_selection import OpenBundles, family, gpu_part
from .gpu_session import GpuSession

if TYPE_CHECKING:
    from ..bundles.bundle import Bundle
    from ..bundles.gpu_spec import GpuGraphSpec
    from ..tensorrt.device import Device
    from ..tensorrt.engine import Engine
    from ..tensorrt.fingerprint import Fingerprint

_PRECISIONS = ("fp32", "fp16", "int8")


class TensorrtBackend:
    """Engines on the first CUDA device. It never builds one: a build takes minutes, and belongs in no request.

    Args:
        threads: of no meaning here: nothing but copies is done on the CPU.
        precision: of the graphs: "fp32", "fp16", "int8", or "auto", which is fp16.

    Raises:
        BackendError: no such precision.
    """

    tiers: tuple[Tier, ...] = ("packed",)
    uses_gpu = True
    threads = 0
    precisions = _PRECISIONS

    def __init__(self, *, threads: int | None = None, precision: str = "fp32") -> None:
        self.precision = "fp16" if precision == "auto" else precision
        if self.precision not in _PRECISIONS:
            raise BackendError(
                f"TensorRT engines are in {', '.join(_PRECISIONS)}, not in {precision}",
                hint="for example tensorrt-fp16",
            )
        self._bundles = OpenBundles()

    @property
    def name(self) -> str:
        """ "tensorrt", or with what it computes in: "tensorrt-fp16"."""
        return "tensorrt" if self.precision == "fp32" else f"tensorrt-{self.precision}"

    @property
    def version(self) -> str:
        """Of the installed package; "missing" without it. Imports nothing."""
        from ..tensorrt.library import installed_version

        return installed_version()

    def load(self, graph: bytes, folder: Path, *, tier: Tier = "packed") -> GpuSession:
        """The engines that stand for a graph of the bundle in `folder`; the first of them is loaded.

        Raises:
            BackendError: the bundle has no GPU graphs, an engine was not built yet, or was built for another device;
                with the command that builds it.
        """
        bundle = self._bundles.of(folder)
        session = GpuSession(self._built(bundle, graph), lambda spec: _open(bundle, spec))
        session.load_first()
        return session

    def offered_encoders(self, bundle: Bundle) -> tuple[tuple[float, int], ...]:
        """(width, top_k) of the encoders that there are graphs for."""
        return gpu_part(bundle).configurations

    def _built(self, bundle: Bundle, graph: bytes) -> list[GpuGraphSpec]:
        """Those of the graph's family that have an engine which may be loaded here."""
        from ..tensorrt.device import shared_device
        from ..tensorrt.engine_file import engine_path, require_ours

        specs = family(bundle, graph, self.precision)
        built = [one for one in specs if engine_path(bundle.digest, one.file).exists()]
        if not built:
            raise BackendError(
                f"{specs[0].file}: no engine was built for it on this device",
                hint=f"run `slimpath compile {bundle.path} --backend tensorrt --precision {self.precision}` once; "
                "it takes minutes, so no request does it",
            )
        device = shared_device()
        for one in built:
            require_ours(engine_path(bundle.digest, one.file), _fingerprint(bundle, one, device))
        return built


def _fingerprint(bundle: Bundle, spec: GpuGraphSpec, device: Device) -> Fingerprint:
    from ..tensorrt.fingerprint import take_fingerprint

    return take_fingerprint(device.cuda.facts, device.version, bundle=bundle.digest, graph_sha256=spec.sha256)


def _open(bundle: Bundle, spec: GpuGraphSpec) -> tuple[Engine, int]:
    """An engine of the cache, and the bytes of its weights."""
    from ..bundles.gpu_graphs import read_gpu_graph
    from ..tensorrt.device import shared_device
    from ..tensorrt.engine import Engine
    from ..tensorrt.engine_file import engine_path, read_engine

    device = shared_device()
    path = engine_path(bundle.digest, spec.file)
    header, plan = read_engine(path, _fingerprint(bundle, spec, device))
    graph = read_gpu_graph(bundle, spec) if header.stripped else b""
    engine = Engine(device, plan, stripped=header.stripped, graph=graph, where=bundle.path / spec.file)
    return engine, max(header.plan_bytes, header.weight_bytes)
