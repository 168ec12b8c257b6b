"""The network itself as a backend, found by the runtime through the entry points of `slimpath.backends`.

A graph of a bundle is recognised by its hash and answered by the network that the manifest describes, with the
bundle's weights, under the graph's names of inputs and outputs. On the CPU that is the reference which exports are
checked against. On CUDA every width is a view of one copy of the weights on the device, and a run of a shape seen
before is the replay of a CUDA graph; experts are in the `blocked` lowering there, whose shapes the data do not change.

CUDA is unverified: written against torch's interface and tested by contract; no such device was at hand.
"""

import copy
import hashlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..models import MultiTaskModel
from ..runtime.backends.base import Tier
from ..runtime.bundles.bundle import Bundle
from ..runtime.bundles.graph_spec import GraphSpec
from ..runtime.bundles.onnx_edit import graph_ports
from ..runtime.cpus import usable_cpus
from ..runtime.errors import BackendError, SlimpathError
from .cuda_graphs import ReplayedCalls, capture_cuda_graph, stack_experts
from .graphs import EncoderGraph, HeadGraph
from .reload import model_from_bundle

_Call = Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]


class TorchSession:
    """One graph of a bundle, answered by torch."""

    def __init__(self, inputs: tuple[str, ...], outputs: tuple[str, ...], device: torch.device, call: _Call) -> None:
        self.inputs, self.outputs = inputs, outputs
        self._device = device
        self._call: _Call | None = call

    def run(self, feeds: Mapping[str, np.ndarray], *, shrink: bool = False) -> dict[str, np.ndarray]:
        call = self._call
        if call is None:
            raise BackendError("the session is closed")
        if set(feeds) != set(self.inputs):
            raise BackendError(f"the graph has the inputs {', '.join(self.inputs)}, got {', '.join(feeds)}")
        try:
            with torch.inference_mode():
                answers = call({name: _tensor(value).to(self._device) for name, value in feeds.items()})
            return {name: value.float().cpu().numpy() for name, value in zip(self.outputs, answers, strict=True)}
        except (RuntimeError, IndexError, TypeError, ValueError) as error:  # torch has no type of its own
            raise BackendError(f"torch failed: {error}") from error

    def memory_bytes(self) -> int | None:
        """0 beside the weights that all graphs of a bundle share: views of them are all that it holds."""
        return 0

    def close(self) -> None:
        self._call = None


class _Network:
    """A bundle's network at one size: each part once at full width, and narrower ones as views of it."""

    def __init__(self, model: MultiTaskModel) -> None:
        self._whole: dict[str | None, nn.Module] = {None: EncoderGraph(model, 1.0)}
        self._whole |= {task: HeadGraph(model, task, 1.0) for task in model.config.task_names}

    def module(self, spec: GraphSpec) -> nn.Module:
        return shared_narrow(self._whole[spec.task], spec.width)


def shared_narrow(module: nn.Module, width: float) -> nn.Module:
    """A narrower module whose parameters are views of those of `module`; see `narrowed`, which copies them."""
    tensors = [*module.parameters(), *module.buffers()]
    clone = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    for layer in clone.modules():
        if hasattr(layer, "narrow_"):
            layer.narrow_(width)  # type: ignore[operator]
    return clone.eval()


