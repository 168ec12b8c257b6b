"""M3ViT: the upstream numbers come out of our network, its bundle and the engine; every key is accounted for."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slimpath.export import export_bundle
from slimpath.export.convert import ConvertOptions, convert
from slimpath.export.convert.m3vit import from_tensors, load
from slimpath.export.convert.reader import read_file, tensors_of
from slimpath.export.errors import ConvertError, TargetExistsError
from slimpath.models import folded, load_checkpoint
from slimpath.runtime import Bundle, Engine

from .conftest import normalised, reference

OPTIONS = ConvertOptions(heads=4, top_k=2, image_hw=(64, 96))
TOLERANCE = 1e-4
FOREIGN = {"semseg": "semseg", "human_parts": "human_parts", "saliency": "sal", "normals": "normals", "edge": "edge"}
HERE = Path("checkpoint.pth.tar")  # what errors call tensors that came from no file


def published(name: str) -> np.ndarray:
    return reference("m3vit-a")[name]


@pytest.fixture(scope="module")
def state(m3vit_folder: Path) -> dict[str, torch.Tensor]:
    """The merged state dict, without prefix."""
    shards = [tensors_of(file, read_file(file)["state_dict"]) for file in sorted(m3vit_folder.glob("*.pth"))]
    merged = dict(shards[0])
    merged.update({name: torch.cat([shards[0][name], value]) for name, value in shards[1].items()})
    return {name.removeprefix("module."): value for name, value in merged.items()}


@pytest.mark.parametrize("fold", [False, True])
def test_network_computes_what_upstream_computes(fold: bool, m3vit_folder: Path) -> None:
    model = load(m3vit_folder, OPTIONS).model
    model = folded(model) if fold else model
    images = torch.from_numpy(normalised(published("image")))
    tasks = [task for task in FOREIGN for _ in images]
    with torch.no_grad():
        out = model(images, tasks, image_index_B=torch.arange(len(tasks)) % 2)
    for task, name in FOREIGN.items():
        rows = out.rows[task]
        np.testing.assert_allclose(out.raw[task][..., ::2, ::2], published(f"output.{name}"), atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(
            out.tokens_BND[rows[:1]], published(f"features.{name}"), atol=TOLERANCE, rtol=0, err_msg=task
        )
        chosen = out.features.routings[0].expert_BNK[rows]
        np.testing.assert_array_equal(chosen, published(f"router_topk_indices.{name}"))


def test_bundle_answers_what_upstream_computes(m3vit_folder: Path, tmp_path: Path) -> None:
    report = convert("m3vit", m3vit_folder, tmp_path / "m3vit.safetensors", OPTIONS)
    assert report.read == 410 and report.tasks == tuple(FOREIGN)
    exported = export_bundle(report.path, tmp_path / "bundle")
    assert exported.worst_error is not None and exported.worst_error < TOLERANCE
    images = published("image")
    with Engine.load(Bundle.open(tmp_path / "bundle", verify=True), threads=1) as engine:
        for number, image in enumerate(images):
            result = engine(image, probabilities=True)
            for task, name in FOREIGN.items():
                raw = published(f"output.{name}")[number]
                kind = engine.tasks[task].kind
                if kind == "classes":
                    wanted = np.exp(raw) / np.exp(raw).sum(axis=0)
                    found = result.probabilities[task][:, ::2, ::2]
                    assert np.mean(result[task][::2, ::2] != raw.argmax(axis=0)) <= 1e-4
                elif kind == "normals":
                    wanted, found = raw / np.sqrt((raw**2).sum(axis=0)), result[task].transpose(2, 0, 1)[:, ::2, ::2]
                else:
                    wanted, found = 1 / (1 + np.exp(-raw[0])), result[task][::2, ::2]
                np.testing.assert_allclose(found, wanted, atol=TOLERANCE, rtol=0, err_msg=task)


def test_what_cannot_be_read_is_asked_for_and_what_is_assumed_is_said(
    m3vit_folder: Path, state: dict[str, torch.Tensor]
) -> None:
    with pytest.raises(ConvertError, match="say --top-k: experts a token visits"):
        load(m3vit_folder, ConvertOptions(heads=4, image_hw=(64, 96)))
    with pytest.raises(ConvertError, match="say --heads"):
        load(m3vit_folder, ConvertOptions(top_k=2, image_hw=(64, 96)))
    with pytest.raises(ConvertError, match="24 patches of 16 pixels: say --image-size"):
        load(m3vit_folder, ConvertOptions(heads=4, top_k=2))
    with pytest.raises(ConvertError, match="24 patches of 16 pixels, which images of 64x64 do not have"):
        load(m3vit_folder, ConvertOptions(heads=4, top_k=2, image_hw=(64, 64)))
    assumed = load(m3vit_folder, OPTIONS).assumed
    assert len(assumed) == 2 and "--gate-input-ahead" in assumed[0] and "--expert-prune" in assumed[1]


def test_training_only_modules_are_left_out_with_a_reason(m3vit_folder: Path) -> None:
    found = load(m3vit_folder, OPTIONS).found
    assert set(found.dropped.values()) == {"only used in training"}
    assert len(found.dropped) == 188 and all(name.startswith("tam_model") for name in found.dropped)


def test_missing_surplus_and_misshapen_tensors_are_all_listed(state: dict[str, torch.Tensor]) -> None:
    changed = {**state, "backbone.blocks.0.attn.extra": torch.zeros(2), "other.thing": torch.zeros(1)}
    with pytest.raises(ConvertError) as caught:
        from_tensors(changed, OPTIONS, HERE)
    assert "+ backbone.blocks.0.attn.extra (2,)" in str(caught.value) and "+ other.thing (1,)" in str(caught.value)
    changed = {**state, "backbone.blocks.2.norm1.bias": torch.zeros(3)}
    del changed["backbone.blocks.2.norm1.weight"], changed["backbone.blocks.3.mlp.gate.4.w_gate"]
    with pytest.raises(ConvertError) as caught:
        from_tensors(changed, OPTIONS, HERE)
    lines = str(caught.value).splitlines()[1:]
    assert lines == [
        "- encoder.blocks.2.norm1.weight (64,), from backbone.blocks.{block}.norm1.{part}",
        "- routers.edge.weight.1 (64, 8), from backbone.blocks.{block}.mlp.gate.{gate}.w_gate",
        "! encoder.blocks.2.norm1.bias expected (64,), got (3,) from backbone.blocks.2.norm1.bias",
    ]


def test_missing_rank_is_noticed(m3vit_folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(m3vit_folder / "0.pth", alone / "0.pth")
    with pytest.raises(ConvertError, match="block 1 routes to 8 experts, but there are 4: a rank's file is missing"):
        load(alone, OPTIONS)
    (alone / "0.pth").rename(alone / "1.pth")
    with pytest.raises(ConvertError, match=r"must hold 0\.pth, 1\.pth, \.\.\. without a gap, got 1\.pth"):
        load(alone, OPTIONS)
    shutil.copy(m3vit_folder / "0.pth", alone / "0.pth")
    shutil.copy(m3vit_folder / "0.pth", alone / "1.pth")
    with pytest.raises(ConvertError, match="must hold experts only"):
        load(alone, OPTIONS)


def test_single_file_of_a_distributed_run_is_the_same_model(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pth.tar"
    torch.save({"epoch": 1, "state_dict": {f"module.{name}": value for name, value in state.items()}}, file)
    one, other = load(file, OPTIONS).model, from_tensors(state, OPTIONS, HERE).model
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def _gates(state: dict[str, torch.Tensor]) -> list[str]:
    return [name for name in state if ".mlp.gate." in name]


def test_one_gate_for_all_tasks_becomes_equal_routers(state: dict[str, torch.Tensor]) -> None:
    plain = {name: value for name, value in state.items() if name not in _gates(state)}
    for block in (1, 3):
        plain[f"backbone.blocks.{block}.mlp.gate.w_gate"] = state[f"backbone.blocks.{block}.mlp.gate.2.w_gate"]
    model = from_tensors(plain, OPTIONS, HERE).model
    routers: Any = model.routers
    shared: Any = from_tensors(state, OPTIONS, HERE).model.routers["saliency"]
    for task in FOREIGN:
        for level in (0, 1):
            assert torch.equal(routers[task].weight[level], shared.weight[level])
            assert not routers[task].bias[level].any()


def test_task_vector_becomes_a_bias(state: dict[str, torch.Tensor]) -> None:
    """logits = [token, vector] @ w_gate, the vector from the task's one-hot by two layers and a norm."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    size, tasks = 6, len(FOREIGN)
    stem = "backbone.gate_task_represent"
    vector = {
        f"{stem}.fc1.weight": draw(size, tasks),
        f"{stem}.fc1.bias": draw(size),
        f"{stem}.fc2.weight": draw(size, size),
        f"{stem}.fc2.bias": draw(size),
        f"{stem}.norm.weight": draw(size),
        f"{stem}.norm.bias": draw(size),
    }
    conditioned = {name: value for name, value in state.items() if name not in _gates(state)} | vector
    for block in (1, 3):
        conditioned[f"backbone.blocks.{block}.mlp.gate.w_gate"] = draw(64 + size, 8)
    result = from_tensors(conditioned, OPTIONS, HERE)
    assert all(result.found.dropped[name] == "became the routers' biases" for name in vector)
    token = draw(3, 64)
    for number, task in enumerate(FOREIGN):
        hidden = torch.nn.functional.gelu(vector[f"{stem}.fc1.weight"][:, number] + vector[f"{stem}.fc1.bias"])
        raw = vector[f"{stem}.fc2.weight"] @ hidden + vector[f"{stem}.fc2.bias"]
        centred = (raw - raw.mean()) / torch.sqrt(raw.var(unbiased=False) + 1e-6)
        task_vector = centred * vector[f"{stem}.norm.weight"] + vector[f"{stem}.norm.bias"]
        logits = torch.cat([token, task_vector.expand(3, -1)], 1) @ conditioned["backbone.blocks.3.mlp.gate.w_gate"]
        router: Any = result.model.routers[task]
        torch.testing.assert_close(token @ router.weight[1] + router.bias[1], logits, atol=1e-5, rtol=1e-5)


