"""Served bundles with task packs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slimpath.runtime.errors import PackError
from slimpath.service.opening import open_engine
from slimpath.tests.runtime.tiny_bundle import build_tiny_bundle
from slimpath.tests.runtime.tiny_pack import build_tiny_pack
from slimpath.tests.service.running import encoded, picture, serving, settings_for


@pytest.fixture(scope="module")
def pack(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_pack(tmp_path_factory.mktemp("packs") / "layout", bundle)


def test_a_served_bundle_answers_the_task_of_its_pack(bundle: Path, pack: Path) -> None:
    with serving(settings_for(bundle, engine={"packs": (str(pack),)})) as client:
        (model,) = client.get("/v1/models").json()["models"]
        assert "layout" in model["tasks"]
        found = client.post(
            "/v1/infer",
            content=encoded(".png"),
            headers={"content-type": "image/png"},
            params={"tasks": "layout,depth"},
        )
        assert found.status_code == 200, found.text
        assert set(found.json()["outputs"]) == {"layout", "depth"}


def test_a_pack_that_does_not_fit_the_only_bundle_is_refused(pack: Path, tmp_path: Path) -> None:
    other = build_tiny_bundle(tmp_path / "other", moe=False)
    with pytest.raises(PackError, match="trained for another bundle"):
        open_engine(other, settings_for(other, engine={"packs": (str(pack),)}))


def test_of_several_bundles_each_gets_its_own_packs(
    bundle: Path, pack: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = build_tiny_bundle(tmp_path / "other", moe=False)
    settings = replace(settings_for(bundle, engine={"packs": (str(pack),)}), bundles=(str(bundle), str(other)))
    with open_engine(bundle, settings) as mine, open_engine(other, settings) as theirs:
        assert "layout" in mine.tasks and "layout" not in theirs.tasks
        assert np.isfinite(theirs(picture(), "depth")["depth"]).all()
    assert [str(pack) in message for message in caplog.messages] == [True]  # of the other one alone
