"""What torch needs to replay a network as CUDA graphs: experts with static shapes, and a graph per shape of inputs.

Unverified on hardware: written against torch's interface, and tested by contract on the CPU.

Axes: E experts, U hidden units kept, D embedding.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..models.dispatch import dispatch_blocked
from ..models.moe import Routing, SlimExperts, by_token
from ..models.widths import kept

MAX_SHAPES = 8  # per session: each keeps its own activations on the device

Answers = tuple[Tensor, ...]
Replay = Callable[[Mapping[str, Tensor]], Answers]
#: From a function and example inputs to something that computes the same for inputs of that shape.
Capture = Callable[[Callable[[Mapping[str, Tensor]], Answers], Mapping[str, Tensor]], Replay]


class StackedExperts(nn.Module):
    """`SlimExperts` as four tensors [E, ...], computed by the `blocked` lowering: no shape depends on the routing."""

    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor

    def __init__(self, experts: SlimExperts) -> None:
        super().__init__()
        self.hidden = experts.hidden
        for name in ("up", "up_bias", "down", "down_bias"):
            stacked = torch.stack([parameter.detach() for parameter in getattr(experts, name)])
            self.register_buffer(name, stacked, persistent=False)

    def narrow_(self, width: float) -> None:
        """Keep a view of the first hidden units of every expert."""
        self.hidden = kept(self.hidden, width)
        for name in ("up", "up_bias", "down"):
            setattr(self, name, getattr(self, name)[:, : self.hidden])

    def forward(self, tokens_BND: Tensor, routing: Routing, width: float = 1.0) -> Tensor:
        weights = self.up, self.up_bias, self.down, self.down_bias
        return dispatch_blocked(*by_token(tokens_BND, routing), *weights).reshape(tokens_BND.shape)


def stack_experts(model: nn.Module) -> None:
    """Replace the experts of a network by stacked ones, in place."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, SlimExperts):
                setattr(module, name, StackedExperts(child))


class ReplayedCalls:
    """A function whose calls are captured, once for each shape of inputs, and then replayed; one at a time.

    The oldest shape is forgotten when there are more than MAX_SHAPES.
    """

    def __init__(self, function: Callable[[Mapping[str, Tensor]], Answers], capture: Capture) -> None:
        self._function, self._capture = function, capture
        self._replays: OrderedDict[object, Replay] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, feeds: Mapping[str, Tensor]) -> Answers:
        key = tuple((name, tuple(value.shape), value.dtype) for name, value in feeds.items())
        with self._lock:  # a graph has one set of input and output buffers
            if key not in self._replays:
                self._replays[key] = self._capture(self._function, feeds)
                if len(self._replays) > MAX_SHAPES:
                    self._replays.popitem(last=False)
            self._replays.move_to_end(key)
            return self._replays[key](feeds)


def capture_cuda_graph(function: Callable[[Mapping[str, Tensor]], Answers], feeds: Mapping[str, Tensor]) -> Replay:
    """Capture a function of tensors on a CUDA device as a graph that reads and writes buffers of its own.

    Answers are copies: the next replay overwrites the buffers.
    """
    inputs = {name: value.clone() for name, value in feeds.items()}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries allocate their workspaces before the capture, which may not
        for _ in range(3):
            function(inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = function(inputs)

    def replay(given: Mapping[str, Tensor]) -> Answers:
        for name, buffer in inputs.items():
            buffer.copy_(given[name])
        graph.replay()
        return tuple(output.clone() for output in outputs)

    return replay
