"""docs/models.md has the tables that the bundled manifest gives, and docs/photographs.md those of its measurement."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
from PIL import Image

import slimpath
from slimpath.runtime import Bundle, bundled_path
from slimpath.tests.scripts import load_script

ROOT = Path(slimpath.__file__).parent


def test_model_card_is_that_of_the_bundle(monkeypatch: pytest.MonkeyPatch):
    made = load_script("model_card", monkeypatch)
    text = made.PAGE.read_text(encoding="utf-8")
    bundle = Bundle.open(bundled_path())
    assert made.with_card(text, made.card(bundle)) == text, "run: python benchmarks/model_card.py"
    assert bundle.manifest.weights.sha256[:16] in text
    for task in made.SAMPLES_OF:
        assert f"(images/samples-{task}.jpg)" in text
        assert 10_000 < (made.PAGE.parent / f"images/samples-{task}.jpg").stat().st_size <= 300_000


def test_photographs_page_is_that_of_its_measurement(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch", reason="the measurement needs torch")
    made = load_script("photographs", monkeypatch)
    text = made.PAGE.read_text(encoding="utf-8")
    measured = msgspec.json.decode(made.KEPT.read_bytes())
    again = sys.modules["page"].with_figures(text, "photographs.py", made.page_text(measured))
    assert again == text, "run: python benchmarks/photographs.py --write"
    manifest = Bundle.open(bundled_path()).manifest
    assert measured["weights_sha256"] == manifest.weights.sha256, "the model changed: measure it again"
    for name in ("photographs.jpg", "photographs-motorcycle.jpg"):
        assert 10_000 < (made.IMAGES / name).stat().st_size <= 300_000


def test_what_being_slimmable_costs_is_that_of_its_measurement(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch", reason="the measurement needs torch")
    made = load_script("non_slimmable", monkeypatch)
    measured = msgspec.json.decode(made.KEPT.read_bytes())
    text = made.PAGE.read_text(encoding="utf-8")
    again = sys.modules["page"].with_figures(text, "non_slimmable.py", measured["text"])
    assert again == text, "run: python benchmarks/non_slimmable.py FIXED.safetensors --write"
    manifest = Bundle.open(bundled_path()).manifest
    assert measured["weights_sha256"] == manifest.weights.sha256, "the model changed: measure it again"


def test_photographs_that_are_left_out_are_named_with_the_reason(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch", reason="the measurement needs torch")
    made = load_script("photographs", monkeypatch)
    text = made.PAGE.read_text(encoding="utf-8")
    assert set(made.LEFT_OUT) == {"motorcycle_right", "hubble_deep_field", "ihc", "retina"}
    assert all(f"{name} ({reason})" in text for name, reason in made.LEFT_OUT.items())
    data = Path(str(pytest.importorskip("skimage").__file__)).parent / "data"
    shown = {Path(name).stem for name in made.PHOTOGRAPHS["skimage"]}
    coloured = {file.stem for file in data.iterdir() if file.suffix in (".png", ".jpg") and is_coloured(file)}
    drawn = {"chessboard_RGB", "color", "horse", "logo", "phantom"}
    assert coloured - drawn <= shown | set(made.LEFT_OUT)  # nothing is silently left out


def is_coloured(file: Path) -> bool:
    with Image.open(file) as picture:
        return picture.mode in ("RGB", "RGBA")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch", reason="the measurement needs torch")
    made = load_script("photographs", monkeypatch)
    monkeypatch.setattr(made, "PHOTOGRAPHS", {"skimage": ("coffee.png", "none.png"), "no_such_package": ("a.jpg",)})
    monkeypatch.setattr(made, "FOLDERS", {"skimage": "data", "no_such_package": "data"})
    found, absent = made.photographs()
    assert list(found) == ["coffee"] and absent == ["skimage's none.png", "no_such_package's a.jpg"]
