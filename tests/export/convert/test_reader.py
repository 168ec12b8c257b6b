"""Files of strangers: nothing in them runs, damaged ones are refused, and what claims too much gets no memory."""

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from slimpath.export.convert import ConvertOptions, convert
from slimpath.export.convert.reader import read_file, tensors_of
from slimpath.export.errors import UnsafeFileError

WEIGHTS = {"a": torch.ones(2, 3), "b": torch.zeros(4)}


class Malicious:
    """Creates a file when it is unpickled by anybody who trusts it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


class Evaluating:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return eval, ("__import__('os').getcwd()",)


def content(path: Path) -> dict[str, torch.Tensor]:
    return tensors_of(path, read_file(path)["model"])


def write_malicious(kind: str, path: Path, mark: Path) -> None:
    payload = {"model": WEIGHTS, "extra": Malicious(mark)}
    if kind == "zip":
        torch.save(payload, path)
    elif kind == "old torch format":
        torch.save(payload, path, _use_new_zipfile_serialization=False)
    elif kind == "bare pickle":
        path.write_bytes(pickle.dumps(payload, protocol=4))
    elif kind == "bare pickle, old protocol":
        path.write_bytes(pickle.dumps(Malicious(mark), protocol=2))
    elif kind == "inside the settings":
        torch.save({"model": WEIGHTS, "config": OrderedDict(MODEL=OrderedDict(MTLORA=Malicious(mark)))}, path)
    else:
        torch.save({"model": {**WEIGHTS, "c": Malicious(mark)}}, path)


KINDS = ("zip", "old torch format", "bare pickle", "bare pickle, old protocol", "inside the settings", "as a weight")


@pytest.mark.parametrize("kind", KINDS)
def test_malicious_pickle_is_refused_by_name_and_never_runs(kind: str, tmp_path: Path) -> None:
    file, mark = tmp_path / "model.pth", tmp_path / "mark"
    write_malicious(kind, file, mark)
    with pytest.raises(
        UnsafeFileError, match=r"is refused: it asks for '(posix|nt)\.system', which no checkpoint needs"
    ):
        read_file(file)
    for name in ("m3vit", "mtlora", "timm-vit", "timm-swin", "hydravit"):
        with pytest.raises(UnsafeFileError):
            convert(name, file, tmp_path / "out.safetensors", ConvertOptions(heads=4, top_k=2))
    assert not mark.exists() and not (tmp_path / "out.safetensors").exists()


def test_malicious_pickle_would_run_elsewhere(tmp_path: Path) -> None:
    """The test above would prove nothing if it did not."""
    mark = tmp_path / "mark"
    write_malicious("bare pickle", tmp_path / "model.pth", mark)
    pickle.loads((tmp_path / "model.pth").read_bytes())
    assert mark.exists()


def test_refusal_never_advises_to_load_without_protection(tmp_path: Path) -> None:
    torch.save({"model": WEIGHTS, "x": Evaluating()}, tmp_path / "model.pth")
    with pytest.raises(UnsafeFileError) as caught:
        read_file(tmp_path / "model.pth")
    assert "'eval'" in str(caught.value)
    assert not {"weights_only", "add_safe_globals", "safe_globals"} & set(str(caught.value).replace("`", " ").split())
    assert "weights_only" not in str(caught.value)


def test_folder_of_ranks_is_read_as_carefully(tmp_path: Path, m3vit_folder: Path) -> None:
    folder, mark = tmp_path / "ranks", tmp_path / "mark"
    folder.mkdir()
    (folder / "0.pth").hardlink_to(m3vit_folder / "0.pth")
    write_malicious("zip", folder / "1.pth", mark)
    with pytest.raises(UnsafeFileError, match=r"1\.pth is refused"):
        convert("m3vit", folder, tmp_path / "out.safetensors", ConvertOptions(heads=4, top_k=2, image_hw=(64, 96)))
    assert not mark.exists()


def test_what_training_scripts_leave_behind_becomes_placeholders(tmp_path: Path) -> None:
    import argparse

    extras = {"args": argparse.Namespace(lr=1.0), "best": np.float64(0.5), "tags": {1, 2}}
    torch.save({"model": WEIGHTS, **extras}, tmp_path / "model.pth")
    found = read_file(tmp_path / "model.pth")
    assert type(found["args"]).__name__ == type(found["best"]).__name__ == "Ignored"
    assert found["tags"] == {1, 2}
    assert content(tmp_path / "model.pth").keys() == WEIGHTS.keys()


def test_yacs_tree_is_read_as_plain_dictionaries(mtlora_file: Path) -> None:
    config = read_file(mtlora_file)["config"]
    assert type(config) is OrderedDict and config["DATA"]["IMG_SIZE"] == 224
    assert config["MODEL"]["SWIN"]["DEPTHS"] == [2, 2, 2, 2]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_cut_off_file_is_called_damaged(share: float, mtlora_file: Path, tmp_path: Path) -> None:
    data = mtlora_file.read_bytes()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UnsafeFileError, match=r"is damaged|no checkpoint"):
        convert("mtlora", cut, tmp_path / "out.safetensors")


@pytest.mark.parametrize("data", [b"", b"hello, this is no checkpoint at all", b"PK\x03\x04" + bytes(100), bytes(4096)])
def test_other_files_are_no_checkpoints(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.pth").write_bytes(data)
    with pytest.raises(UnsafeFileError, match=r"damaged, or no checkpoint|is damaged"):
        read_file(tmp_path / "file.pth")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_flipped_bytes_never_give_anything_but_a_refusal_or_tensors(data: st.DataObject) -> None:
    import io
    import tempfile

    buffer = io.BytesIO()
    torch.save({"model": WEIGHTS}, buffer)
    damaged = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.pth"
        file.write_bytes(damaged)
        try:
            found = read_file(file)
            tensors_of(file, found.get("model", found))
        except (UnsafeFileError, AttributeError) as error:
            assert isinstance(error, UnsafeFileError) or "items" in str(error)  # "model" itself was hit


def test_view_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {"huge": torch.zeros(1).expand(10**12)}}, tmp_path / "huge.pth")
    with pytest.raises(UnsafeFileError, match="claims 1000000000000 numbers, more than the file holds for it"):
        content(tmp_path / "huge.pth")


def test_compressed_archive_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {"zeros": torch.zeros(100_000)}}, tmp_path / "plain.pth")
    bomb = zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, bomb as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    with pytest.raises(UnsafeFileError, match="is compressed; unpack it first"):
        read_file(tmp_path / "bomb.pth")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((2,), float("nan")), "holds NaN or infinite numbers"),
        (torch.eye(3).to_sparse(), "must be a dense tensor"),
        (torch.ones(2, dtype=torch.complex64), "must hold plain numbers"),
        ("a text", "must be a dense tensor, got str"),
    ],
)
def test_what_is_no_plain_finite_tensor_is_refused(value: object, message: str, tmp_path: Path) -> None:
    torch.save({"model": {"odd": value}}, tmp_path / "odd.pth")
    with pytest.raises(UnsafeFileError, match=message):
        content(tmp_path / "odd.pth")


def test_half_precision_becomes_fp32_and_counters_stay_whole(tmp_path: Path) -> None:
    state = {"half": torch.ones(2, dtype=torch.bfloat16), "count": torch.tensor(7)}
    torch.save({"model": state}, tmp_path / "half.pth")
    found = content(tmp_path / "half.pth")
    assert found["half"].dtype == torch.float32 and found["count"].dtype == torch.int64


def test_safetensors_are_read_too_and_cut_ones_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(WEIGHTS, file)
    assert content(file).keys() == WEIGHTS.keys()
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UnsafeFileError, match="not a whole safetensors file"):
        read_file(file)
