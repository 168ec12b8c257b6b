"""MTLoRA: the upstream numbers come out of our network, its bundle and the engine; every key is accounted for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slimpath.export import export_bundle
from slimpath.export.convert import ConvertOptions, convert
from slimpath.export.convert.mtlora import from_tensors, load
from slimpath.export.convert.reader import read_file, tensors_of
from slimpath.export.errors import ConvertError
from slimpath.models import MultiTaskModel, folded, freeze_pretrained_, trainable_parameters
from slimpath.runtime import Bundle, Engine

from .conftest import normalised, reference

TOLERANCE = 1e-4
FOREIGN = {"semseg": "semseg", "normals": "normals", "saliency": "sal", "human_parts": "human_parts"}
HERE = Path("ckpt.pth")  # what errors call tensors that came from no file
NOTHING = ConvertOptions()


@pytest.fixture(scope="module")
def published() -> dict[str, np.ndarray]:
    return reference("mtlora-a")


@pytest.fixture(scope="module")
def content(mtlora_file: Path) -> dict[str, Any]:
    return read_file(mtlora_file)


@pytest.fixture(scope="module")
def state(mtlora_file: Path, content: dict[str, Any]) -> dict[str, torch.Tensor]:
    return tensors_of(mtlora_file, content["model"])


def settings(content: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """The file's settings, some of them (of MTLORA) changed."""
    model = content["config"]["MODEL"]
    return {**content["config"], "MODEL": {**model, "MTLORA": {**model["MTLORA"], **changed}}}


@torch.no_grad()
def answers(model: MultiTaskModel, image: np.ndarray) -> dict[str, torch.Tensor]:
    tasks = [task for task in model.config.task_names for _ in image]
    index = torch.arange(len(tasks)) % len(image)
    return model(torch.from_numpy(normalised(image)), tasks, image_index_B=index).raw


@pytest.mark.parametrize("fold", [False, True])
def test_network_computes_what_upstream_computes(
    fold: bool, mtlora_file: Path, published: dict[str, np.ndarray]
) -> None:
    model = load(mtlora_file, NOTHING).model
    model = folded(model) if fold else model
    images = torch.from_numpy(normalised(published["image"]))
    with torch.no_grad():
        features = model.encode(images[:1], torch.zeros(4, dtype=torch.long), list(FOREIGN))
    for row, name in enumerate(FOREIGN.values()):
        np.testing.assert_allclose(
            features.tokens_BND[row], published[f"feature/3/{name}"][0], atol=TOLERANCE, rtol=0, err_msg=name
        )
    raw = answers(model, published["image"])
    for task, name in FOREIGN.items():
        np.testing.assert_allclose(
            raw[task][..., ::8, ::8], published[f"output/{name}"], atol=TOLERANCE, rtol=0, err_msg=name
        )


def test_shared_path_computes_what_upstream_computes(mtlora_file: Path, published: dict[str, np.ndarray]) -> None:
    model = load(mtlora_file, NOTHING).model
    with torch.no_grad():
        features = model.encoder(torch.from_numpy(normalised(published["image"][:1])), torch.tensor([0]))
    np.testing.assert_allclose(features.tokens_BND, published["feature/3/shared"], atol=TOLERANCE, rtol=0)


