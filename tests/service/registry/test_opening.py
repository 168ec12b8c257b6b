"""Bundles become engines that are warm, and that notice if their files are replaced."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.engine import Engine
from slimpath.runtime.errors import BackendError, BundleError
from slimpath.service.opening import GuardedBackend, open_engine, public_message
from slimpath.tests.service.running import picture, settings_for


def test_an_opened_engine_has_every_graph_loaded(bundle: Path) -> None:
    with open_engine(bundle, settings_for(bundle)) as engine:
        assert {loaded.graph.file for loaded in engine.sessions.loaded()} == {
            graph.file for graph in engine.bundle.manifest.graphs
        }


def test_warming_the_full_plan_alone_loads_less(bundle: Path) -> None:
    with open_engine(bundle, settings_for(bundle, engine={"warm": "full"})) as engine:
        assert {loaded.graph.width for loaded in engine.sessions.loaded()} == {1.0}


def test_limits_and_threads_of_the_settings_reach_the_engine(bundle: Path) -> None:
    settings = settings_for(bundle, engine={"threads": 1}, limits={"max_image_mp": 0.002})
    with open_engine(bundle, settings) as engine:
        assert engine.backend.threads == 1 and engine.backend.name == "onnxruntime"
        with pytest.raises(Exception, match="too large"):
            engine(picture(40, 60))


def test_a_guarded_backend_answers_as_the_one_inside(bundle: Path) -> None:
    rgb = picture()
    with (
        open_engine(bundle, settings_for(bundle, engine={"threads": 1})) as guarded,
        Engine.load(bundle, threads=1) as bare,
    ):
        np.testing.assert_allclose(guarded(rgb)["depth"], bare(rgb)["depth"], rtol=1e-4, atol=1e-4)


def guarded_engine(folder: Path) -> Engine:
    opened = Bundle.open(folder)
    backend: Any = GuardedBackend(OrtBackend(threads=1), opened.path / opened.manifest.weights.file)
    return Engine.load(opened, backend=backend, tier="packed")


def test_a_graph_is_not_loaded_with_the_weights_of_another_bundle(copied_bundle: Path, tmp_path: Path) -> None:
    with guarded_engine(copied_bundle) as engine:
        first = engine(picture(), "depth")["depth"]
        other = Path(shutil.copytree(copied_bundle, tmp_path / "other"))
        os.rename(copied_bundle, tmp_path / "old")
        os.rename(other, copied_bundle)
        with pytest.raises(BackendError, match="replaced after it was opened; reload the model"):
            engine(picture(), "edge")  # its head was not loaded yet
        np.testing.assert_array_equal(engine(picture(), "depth")["depth"], first)  # what is loaded still answers


def test_a_bundle_that_was_taken_away_is_noticed(copied_bundle: Path) -> None:
    with guarded_engine(copied_bundle) as engine:
        shutil.rmtree(copied_bundle)
        with pytest.raises(BackendError, match="replaced after it was opened"):
            engine(picture(), "depth")


def test_messages_for_the_network_name_the_model_instead_of_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "rooms"
    folder.mkdir()
    link = tmp_path / "link"
    link.symlink_to(folder)
    error = BundleError(f"{folder}/weights.safetensors: was changed", hint=f"copy {link} again")
    message = public_message(error, link, "rooms")
    assert message == "rooms/weights.safetensors: was changed; copy rooms again"
    assert public_message(OSError(f"{folder} is broken"), folder, "rooms") == "internal error (OSError)"