class TorchBackend:
    """torch on the CPU.

    Args:
        threads: of torch as a whole, which has one setting for the process; None leaves it as it is.
        precision: "fp32", or "bf16" by autocast, which leaves routers and norms in fp32; "auto" is fp32.

    Raises:
        BackendError: a precision that it does not have, or fewer than one thread.
    """

    device = torch.device("cpu")
    precisions = ("fp32", "bf16")
    tiers: tuple[Tier, ...] = ("packed",)
    uses_gpu = False

    def __init__(self, *, threads: int | None = None, precision: str = "fp32") -> None:
        if threads is not None and threads < 1:
            raise BackendError(f"threads must be at least 1, got {threads}")
        self.precision = "fp32" if precision == "auto" else precision
        if self.precision not in self.precisions:
            raise BackendError(f"torch has no precision {precision!r}", hint=f"it has {', '.join(self.precisions)}")
        if threads is not None:
            torch.set_num_threads(threads)
        self.threads = threads or usable_cpus()
        self._networks: dict[tuple[str, tuple[int, int]], _Network] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        base = "torch" if self.device.type == "cpu" else f"torch-{self.device.type}"
        return base if self.precision == "fp32" else f"{base}-{self.precision}"

    @property
    def version(self) -> str:
        return str(torch.__version__)  # a class of its own, which JSON does not take

    def load(self, graph: bytes, folder: Path, *, tier: Tier = "packed") -> TorchSession:
        """Find the graph in the bundle that lies in `folder`; the first of a size reads the weights.

        Raises:
            BackendError: the folder is no bundle, the graph is not one of its own, or no network of this version.
        """
        try:
            bundle = Bundle.open(folder)
        except SlimpathError as error:
            raise BackendError(f"torch rebuilds networks from bundles: {error.message}", hint=error.hint) from error
        digest = hashlib.sha256(graph).hexdigest()
        spec = next((spec for spec in bundle.manifest.graphs if spec.sha256 == digest), None)
        if spec is None:
            raise BackendError("torch runs only the graphs of a bundle as they are; this one is another")
        if spec.precision != "fp32":
            raise BackendError(f"torch does not run the bundle's {spec.precision} graphs")
        inputs, outputs = graph_ports(graph)
        call = self._prepare(self._network(bundle, spec.size_hw).module(spec))
        return TorchSession(inputs, outputs, self.device, call)

    def _network(self, bundle: Bundle, size_hw: tuple[int, int]) -> _Network:
        with self._lock:
            key = bundle.digest, size_hw
            if key not in self._networks:
                try:
                    model, _ = model_from_bundle(bundle, size_hw)
                except (ValueError, RuntimeError) as error:  # the errors of models/, and torch's own
                    raise BackendError(f"the network cannot be rebuilt from the bundle: {error}") from error
                self._networks[key] = _Network(self._place(model))
            return self._networks[key]

    def _place(self, model: MultiTaskModel) -> MultiTaskModel:
        return model

    def _prepare(self, module: nn.Module) -> _Call:
        return lambda feeds: _as_tuple(self._forward(module, feeds))

    def _forward(self, module: nn.Module, feeds: Mapping[str, Tensor]) -> Tensor | tuple[Tensor, ...]:
        if self.precision == "fp32":
            return module(**feeds)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=False):
            return module(**feeds)


class TorchCudaBackend(TorchBackend):
    """torch on the first CUDA device. Unverified on hardware.

    Raises:
        BackendError: torch finds no CUDA device; there is no silent way back to the CPU.
    """

    device = torch.device("cuda")
    uses_gpu = True

    def __init__(self, *, threads: int | None = None, precision: str = "fp32") -> None:
        if not torch.cuda.is_available():
            built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
            raise BackendError(
                f"torch {torch.__version__}, built {built}, finds no CUDA device",
                hint="install a build of torch for CUDA and see nvidia-smi, or use --backend torch",
            )
        super().__init__(threads=threads, precision=precision)

    def _place(self, model: MultiTaskModel) -> MultiTaskModel:
        stack_experts(model)
        return model.to(self.device)

    def _prepare(self, module: nn.Module) -> _Call:
        def forward(feeds: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
            # Convolutions in TF32, torch's default, miss the parity gate.
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                return _as_tuple(self._forward(module, feeds))

        return ReplayedCalls(forward, capture_cuda_graph)


def _tensor(value: np.ndarray) -> Tensor:
    """Of NumPy's memory; a copy where that may not be written to, as torch has no read-only tensors, and warns."""
    return torch.from_numpy(value if value.flags.writeable and value.flags.c_contiguous else value.copy())


def _as_tuple(answers: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return answers if isinstance(answers, tuple) else (answers,)