def test_bundle_answers_what_upstream_computes(
    mtlora_file: Path, published: dict[str, np.ndarray], tmp_path: Path
) -> None:
    report = convert("mtlora", mtlora_file, tmp_path / "mtlora.safetensors")
    assert report.read == 340 and report.tasks == tuple(FOREIGN) and not report.assumed
    exported = export_bundle(report.path, tmp_path / "bundle")
    assert exported.worst_error is not None and exported.worst_error < TOLERANCE
    with Engine.load(Bundle.open(tmp_path / "bundle", verify=True), threads=1) as engine:
        for number, image in enumerate(published["image"]):
            result = engine(image, probabilities=True)
            for task, name in FOREIGN.items():
                raw = published[f"output/{name}"][number]
                kind = engine.tasks[task].kind
                if kind == "classes":
                    wanted = np.exp(raw) / np.exp(raw).sum(axis=0)
                    found = result.probabilities[task][:, ::8, ::8]
                    assert np.mean(result[task][::8, ::8] != raw.argmax(axis=0)) <= 1e-3
                elif kind == "normals":
                    wanted, found = raw / np.sqrt((raw**2).sum(axis=0)), result[task].transpose(2, 0, 1)[:, ::8, ::8]
                else:
                    wanted, found = 1 / (1 + np.exp(-raw[0])), result[task][::8, ::8]
                np.testing.assert_allclose(found, wanted, atol=TOLERANCE, rtol=0, err_msg=task)
        alone = engine(published["image"][0], tasks=["saliency"])
        np.testing.assert_allclose(alone["saliency"], engine(published["image"][0])["saliency"], atol=1e-5)


def test_recomputed_tables_are_all_that_is_left_out(mtlora_file: Path) -> None:
    found = load(mtlora_file, NOTHING).found
    assert set(found.dropped.values()) == {"computed anew from the window's size"}
    parts = {name.rpartition(".")[2] for name in found.dropped}
    assert parts == {"relative_position_index", "attn_mask"} and len(found.dropped) == 11


def test_index_that_numbers_positions_otherwise_is_refused(state: dict[str, torch.Tensor], content: Any) -> None:
    name = "backbone.layers.0.blocks.0.attn.relative_position_index"
    with pytest.raises(ConvertError, match="numbers the positions in a way that is not known"):
        from_tensors({**state, name: state[name].T.contiguous()}, content["config"], NOTHING, HERE)


def test_without_settings_size_and_scale_are_asked_for(state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ConvertError, match="say --scale"):
        from_tensors(dict(state), {}, ConvertOptions(image_hw=(224, 224)), HERE)
    with pytest.raises(ConvertError, match="say --image-size"):
        from_tensors(dict(state), {}, ConvertOptions(scale=4.0), HERE)
    result = from_tensors(dict(state), {}, ConvertOptions(scale=4.0, image_hw=(224, 224)), HERE)
    assert result.model.config.shared_scales == (4.0,) * 4
    assert "mode 'matrix'" in result.assumed[0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"SHARED_MODE": "addition"}, "SHARED_MODE = 'addition'"),
        ({"PROJ_ENABLED": False}, "PROJ_ENABLED = False"),
        ({"SPLIT_QKV": True}, "SPLIT_QKV = True"),
    ],
)
def test_settings_that_compute_something_else_are_refused(
    changed: dict[str, Any], message: str, state: dict[str, torch.Tensor], content: dict[str, Any]
) -> None:
    with pytest.raises(ConvertError, match=message):
        from_tensors(dict(state), settings(content, **changed), NOTHING, HERE)


def test_mode_and_scales_come_from_the_settings(
    state: dict[str, torch.Tensor], content: dict[str, Any], published: dict[str, np.ndarray]
) -> None:
    usual = answers(from_tensors(dict(state), content["config"], NOTHING, HERE).model, published["image"][:1])
    second = from_tensors(dict(state), settings(content, SHARED_MODE="matrixv2"), NOTHING, HERE).model
    assert second.config.adapter_mode == "matrixv2"
    assert (answers(second, published["image"][:1])["normals"] - usual["normals"]).abs().max() > 0.01
    other = from_tensors(dict(state), settings(content, SHARED_SCALE=[2.0]), NOTHING, HERE).model
    assert other.config.shared_scales == (2.0,) * 4 and other.config.task_scales == (4.0,) * 4