def test_gates_beyond_the_tasks_are_not_needed(state: dict[str, torch.Tensor]) -> None:
    surplus = {f"backbone.blocks.{block}.mlp.gate.5.w_gate": torch.ones(64, 8) for block in (1, 3)}
    assert set(surplus) <= set(from_tensors({**state, **surplus}, OPTIONS, HERE).found.dropped)


def test_dense_single_task_baseline_needs_the_name_of_its_task(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    dense: dict[str, Any] = {}
    for name, value in state.items():
        if name.startswith("decoders.normals."):
            dense[name.replace("decoders.normals.", "decoder.")] = value
        elif ".mlp.gate." not in name and ".mlp.experts." not in name and not name.startswith(("decoders.", "tam_")):
            dense[name] = value
            if ".blocks.0.mlp." in name:
                dense.update({name.replace(".0.", f".{odd}."): value for odd in (1, 3)})
    file = tmp_path / "best_model.pth.tar"
    torch.save({"model": {f"module.{name}": value for name, value in dense.items()}}, file)
    with pytest.raises(ConvertError, match="single-task model: say --tasks with one of semseg, human_parts, sal"):
        load(file, ConvertOptions(heads=4, image_hw=(64, 96)))
    model = load(file, ConvertOptions(heads=4, image_hw=(64, 96), tasks=("normals",))).model
    assert model.config.task_names == ("normals",) and model.config.moe_blocks == ()


def test_pretrained_backbone_alone_is_refused(state: dict[str, torch.Tensor]) -> None:
    backbone = {name: value for name, value in state.items() if name.startswith("backbone.")}
    with pytest.raises(ConvertError, match="has no decoders"):
        from_tensors(backbone, OPTIONS, HERE)


def test_published_small_pascal_layout_converts_with_every_key() -> None:
    """M3ViT small, PASCAL, five tasks: 16 experts of 384 units, 512 x 512, decoders of 256 channels."""
    layout = published_layout()
    result = from_tensors(layout, ConvertOptions(top_k=4), HERE)
    config = result.model.config
    assert (config.dim, config.depth, config.heads, config.image_hw) == (384, 12, 12, (512, 512))
    assert (config.experts, config.expert_hidden, config.moe_blocks) == (16, 384, (1, 3, 5, 7, 9, 11))
    used = {name for name in result.found.origin.values() if not name.endswith(".bias") or name in layout}
    assert used == set(layout) and not result.found.dropped
    assert [head.channels for head in config.tasks] == [21, 7, 1, 3, 1]
    assert len(result.assumed) == 4  # heads, image size, and the two switches


def published_layout() -> dict[str, torch.Tensor]:
    """Names and shapes of the published settings (facts from the upstream code); zeros take no memory until read."""
    dim, experts, hidden = 384, 16, 384
    shapes: dict[str, tuple[int, ...]] = {
        "backbone.cls_token": (1, 1, dim),
        "backbone.pos_embed": (1, 1025, dim),
        "backbone.patch_embed.proj.weight": (dim, 3, 16, 16),
        "backbone.patch_embed.proj.bias": (dim,),
    }
    for block in range(12):
        stem = f"backbone.blocks.{block}"
        pairs = {"norm1": (dim,), "norm2": (dim,), "attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim)}
        if block % 2:
            for name, shape in {"htoh4": (experts, hidden, dim), "h4toh": (experts, dim, hidden)}.items():
                shapes[f"{stem}.mlp.experts.{name}.weight"] = shape
                shapes[f"{stem}.mlp.experts.{name}.bias"] = shape[:2]
            shapes |= {f"{stem}.mlp.gate.{task}.w_gate": (dim, experts) for task in range(5)}
        else:
            pairs |= {"mlp.fc1": (4 * dim, dim), "mlp.fc2": (dim, 4 * dim)}
        for name, shape in pairs.items():
            shapes[f"{stem}.{name}.weight"], shapes[f"{stem}.{name}.bias"] = shape, shape[:1]
    for task, channels in {"semseg": 21, "human_parts": 7, "sal": 1, "normals": 3, "edge": 1}.items():
        stem = f"decoders.{task}"
        convs = {number: (256, dim if number == 0 else 256, 3, 3) for number in range(4)} | {4: (channels, 256, 1, 1)}
        for number, shape in convs.items():
            shapes[f"{stem}.conv_{number}.weight"], shapes[f"{stem}.conv_{number}.bias"] = shape, shape[:1]
        for number in range(4):
            names = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"{stem}.syncbn_fc_{number}.{name}": (256,) for name in names}
            shapes[f"{stem}.syncbn_fc_{number}.num_batches_tracked"] = ()
        shapes |= {f"{stem}.norm.weight": (dim,), f"{stem}.norm.bias": (dim,)}
    return {
        name: torch.zeros(shape, dtype=torch.long if name.endswith("tracked") else torch.float32)
        for name, shape in shapes.items()
    }


def test_existing_target_is_left_alone(m3vit_folder: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken.safetensors"
    taken.write_text("mine")
    with pytest.raises(TargetExistsError, match="exists"):
        convert("m3vit", m3vit_folder, taken, OPTIONS)
    assert taken.read_text() == "mine"


def test_converted_checkpoint_says_where_it_comes_from_and_is_offered_at_full_width(
    m3vit_folder: Path, tmp_path: Path
) -> None:
    from slimpath.export import ExportError

    report = convert("m3vit", m3vit_folder, tmp_path / "m3vit.safetensors", OPTIONS)
    model, metadata = load_checkpoint(report.path)
    assert model.config.widths == (1.0,)
    assert metadata["provenance"]["format"] == "m3vit" and set(metadata["provenance"]["sha256"]) == {"0.pth", "1.pth"}
    assert metadata["preprocessing"]["fit"] == "stretch"
    assert next(task for task in metadata["tasks"] if task["name"] == "semseg")["classes"][1] == "aeroplane"
    with pytest.raises(ExportError, match=r"trained at full width only, got width 0\.5"):
        export_bundle(report.path, tmp_path / "narrow", widths=[0.5, 1.0])
