"""What a manifest may say about expert paths."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from slimpath.runtime.bundles.accuracy import Accuracy
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.bundles.manifest import MANIFEST_FILE, encode_manifest, read_manifest
from slimpath.runtime.errors import ManifestError, WeightsError

from ..expert_bundle import EXPERTS, build_expert_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_expert_bundle(tmp_path_factory.mktemp("bundles") / "experts", hidden=64)


@pytest.fixture
def document(folder: Path) -> dict[str, Any]:
    return json.loads((folder / MANIFEST_FILE).read_bytes())


def test_paths_survive_the_round_trip_byte_for_byte(folder: Path) -> None:
    data = (folder / MANIFEST_FILE).read_bytes()
    assert encode_manifest(read_manifest(data)) == data


def test_manifest_without_paths_is_read_as_unmeasured(document: dict[str, Any]) -> None:
    """What was written before there were any."""
    for router in document["encoder"]["routers"].values():
        del router["paths"]
    routers = read_manifest(json.dumps(document).encode()).encoder.routers
    assert {router.paths for router in routers.values()} == {None}


def _paths(*path: Any, to: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        at: Any = document["encoder"]["routers"]["left"]["paths"]
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = to

    return change


CONTRADICTIONS = {
    r"paths.coverage.*above 0, at most 1": _paths("coverage", to=0),
    r"paths.images.*at least 1": _paths("images", to=0),
    r"paths.blocks.*1 entries": _paths("blocks", to=[]),
    r"paths.open_biases.*1 names": _paths("open_biases", to=["a", "b"]),
    r"open_biases.*named, as experts are left out": _paths("open_biases", to=[]),
    r"kept.*ascending, from 0 to 5": _paths("blocks", 0, "kept", to=[1, 0]),
    r"kept.*ascending": _paths("blocks", 0, "kept", to=[0, 0, 1]),
    r"kept.*from 0 to 5": _paths("blocks", 0, "kept", to=[0, EXPERTS]),
    r"kept.*at least 2 \(top_k\) experts": _paths("blocks", 0, "kept", to=[3]),
    r"mass.*6 shares": _paths("blocks", 0, "mass", to=[1.0]),
    r"mass.*shares from 0 to 1": _paths("blocks", 0, "covered", to=1.5),
}


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_contradiction_is_named(document: dict[str, Any], message: str) -> None:
    CONTRADICTIONS[message](document)
    with pytest.raises(ManifestError, match=message):
        read_manifest(json.dumps(document).encode())


def test_bias_that_is_not_in_the_weights_is_refused(folder: Path, tmp_path: Path, document: dict[str, Any]) -> None:
    _paths("open_biases", to=["router.left.nowhere"])(document)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(document))
    with pytest.raises(WeightsError, match=r"no tensor 'router.left.nowhere'"):
        Bundle.open(tmp_path)


def test_accuracy_with_all_experts_is_kept_beside_the_other(folder: Path) -> None:
    manifest = Bundle.open(folder).manifest
    point = Accuracy("left", 1.0, 2, 1.0, "accuracy", True, 0.7, None, None, 0.3, 8, "made up", all_experts=0.71)
    data = encode_manifest(msgspec.structs.replace(manifest, accuracies=(point,)))
    assert read_manifest(data).accuracies[0].all_experts == 0.71
    with pytest.raises(ManifestError):
        read_manifest(data.replace(b'"all_experts": 0.71', b'"all_experts": 1e999'))
