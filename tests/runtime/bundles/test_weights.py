from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from slimpath.runtime.bundles.safetensors_header import read_safetensors_header
from slimpath.runtime.bundles.weights import Weights
from slimpath.runtime.errors import WeightsError


def file_of(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def read(data: bytes):
    return read_safetensors_header(io.BytesIO(data), len(data))


def test_tensors_are_read_only_views_of_the_file(tmp_path):
    tensors = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([3, -1]),
        "c": np.array([[2]], np.float16),
    }
    save_file(tensors, tmp_path / "w.safetensors", metadata={"made": "here"})
    weights = Weights(tmp_path / "w.safetensors")
    assert weights.header.metadata == {"made": "here"}
    assert sorted(weights.names()) == ["a", "b", "c"]
    for name, expected in tensors.items():
        view = weights.tensor(name)
        np.testing.assert_array_equal(view, expected)
        assert view.dtype == expected.dtype and not view.flags.writeable and not view.flags.owndata


def test_unknown_tensor_names_those_alike(tmp_path):
    save_file({"block.0.weight": np.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"no tensor 'head.weight'; there is block.0.weight"):
        Weights(tmp_path / "w.safetensors").tensor("head.weight")


def test_type_without_numpy_equivalent_is_refused_by_name(tmp_path):
    (tmp_path / "w").write_bytes(file_of({"a": entry(0, 2, [1], "BF16")}, bytes(2)))
    with pytest.raises(WeightsError, match="'a' is BF16"):
        Weights(tmp_path / "w").tensor("a")


def test_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        Weights(tmp_path / "none")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "header would have 0 bytes"),
        (b"\x05", "header would have"),
        (struct.pack("<Q", 1 << 60) + b"{}", "header would have"),
        (struct.pack("<Q", 50) + b"{}", "header would have 50 bytes, the file has 10"),
        (file_of(b"{x}"), "not what safetensors writes"),
        (file_of(b"[1]"), "not what safetensors writes"),
        (file_of({"a": {"dtype": "F32"}}), "not what safetensors writes"),
        (file_of({"a": {**entry(0, 4, [1]), "more": 1}}, bytes(4)), "not what safetensors writes"),
        (file_of({"__metadata__": {"a": 1}}), "not what safetensors writes"),
        (file_of({"a": entry(0, 4, [1], "F31")}, bytes(4)), "unknown type 'F31'"),
        (file_of({"a": entry(0, 4, [-1])}, bytes(4)), "has the shape"),
        (file_of({"a": entry(0, 8, [1])}, bytes(8)), "4 bytes fill its shape"),
        (file_of({"a": entry(8, 4, [1])}, bytes(8)), "lies at 8 to 4"),
        (file_of({"a": entry(-4, 0, [1])}, bytes(8)), "lies at -4 to 0"),
        (file_of({"a": entry(0, 4, [1]), "b": entry(0, 4, [1])}, bytes(8)), "overlaps"),
        (file_of({"a": entry(0, 8, [2]), "b": entry(4, 8, [1])}, bytes(8)), "'b' overlaps 'a'"),
        (file_of({"a": entry(0, 8, [2])}, bytes(7)), "'a' ends at byte"),
        (file_of({"a": entry(0, 4, [1 << 40, 1 << 40])}, bytes(4)), "fill its shape"),
    ],
)
def test_file_that_contradicts_itself_is_refused(data, message):
    with pytest.raises(WeightsError, match=message):
        read(data)


@given(st.binary(max_size=80), st.integers(0, 60))
def test_no_bytes_bring_the_reader_down(noise, position):
    whole = file_of({"a": entry(0, 4, [1]), "b": entry(4, 12, [2])}, bytes(12))
    for data in (noise, struct.pack("<Q", len(noise)) + noise, whole[:position] + noise + whole[position:]):
        try:
            for tensor in read(data).tensors.values():
                assert 8 <= tensor.offset <= tensor.offset + tensor.nbytes <= len(data)
        except WeightsError:
            pass
