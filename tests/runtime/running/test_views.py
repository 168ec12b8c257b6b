"""Views of an engine: packs come and go while requests on former views end."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from slimpath.runtime.running.views import Views


class Sessions:
    """What is lent to the engine; `while_trying` is called while a new pack's graphs are loaded."""

    closed = False

    def __init__(self) -> None:
        self.lent: set[str] = set()
        self.while_trying: Callable[[], object] = lambda: None
        self.tried_with: list[set[str]] = []

    def lend(self, pack: Any) -> None:
        self.lent.add(pack.digest)

    def forget(self, pack: Any) -> None:
        self.lent.discard(pack.digest)

    def load(self, graph: Any, final: bool) -> None:
        self.while_trying()
        self.tried_with.append(set(self.lent))


def pack(name: str) -> Any:
    graph = SimpleNamespace(weight_bytes=1)
    return SimpleNamespace(digest=name, task=SimpleNamespace(name=name), graphs=[graph], path=name)


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture
def views(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> Views:
    monkeypatch.setattr("slimpath.runtime.packs.extend.extend", lambda base, packs: base)

    def make(bundle: Any) -> Any:
        return SimpleNamespace(bundle=bundle, users=0, packs={}, specs={})

    return Views(None, make, sessions)  # type: ignore[arg-type]


def test_a_request_that_ends_meanwhile_does_not_take_the_graphs_of_a_pack_that_is_tried(
    views: Views, sessions: Sessions
) -> None:
    views.add(pack("old"))
    request = views.use()
    request.__enter__()
    views.remove("old")  # the request's view is a former one now
    sessions.while_trying = lambda: request.__exit__(None, None, None)
    views.add(pack("new"))
    assert "new" in sessions.tried_with[-1]
    assert sessions.lent == {"new"}


def test_a_pack_whose_graphs_fail_is_forgotten(views: Views, sessions: Sessions) -> None:
    def fail() -> None:
        raise RuntimeError("it cannot be loaded")

    sessions.while_trying = fail
    with pytest.raises(RuntimeError, match="cannot be loaded"):
        views.add(pack("new"))
    assert not sessions.lent and not views.current.packs
