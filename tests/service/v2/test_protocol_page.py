"""docs/protocol.md: its example runs, and it names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from slimpath.service.v2.answer import describe
from slimpath.service.v2.parameters import VENDOR
from slimpath.tests.service.running import encoded, on_socket, picture, settings_for

PAGE = Path(__file__).resolve().parents[3] / "docs" / "protocol.md"


def test_the_example_runs_against_the_bundled_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(".jpg", picture(300, 400)))
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    # A busy machine answers later than the example asks for.
    code = code.replace('"deadline_ms": 2000', '"deadline_ms": 60000').replace("photo.jpg", str(tmp_path / "photo.jpg"))
    with on_socket(settings_for(None, engine={"warm": "full"})) as port:
        names: dict[str, object] = {}
        exec(code.replace("127.0.0.1:8000", f"127.0.0.1:{port}"), names)
        names["client"].close()  # type: ignore[attr-defined]
    depth = names["depth"]
    assert isinstance(depth, np.ndarray) and depth.shape == (1, 224, 224) and depth.dtype == np.float32
    assert "'degraded'" in capsys.readouterr().out


def test_every_parameter_of_requests_and_answers_is_named() -> None:
    page = PAGE.read_text()
    assert [name for name in (*VENDOR, "priority", "timeout") if f"`{name}`" not in page] == []
    source = Path(describe.__code__.co_filename).read_text()
    said = re.findall(r'^        "(\w+)": ', source[source.index("def describe") :], re.MULTILINE)
    assert len(said) > 12 and [name for name in said if f"`{name}`" not in page] == []
