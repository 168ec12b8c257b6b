"""`--backend auto`, on backends and a clock of our own: nothing here depends on how fast this machine is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from slimpath.runtime.backends import auto
from slimpath.runtime.backends.base import Session
from slimpath.runtime.backends.ort import OrtBackend
from slimpath.runtime.bundles.bundle import Bundle
from slimpath.runtime.engine import Engine
from slimpath.runtime.errors import BackendError, ProfileError
from slimpath.runtime.profiling.profile import Profile


class _Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class _Timed:
    """ONNX Runtime whose encoder takes as long as we say, and may answer wrongly."""

    version, threads, precision, precisions = "1", 1, "fp32", ("fp32",)

    def __init__(self, name: str, clock: _Clock, ms: float, *, wrong: bool = False, broken: bool = False) -> None:
        self.name, self._clock, self._ms, self._wrong, self._broken = name, clock, ms, wrong, broken
        self.loads = 0

    def load(self, graph: bytes, folder: Path, *, tier: Any = "packed") -> Session:
        self.loads += 1
        if self._broken:
            raise BackendError("no such device")
        session = OrtBackend(threads=1).load(graph, folder)
        run = session.run

        def timed(feeds: Mapping[str, np.ndarray], *, shrink: bool = False) -> dict[str, np.ndarray]:
            if "image" in feeds:
                self._clock.now_s += self._ms / 1e3
            answers = run(feeds)
            return {name: value + self._wrong for name, value in answers.items()}

        session.run = timed  # type: ignore[method-assign]
        return session


@pytest.fixture(scope="module")
def bundle(tiny_bundle) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture
def offer(monkeypatch):
    """Offer these backends as the candidates, and let them be made by name."""

    def put(*backends: Any) -> None:
        made = {backend.name: backend for backend in backends}
        monkeypatch.setattr(auto, "candidates", lambda **_: list(backends))
        monkeypatch.setattr(auto, "make_backend", lambda name, **_: made[name])
        measure, clock = auto.measure, backends[0]._clock
        monkeypatch.setattr(auto, "measure", lambda *a, **o: measure(*a, **{**o, "clock": clock}))

    return put


def test_fastest_that_answers_rightly_is_chosen(bundle, offer):
    clock = _Clock()
    backends = (
        _Timed("onnxruntime", clock, 30), _Timed("right", clock, 20), _Timed("wrong", clock, 5, wrong=True),
        _Timed("absent", clock, 1, broken=True),
    )  # fmt: skip
    offer(*backends)
    choice = auto.choose(bundle)
    assert (choice.chosen, choice.source) == ("right", "measured")
    found = {candidate.backend: candidate for candidate in choice.candidates}
    assert found["onnxruntime"].latency_ms == pytest.approx(30)
    assert found["right"].latency_ms == pytest.approx(20)
    assert found["wrong"].latency_ms is found["absent"].latency_ms is None
    assert "fails the parity gate: encoder-32x48-w1.onnx" in found["wrong"].why
    assert "no such device" in found["absent"].why
    assert auto.choose_backend(bundle) is backends[1]


def test_outcome_is_kept_until_something_changes(bundle, offer, own_cache):
    clock = _Clock()
    first, second = _Timed("onnxruntime", clock, 30), _Timed("other", clock, 20)
    offer(first, second)
    told: list[str] = []
    assert auto.choose(bundle, progress=told.append).chosen == "other"
    assert told == ["checking onnxruntime", "checking other", "timing onnxruntime, other"]
    (stored,) = (own_cache / "auto" / bundle.digest).glob("*.json")
    loads = second.loads
    assert auto.choose(bundle).chosen == "other"
    assert second.loads == loads  # read, not measured

    second.version = "2"
    assert auto.choose(bundle, progress=told.append).chosen == "other"
    assert second.loads > loads
    assert len(list(stored.parent.glob("*.json"))) == 2


@pytest.mark.parametrize("content", [b"", b"{}", b'{"chosen": "gone", "source": "measured", "candidates": []}'])
def test_stored_outcome_that_cannot_be_used_is_measured_again(bundle, offer, own_cache, content):
    clock = _Clock()
    offer(_Timed("onnxruntime", clock, 30), _Timed("other", clock, 20))
    auto.choose(bundle)
    (stored,) = (own_cache / "auto" / bundle.digest).glob("*.json")
    stored.write_bytes(content)
    assert auto.choose(bundle).chosen == "other"
    assert b"other" in stored.read_bytes()


def test_cache_that_cannot_be_written_costs_time_only(bundle, offer, own_cache):
    clock = _Clock()
    offer(_Timed("onnxruntime", clock, 10), _Timed("other", clock, 20))
    (own_cache / "auto").write_text("in the way")
    assert auto.choose(bundle).chosen == "onnxruntime"


def test_only_candidate_is_taken_without_measuring(bundle, offer, own_cache):
    only = _Timed("onnxruntime", _Clock(), 10)
    offer(only)
    assert auto.choose(bundle).chosen == "onnxruntime"
    assert only.loads == 0
    assert not (own_cache / "auto").exists()


def test_nothing_that_works_names_every_reason(bundle, offer):
    clock = _Clock()
    offer(_Timed("onnxruntime", clock, 1, broken=True), _Timed("other", clock, 1, wrong=True))
    with pytest.raises(BackendError, match=r"onnxruntime: no such device; other: fails the parity gate"):
        auto.choose(bundle)


def test_backends_are_timed_in_turn_and_within_the_time(bundle):
    clock = _Clock()
    slow, slower = _Timed("onnxruntime", clock, 1000), _Timed("other", clock, 3000)
    found = auto.measure(bundle, [slow, slower], seconds=5, clock=clock)
    assert [candidate.latency_ms for candidate in found] == pytest.approx([1000, 3000])
    before = clock.now_s
    auto.measure(bundle, [slow], seconds=5, clock=clock)
    assert clock.now_s - before < 5 + 3 * 1.0  # one to warm up, and the round that the time ends in


class _Stored:
    """As much of a profile as the choice reads."""

    def __init__(self, name: str, ms: float, parity: dict[str, Any] | None) -> None:
        self.data = SimpleNamespace(parity={} if parity is None else {f"{name}/fp32": parity})
        self._ms = ms

    def encoder(self, graph: Any, **_: Any) -> Any:
        return SimpleNamespace(latency_ms=self._ms)

    def head(self, graph: Any, **_: Any) -> Any:
        return SimpleNamespace(latency_ms=1.0)


@pytest.fixture
def profiles(monkeypatch):
    """Profiles by backend; a backend without one has none."""

    def put(**stored: _Stored) -> None:
        def find(manifest: Any, conditions: Any) -> Any:
            if conditions.backend not in stored:
                raise ProfileError("none")
            return stored[conditions.backend]

        monkeypatch.setattr(Profile, "find", find)

    return put


def test_profiles_decide_where_every_candidate_has_one(bundle, offer, profiles):
    clock = _Clock()
    first, second = _Timed("onnxruntime", clock, 10), _Timed("other", clock, 20)
    offer(first, second)
    profiles(onnxruntime=_Stored("onnxruntime", 30, None), other=_Stored("other", 20, {"passed": True}))
    choice = auto.choose(bundle)
    assert (choice.chosen, choice.source) == ("other", "profile")
    assert [candidate.latency_ms for candidate in choice.candidates] == [35, 25]  # with five heads
    assert first.loads == second.loads == 0

    profiles(onnxruntime=_Stored("onnxruntime", 30, None), other=_Stored("other", 20, {"passed": False}))
    choice = auto.choose(bundle)
    assert (choice.chosen, choice.candidates[1].why) == ("onnxruntime", "fails the parity gate")


@pytest.mark.parametrize("other", [None, _Stored("other", 20, None)])
def test_candidate_without_profile_or_parity_check_is_measured(bundle, offer, profiles, other):
    clock = _Clock()
    offer(_Timed("onnxruntime", clock, 10), _Timed("other", clock, 20))
    profiles(onnxruntime=_Stored("onnxruntime", 30, None), **({} if other is None else {"other": other}))
    choice = auto.choose(bundle)
    assert (choice.chosen, choice.source) == ("onnxruntime", "measured")


def test_candidates_are_those_of_the_precision(monkeypatch):
    monkeypatch.setattr(auto.util, "find_spec", lambda _: None)
    monkeypatch.setattr(auto, "_GPU_FILES", ())
    assert [backend.name for backend in auto.candidates(threads=1)] == ["onnxruntime"]
    with pytest.raises(BackendError, match="no backend here computes in bf16"):
        auto.candidates(precision="bf16")


def test_gpu_backends_are_candidates_where_there_is_a_device(monkeypatch, tmp_path):
    monkeypatch.setattr(auto.util, "find_spec", lambda _: None)
    monkeypatch.setattr(auto, "_GPU_FILES", (str(tmp_path),))
    monkeypatch.setattr(auto, "backend_names", lambda: ("onnxruntime-tensorrt", "onnxruntime-cuda"))  # without torch's
    names = [backend.name for backend in auto.candidates(threads=1)]
    assert names == ["onnxruntime", "onnxruntime-tensorrt", "onnxruntime-cuda"]


def test_engine_takes_auto_by_name(tiny_bundle, photo):
    with Engine.load(tiny_bundle, backend="auto", threads=1) as engine:
        assert engine.backend.name in ("onnxruntime", "openvino")
        assert engine(photo(), "depth")["depth"].shape == (32, 48)