def test_tasks_of_unequal_rank_and_scale_keep_their_numbers(
    state: dict[str, torch.Tensor], content: dict[str, Any], published: dict[str, np.ndarray]
) -> None:
    """A rank filled up with zeros and a scale moved into B change nothing."""
    stem = "backbone.layers.1.blocks.1.mlp.fc1"
    narrow = dict(state)
    for part, cut in (("A", lambda value: value[:2]), ("B", lambda value: value[:, :2])):
        narrow[f"{stem}.lora_tasks_{part}.normals"] = cut(state[f"{stem}.lora_tasks_{part}.normals"]).contiguous()
    zeroed = dict(state)
    for part in "AB":
        value = state[f"{stem}.lora_tasks_{part}.normals"].clone()
        (value[2:] if part == "A" else value[:, 2:]).zero_()
        zeroed[f"{stem}.lora_tasks_{part}.normals"] = value
    per_stage = [{"semseg": 4.0, "normals": 2.0, "sal": 4.0, "human_parts": 4.0} for _ in range(4)]
    halved = settings(content, SCALE_PER_TASK_LIST=per_stage)
    one = answers(from_tensors(narrow, content["config"], NOTHING, HERE).model, published["image"][:1])
    other = answers(from_tensors(zeroed, content["config"], NOTHING, HERE).model, published["image"][:1])
    torch.testing.assert_close(one["normals"], other["normals"], atol=1e-5, rtol=1e-5)
    third: Any = from_tensors(dict(state), halved, NOTHING, HERE).model.adapters
    usual: Any = from_tensors(dict(state), content["config"], NOTHING, HERE).model.adapters
    ratio = third["normals"]["stage1_fc1"].up / usual["normals"]["stage1_fc1"].up
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.5))
    assert torch.equal(third["semseg"]["stage1_fc1"].up, usual["semseg"]["stage1_fc1"].up)


def test_older_layout_without_adapters_in_most_blocks(state: dict[str, torch.Tensor], content: dict[str, Any]) -> None:
    older = {name: value for name, value in state.items() if ".blocks.0." not in name or ".lora_" not in name}
    result = from_tensors(older, content["config"], NOTHING, HERE)
    assert result.assumed == ["16 layers without shared adapters (an older layout) got adapters of zeros"]
    assert not result.model.encoder.stages[2].blocks[0].mlp.up_shared.up.any()
    incomplete = {name: value for name, value in state.items() if not name.endswith("0.blocks.0.mlp.fc1.lora_shared_B")}
    with pytest.raises(ConvertError, match=r"- encoder\.stages\.0\.blocks\.0\.mlp\.up_shared\.up"):
        from_tensors(incomplete, content["config"], NOTHING, HERE)


def test_branches_of_blocks_that_nothing_reads_are_left_out(state: dict[str, torch.Tensor], content: Any) -> None:
    """INTERMEDIATE_SPECIALIZATION puts them into every block; only the last one's are used."""
    surplus = {
        name.replace(".blocks.1.", ".blocks.0."): value for name, value in state.items() if ".lora_tasks_" in name
    }
    found = from_tensors({**state, **surplus}, content["config"], NOTHING, HERE).found
    assert set(surplus) <= set(found.dropped)


@pytest.mark.parametrize("plus", [False, True])
def test_published_tiny_448_layout_converts_with_every_key(plus: bool) -> None:
    """Swin-T, 448 x 448, PASCAL, four tasks, shared rank 64, task rank 4: 431 tensors, 437 with adapted merging."""
    layout = published_layout(plus)
    assert len(layout) == (437 if plus else 431)
    lora = {"SHARED_SCALE": [4.0], "SHARED_MODE": "matrix", "DOWNSAMPLER_ENABLED": plus}
    chosen = {"DATA": {"IMG_SIZE": 448}, "MODEL": {"MTLORA": lora}, "TASKS": list(FOREIGN.values())}
    result = from_tensors(dict(layout), chosen, NOTHING, HERE)
    assert {*result.found.origin.values(), *result.found.dropped} == set(layout)
    assert all(name.endswith(("attn_mask", "relative_position_index")) for name in result.found.dropped)
    config = result.model.config
    assert (config.depths, config.heads, config.window, config.merge_adapters) == (
        (2, 2, 6, 2),
        (3, 6, 12, 24),
        7,
        plus,
    )
    assert config.task_names == tuple(FOREIGN)
    trainable = trainable_parameters(freeze_pretrained_(result.model))
    assert trainable == 8_344_634 if not plus else round(trainable / 1e6, 2) == 7.05


