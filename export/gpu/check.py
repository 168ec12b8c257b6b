"""Do graphs for GPUs compute what the network computes? Run in ONNX Runtime on the CPU, which casts where it must.

float32: the parity gate of every graph (`export/parity.py`): inputs whose routing is clear, 1e-4 of the largest value.
Below it: the answers of every task, by encoder and head of that precision, on rendered rooms, by how far they are from
the network's in float32 (`runtime/profiling/agreement.py`, SLACK); heads alone also value by value (HEAD_TOLERANCE).

Axes: I images, B rows of a graph, J rows of a case, P pictures.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import torch

from ...models import MultiTaskModel
from ...runtime.bundles import graph_names as names
from ...runtime.bundles.manifest_parts import Parity
from ...runtime.profiling.agreement import Agreement, compare
from .. import parity
from ..graphs import encoder_answers, head_reads
from .trace import Job

Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
#: Largest error of a head on the network's own float32 tokens, as a share of max(1, largest value).
HEAD_TOLERANCE = {"fp32": parity.TOLERANCE, "fp16": 2e-2, "int8": 0.5}
#: How far a task's answers may be from those in float32, as a multiple of what bf16 may be (`agreement.py`).
SLACK = {"fp16": 0.25, "int8": 5.0}


@dataclass(frozen=True)
class Pictures:
    """Pictures that answers are compared on, and the rows that ask for them."""

    planes_P3HW: np.ndarray

    def pairs(self, tasks: tuple[str, ...]) -> list[tuple[int, str]]:
        """(picture, task) of every row."""
        return [(number, task) for number in range(len(self.planes_P3HW)) for task in tasks]


def onnxruntime_run(path: str) -> Run:
    """Run a graph file by plain ONNX Runtime, outputs by name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(outputs, map(np.asarray, session.run(None, inputs)), strict=True))


@torch.no_grad()
def encoder_parity(model: MultiTaskModel, job: Job, run: Run) -> Parity:
    """An encoder in float32. A graph takes I images, and each row of the case has one of its own whose routing is
    clear, so it runs ceil(J / I) times, and only the rows whose image is there are compared."""
    tasks = model.config.task_names
    case = parity.encoder_case(model, job.width, [(tasks[row % len(tasks)], job.top_k) for row in range(job.rows)])
    expected = {name: value.numpy() for name, value in encoder_answers(case.features).items()}
    image_J = case.inputs[names.IMAGE_INDEX].numpy()
    inputs = {name: value.numpy() for name, value in case.inputs.items() if name != names.TOP_K}
    got = {name: np.full_like(value, np.nan) for name, value in expected.items()}
    for images, rows, index_B in _runs(len(inputs[names.IMAGE]), image_J, job):
        feeds = {**inputs, names.IMAGE: inputs[names.IMAGE][images], names.IMAGE_INDEX: index_B}
        for name, value in run(feeds).items():
            if name == names.DETAIL:
                got[name][images] = value
            else:
                got[name][rows] = value[rows]
    references = [torch.from_numpy(value) for value in expected.values()]
    return parity.compare([got[name] for name in expected], references, seed=case.seed, min_gap=case.min_gap)


def _runs(count: int, image_J: np.ndarray, job: Job) -> Iterator[tuple[list[int], list[int], np.ndarray]]:
    """(images, rows to compare, image_index) of every run; short groups are filled up with their first image."""
    for first in range(0, count, job.images):
        group = list(range(first, min(first + job.images, count)))
        images = group + [first] * (job.images - len(group))
        place = {image: number for number, image in enumerate(group)}
        index_B = np.array([place.get(int(image), 0) for image in image_J], dtype=np.int32)
        yield images, [row for row, image in enumerate(image_J) if int(image) in place], index_B


@torch.no_grad()
def head_parity(model: MultiTaskModel, job: Job, run: Run, case: parity.EncoderCase, precision: str) -> Parity:
    """A head on the network's own tokens, R rows of the case at a time."""
    assert job.task is not None
    inputs = parity.head_case(model, job.task, case)
    levels = tuple(value for name, value in inputs.items() if name not in (names.TOKENS, names.DETAIL))
    reference = parity.head_reference(
        model, job.task, job.width, inputs[names.TOKENS], inputs.get(names.DETAIL), levels
    )
    count, answers = len(inputs[names.TOKENS]), []
    for first in range(0, count, job.rows):
        rows = [min(first + row, count - 1) for row in range(job.rows)]
        answer = run({name: value[rows].numpy() for name, value in inputs.items()})[job.task]
        answers.append(answer[: min(job.rows, count - first)])
    seen = parity.compare([np.concatenate(answers)], [reference], seed=case.seed, min_gap=case.min_gap)
    tolerance = HEAD_TOLERANCE[precision]
    passed = seen.max_abs_error <= tolerance * max(1.0, seen.max_abs_reference)
    return msgspec.structs.replace(seen, tolerance=tolerance, passed=passed)


