"""Every family from training to an answer, through the command line alone, and the answer is the trained network's.

A short run on rendered rooms, `export`, `plan`, `run` at every width: what `run` writes for every task is compared with
the checkpoint that `train` wrote, on a picture whose routing is clear (`export.parity`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("tqdm", reason="rendering rooms needs tqdm")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript")
torch = pytest.importorskip("torch", reason="training and exporting need torch")

FAMILIES = ("m3vit_micro", "mtlora_micro", "m3lora_micro")
WIDTHS = (0.5, 1.0)
TASKS = ("semseg", "depth", "scene")  # classes, values, and no map
SIDE = 64
SETTINGS = [f"stages={SIDE}x{SIDE}:8:1", f"data.render_hw={SIDE}x{SIDE}", f"tasks={','.join(TASKS)}"]
SETTINGS += ["steps=4", "warmup_steps=1", "data.scenes=4"]


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint and its bundle, both made by the command line."""
    from typer.testing import CliRunner

    from slimpath.cli.app import app

    out = tmp_path_factory.mktemp(request.param)
    settings = [*SETTINGS, f"model={request.param}", "--out", str(out / "run"), "--json"]
    done = CliRunner().invoke(app, ["train", "smoke", *settings])
    assert done.exit_code == 0, done.output
    checkpoint = Path(json.loads(done.stdout)["checkpoint"])
    widths = ",".join(f"{width:g}" for width in WIDTHS)
    done = CliRunner().invoke(app, ["export", str(checkpoint), "--out", str(out / "bundle"), "--widths", widths])
    assert done.exit_code == 0, done.output
    return checkpoint, out / "bundle"


def draw(seed: int) -> np.ndarray:
    """A smooth picture, uint8 [H, W, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def of_network(model: Any, picture: np.ndarray, width: float) -> tuple[dict[str, np.ndarray], float]:
    """Every task's answer as `run` writes it (classes as their logits), and the smallest gap of any routing."""
    from slimpath.export.parity import routing_gap
    from slimpath.models.heads import answer
    from slimpath.runtime.imaging.postprocess import finish

    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    plane = ((picture / 255 - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)
    with torch.no_grad():
        index = torch.zeros(len(TASKS), dtype=torch.long)
        out = model(torch.from_numpy(plane), list(TASKS), width=width, image_index_B=index)
    gap = min((routing_gap(routing, model.config.top_k) for routing in out.features.routings), default=1.0)
    answers = {task: answer(model.config.task(task), out.raw[task])[0].numpy() for task in TASKS}
    kinds = {task: model.config.task(task).kind for task in TASKS}
    done = {task: value if kinds[task] == "classes" else finish(kinds[task], value) for task, value in answers.items()}
    return done, gap


def test_every_task_at_every_width_is_answered_as_the_trained_network_does(
    slimpath: Callable[..., Any], trained: tuple[Path, Path]
) -> None:
    from slimpath.export.parity import MIN_GAP, TOLERANCE
    from slimpath.models import load_checkpoint

    checkpoint, bundle = trained
    model = load_checkpoint(checkpoint)[0].eval()
    clear = (seed for seed in range(100) if all(of_network(model, draw(seed), w)[1] >= MIN_GAP for w in WIDTHS))
    picture = draw(next(clear))
    assert cv2.imwrite("picture.png", picture[..., ::-1])
    for width in WIDTHS:
        out = f"out-{width:g}"
        options = ["--budget", f"width={width:g}", "--raw", "npz", "--no-panel", "--out", out, "--json"]
        done = slimpath("run", "picture.png", "--bundle", bundle, *options)
        assert done.exit_code == 0, done.output
        plan = json.loads(done.stdout)["plan"]
        assert plan["encoder_width"] == width and set(plan["decoder_widths"].values()) == {width}
        wanted, _ = of_network(model, picture, width)
        with np.load(f"{out}/picture.npz") as found:
            assert set(found.files) == set(TASKS)
            for task in TASKS:
                allowed = TOLERANCE * max(1.0, float(np.abs(wanted[task]).max()))
                if task == "semseg":  # ids of classes: the best one, or one that is as good
                    chosen = np.take_along_axis(wanted[task], found[task][None].astype(np.int64), axis=0)[0]
                    assert (wanted[task].max(axis=0) - chosen).max() <= 2 * allowed
                    assert len(np.unique(found[task])) > 1
                    continue
                np.testing.assert_allclose(found[task], wanted[task], atol=allowed, rtol=0, err_msg=task)


def test_planner_finds_a_configuration_for_tasks_and_budgets(
    slimpath: Callable[..., Any], trained: tuple[Path, Path]
) -> None:
    def plan(*options: str) -> dict[str, Any]:
        done = slimpath("plan", "--bundle", trained[1], *options, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    full = plan("--tasks", "depth,semseg")
    assert full["share"] == 1.0 and set(full["decoder_widths"]) == {"depth", "semseg"}
    smallest = plan("--tasks", "depth,semseg", "--budget", "min")["share"]
    assert smallest < 0.8
    for share in (0.9, (1 + smallest) / 2):
        cheaper = plan("--tasks", "depth,semseg", "--budget", str(share))
        assert cheaper["budget_met"] and cheaper["flops"] <= share * full["flops"]
        assert sum(cheaper["parts"].values()) == cheaper["flops"]
    one, two = plan("--tasks", "depth"), plan("--tasks", "depth,scene")
    assert one["parts"]["encoder"] < two["parts"]["encoder"] < 2 * one["parts"]["encoder"]  # shared as far as can be