def published_layout(plus: bool) -> dict[str, torch.Tensor]:
    """Names and shapes of the published settings (facts from the upstream code); zeros take no memory until read."""
    shapes: dict[str, tuple[int, ...]] = {
        "backbone.patch_embed.proj.weight": (96, 3, 4, 4),
        "backbone.patch_embed.proj.bias": (96,),
        "backbone.patch_embed.norm.weight": (96,),
        "backbone.patch_embed.norm.bias": (96,),
    }
    tasks = {"semseg": 21, "normals": 3, "sal": 1, "human_parts": 7}
    for stage, (depth, heads) in enumerate(zip((2, 2, 6, 2), (3, 6, 12, 24))):
        dim, grid = 96 * 2**stage, 112 // 2**stage
        for block in range(depth):
            stem = f"backbone.layers.{stage}.blocks.{block}"
            for norm in ("norm1", "norm2"):
                shapes |= {f"{stem}.{norm}.weight": (dim,), f"{stem}.{norm}.bias": (dim,)}
            shapes[f"{stem}.attn.relative_position_bias_table"] = (169, heads)
            shapes[f"{stem}.attn.relative_position_index"] = (49, 49)
            if block % 2:
                shapes[f"{stem}.attn_mask"] = ((grid // 7) ** 2, 49, 49)
            layers = {
                "attn.qkv": (3 * dim, dim),
                "attn.proj": (dim, dim),
                "mlp.fc1": (4 * dim, dim),
                "mlp.fc2": (dim, 4 * dim),
            }
            for layer, (out, into) in layers.items():
                shapes |= {f"{stem}.{layer}.linear.weight": (out, into), f"{stem}.{layer}.linear.bias": (out,)}
                shapes |= {f"{stem}.{layer}.lora_shared_A": (64, into), f"{stem}.{layer}.lora_shared_B": (out, 64)}
                if block == depth - 1 and layer != "attn.qkv":
                    for task in tasks:
                        shapes[f"{stem}.{layer}.lora_tasks_A.{task}"] = (4, into)
                        shapes[f"{stem}.{layer}.lora_tasks_B.{task}"] = (out, 4)
        if stage < 3:
            stem = f"backbone.layers.{stage}.downsample"
            shapes |= {f"{stem}.norm.weight": (4 * dim,), f"{stem}.norm.bias": (4 * dim,)}
            shapes[f"{stem}.reduction{'.linear' if plus else ''}.weight"] = (2 * dim, 4 * dim)
            if plus:
                shapes[f"{stem}.reduction.lora_shared_A"] = (64, 4 * dim)
                shapes[f"{stem}.reduction.lora_shared_B"] = (2 * dim, 64)
    for task, channels in tasks.items():
        for level, (dim, stream) in enumerate(zip((192, 384, 768, 768), (18, 36, 72, 144))):
            shapes[f"downsampler.{task}.downsample_{level}.weight"] = (stream, dim, 1, 1)
        stem = f"decoders.decoders.{task}.last_layer"
        shapes |= {f"{stem}.0.weight": (1080, 270, 1, 1), f"{stem}.0.bias": (1080,)}
        shapes |= {f"{stem}.1.{name}": (1080,) for name in ("weight", "bias", "running_mean", "running_var")}
        shapes |= {f"{stem}.1.num_batches_tracked": (), f"{stem}.3.weight": (channels, 1080, 1, 1)}
        shapes[f"{stem}.3.bias"] = (channels,)
    from slimpath.models.swin_layers import relative_index

    layout = {name: torch.zeros(shape) for name, shape in shapes.items()}
    layout |= {name: torch.tensor(0) for name in layout if name.endswith("num_batches_tracked")}
    return layout | {name: relative_index(7) for name in layout if name.endswith("relative_position_index")}
