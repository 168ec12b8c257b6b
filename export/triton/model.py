"""slimpath as a Python model of NVIDIA's Triton Inference Server. Written by `slimpath export --to triton`.

Triton needs slimpath in its Python. docs/triton.md has the contract; in short: the requested outputs select the
tasks, request parameters name the budget, and requests that arrive together share encoder calls.

Inputs, one of the two:
    image   BYTES [B, 1]           the bytes of a JPEG or PNG file a row
    pixels  UINT8 [B, H, W, 3]     RGB
Outputs: a task each, [B, ...] at network size.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]  # Triton brings it

from slimpath.runtime import Engine, Request
from slimpath.runtime.errors import BackendError, SlimpathError
from slimpath.runtime.planning.budget import PARAMETERS

# The names that slimpath's own server has for them, each with the term of a budget that it stands for.
BUDGETS = {"budget": "{}", **PARAMETERS}


class Refusal(Exception):
    """A request that cannot be answered; the text goes to its client."""


class TritonPythonModel:
    """One instance: an engine of its own; the weights are mapped, so that instances share their pages."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the bundle beside this file, and load what the first requests need."""
        config = json.loads(args["model_config"])
        settings = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        self.outputs = [output["name"] for output in config["output"]]
        self.default_budget = settings.get("budget") or None
        self.engine = Engine.load(
            Path(__file__).parent / "bundle",
            backend=settings.get("backend") or "onnxruntime",
            threads=int(settings["threads"]) if settings.get("threads") else None,
            memory_limit_mb=float(settings["memory_limit_mb"]) if settings.get("memory_limit_mb") else None,
        )
        self.engine.warm(budgets=[self.default_budget])
        self.tells_plan = _takes_parameters()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer all requests with as few encoder calls as they allow. One response each, in their order."""
        responses: list[Any] = [None] * len(requests)
        work: list[Request] = []
        owners: list[int] = []
        for place, request in enumerate(requests):
            if request.is_cancelled():
                responses[place] = _error("cancelled by its client", pb_utils.TritonError.CANCELLED)
                continue
            try:
                rows = self._read(request)
            except Refusal as error:
                responses[place] = _error(str(error), pb_utils.TritonError.INVALID_ARG)
                continue
            work += rows
            owners += [place] * len(rows)
        answers: dict[int, list[Any]] = {}
        for place, answer in zip(owners, self.engine.run_batch(work, return_errors=True) if work else []):
            answers.setdefault(place, []).append(answer)
        for place, rows in answers.items():
            responses[place] = self._respond(requests[place], rows)
        return responses

    def finalize(self) -> None:
        """Free the sessions."""
        with contextlib.suppress(AttributeError):  # initialize may have failed
            self.engine.close()

    def _read(self, request: Any) -> list[Request]:
        """A request's pictures, a row each, with its tasks and its budget."""
        wanted = set(request.requested_output_names())
        tasks = [name for name in self.outputs if name in wanted]
        if not tasks:
            raise Refusal(f"request at least one output of {', '.join(self.outputs)}")
        parameters = json.loads(request.parameters() or "{}")
        strict = parameters.get("strict", False)
        if not isinstance(strict, bool):
            raise Refusal(f"the parameter strict must be true or false, got {strict!r}")
        budget = _budget(parameters) or self.default_budget
        floor = parameters.get("quality_floor")
        wishes = tasks if floor is None else dict.fromkeys(tasks, f"1>={floor}")
        return [Request(image, wishes, budget, strict=strict) for image in _images(request)]

    def _respond(self, request: Any, answers: list[Any]) -> Any:
        refused = next((answer for answer in answers if isinstance(answer, SlimpathError)), None)
        if refused is not None:
            ours = isinstance(refused, BackendError)
            return _error(str(refused), pb_utils.TritonError.INTERNAL if ours else pb_utils.TritonError.INVALID_ARG)
        tensors = [
            pb_utils.Tensor(task, np.stack([np.ascontiguousarray(answer[task]) for answer in answers]))
            for task in answers[0]
        ]
        if not self.tells_plan:
            return pb_utils.InferenceResponse(output_tensors=tensors)
        plan = answers[0].plan
        told = {"plan": str(plan), "budget_met": bool(plan.budget_met), "request_id": request.request_id()}
        return pb_utils.InferenceResponse(output_tensors=tensors, parameters=told)


def _images(request: Any) -> list[Any]:
    """Bytes of files, or uint8 [H, W, 3]; whichever of the two inputs came."""
    files = pb_utils.get_input_tensor_by_name(request, "image")
    pixels = pb_utils.get_input_tensor_by_name(request, "pixels")
    if (files is None) == (pixels is None):
        raise Refusal("send either image (BYTES, picture files) or pixels (UINT8, RGB)")
    if files is not None:
        return [bytes(row) for row in files.as_numpy().reshape(-1)]
    assert pixels is not None
    # Copied: Triton takes its memory back when this call returns, and a queue of ours must not read it then.
    return [np.array(picture) for picture in pixels.as_numpy()]


def _budget(parameters: dict[str, Any]) -> str | None:
    """The budget in slimpath's words from a request's parameters; None if it names none."""
    terms = []
    for name, term in BUDGETS.items():
        value = parameters.get(name)
        if value is None:
            continue
        # Triton's gRPC and HTTP parameters have no fractions in older releases: a text will do as well.
        if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 256:
            raise Refusal(f"the parameter {name} must be a number or a text, got {value!r}")
        terms.append(term.format(value))
    return ",".join(terms) or None


def _error(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))


def _takes_parameters() -> bool:
    """Can responses carry parameters in this release of Triton? Older ones refuse the argument."""
    try:
        pb_utils.InferenceResponse(output_tensors=[], parameters={})
    except TypeError:
        return False
    return True
