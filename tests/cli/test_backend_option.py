from __future__ import annotations

import json

import pytest

pytest.importorskip("openvino", reason="the openvino extra is not installed")


def test_run_takes_a_backend(slimpath, tiny_bundle, photos):
    result = slimpath("run", photos, "--bundle", tiny_bundle, "--tasks", "depth", "--backend", "openvino", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["failed"] == 0


def test_run_takes_the_fastest_backend(slimpath, tiny_bundle, photos, tmp_path):
    result = slimpath("run", photos, "--bundle", tiny_bundle, "--tasks", "depth", "--backend", "auto", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["failed"] == 0
    (stored,) = (tmp_path / "cache" / "auto").glob("*/*.json")
    assert {found["backend"] for found in json.loads(stored.read_text())["candidates"]} >= {"onnxruntime", "openvino"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--backend", "tensorflow"), "unknown backend 'tensorflow'; this version has onnxruntime,"),
        (("--precision", "bf16"), "onnxruntime computes in fp32, not in bf16; use --backend openvino"),
        (("--backend", "openvino", "--precision", "int4"), "openvino has no precision 'int4'; it has fp32, bf16"),
        (("--backend", "auto", "--precision", "int4"), "no backend here computes in int4; use --precision fp32"),
    ],
)
def test_backend_that_cannot_be_had_is_one_line_and_exit_code_2(slimpath, tiny_bundle, photos, options, said):
    result = slimpath("run", photos, "--bundle", tiny_bundle, *options)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"slimpath: {said}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["run", "demo", "eval"])
def test_help_names_the_backends(slimpath, verb):
    text = " ".join(slimpath(verb, "--help").stdout.replace("│", " ").split())  # the box around wrapped lines
    assert "--backend" in text
    assert "--precision" in text
    assert "auto: the fastest" in text
