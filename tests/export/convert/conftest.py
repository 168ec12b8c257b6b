"""The reference data of tests/fixtures, unpacked, and what the networks were given."""

import lzma
from pathlib import Path

import numpy as np
import pytest

import slimpath

FIXTURES = Path(slimpath.__file__).parent / "tests" / "fixtures"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def normalised(image_IHW3: np.ndarray) -> np.ndarray:
    """uint8 pictures as the networks were given them, float32 [I, 3, H, W]."""
    return np.ascontiguousarray(((image_IHW3 / 255 - MEAN) / STD).transpose(0, 3, 1, 2), np.float32)


def unpack(name: str, out: Path) -> Path:
    """A packed file of the fixtures, as the upstream program wrote it."""
    out.write_bytes(lzma.decompress((FIXTURES / name).read_bytes()))
    return out


def reference(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / name / "reference.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def m3vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two ranks, as upstream lays it out."""
    folder = tmp_path_factory.mktemp("m3vit") / "best_model.pth.tar"
    folder.mkdir()
    for rank in (0, 1):
        unpack(f"m3vit-a/{rank}.pth.xz", folder / f"{rank}.pth")
    return folder


@pytest.fixture(scope="session")
def mtlora_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training checkpoint with its pickled yacs tree."""
    return unpack("mtlora-a/checkpoint.pth.xz", tmp_path_factory.mktemp("mtlora") / "ckpt_epoch_299.pth")