@torch.no_grad()
def network_answers(
    model: MultiTaskModel, pictures: Pictures, width: float, top_k: int, decoder_widths: dict[str, float]
) -> dict[str, np.ndarray]:
    """What the network itself answers on the pictures in float32, by task: [P, ...]."""
    planes = torch.from_numpy(pictures.planes_P3HW)
    pairs = pictures.pairs(model.config.task_names)
    index, tasks = torch.tensor([picture for picture, _ in pairs]), [task for _, task in pairs]
    top_k_J = torch.full((len(pairs),), top_k) if top_k else None
    features = model.encode(planes, index, tasks, top_k_J, width=width)
    case = parity.EncoderCase({names.IMAGE_INDEX: index}, features, tuple(tasks), 0, None)
    answers = {}
    for task, decoder_width in decoder_widths.items():
        rows = [row for row, name in enumerate(tasks) if name == task]
        inputs = {name: value[rows] for name, value in parity.head_case(model, task, case).items()}
        levels = tuple(value for name, value in inputs.items() if name not in (names.TOKENS, names.DETAIL))
        reference = parity.head_reference(
            model, task, decoder_width, inputs[names.TOKENS], inputs.get(names.DETAIL), levels
        )
        answers[task] = reference.numpy()
    return answers


def graph_answers(
    model: MultiTaskModel, pictures: Pictures, job: Job, encoder: Run, heads: dict[str, Run]
) -> dict[str, np.ndarray]:
    """What an encoder graph and heads for one row answer on the pictures, by task: [P, ...]."""
    pairs = pictures.pairs(tuple(heads))
    answers: dict[str, list[np.ndarray]] = {task: [] for task in heads}
    for chosen, feeds in batches(model, pictures, pairs, job):
        features = encoder(feeds)
        for row, (_, task) in enumerate(chosen):
            place = int(feeds[names.IMAGE_INDEX][row])
            inputs = {
                name: features[name][place : place + 1] if name == names.DETAIL else features[name][row : row + 1]
                for name in head_reads(model, task)
            }
            answers[task].append(heads[task](inputs)[task])
    return {task: np.concatenate(parts) for task, parts in answers.items()}


def batches(
    model: MultiTaskModel, pictures: Pictures, pairs: list[tuple[int, str]], job: Job
) -> Iterator[tuple[list[tuple[int, str]], dict[str, np.ndarray]]]:
    """The pairs in batches of the graph, filled up with the last row; (the rows that count, inputs)."""
    waiting = list(pairs)
    while waiting:
        chosen: list[tuple[int, str]] = []
        images: list[int] = []
        while waiting and len(chosen) < job.rows and (waiting[0][0] in images or len(images) < job.images):
            chosen.append(waiting.pop(0))
            images += [] if chosen[-1][0] in images else [chosen[-1][0]]
        rows = chosen + [chosen[-1]] * (job.rows - len(chosen))
        planes = pictures.planes_P3HW[images + [images[-1]] * (job.images - len(images))]
        index_B = np.array([images.index(picture) for picture, _ in rows], dtype=np.int32)
        brought = model.row_inputs([task for _, task in rows], job.width)
        feeds = {name: value.detach().numpy() for name, value in brought.items()}
        yield chosen, {names.IMAGE: planes, names.IMAGE_INDEX: index_B, **feeds}


def agreement(kind: str, answer: np.ndarray, reference: np.ndarray, precision: str) -> Agreement:
    """Answers of a precision against those in float32, with the bounds of that precision."""
    found = compare(kind, answer, reference)
    slack = SLACK[precision]
    bound = slack * found.bound if found.at_most else 1 - slack * (1 - found.bound)
    kept = found.value is not None and (found.value <= bound if found.at_most else found.value >= bound)
    return msgspec.structs.replace(found, bound=round(bound, 6), passed=kept)
