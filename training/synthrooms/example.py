"""The rendered room that ships with slimpath, so that `slimpath demo` shows ground truth without needing torch.

`python -m slimpath.training.synthrooms.example` writes assets/synthrooms_scene.npz again; with `--sheet FILE` it also
draws a sheet of rooms and their ground truth.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import cv2
import numpy as np

from . import CLASSES, PALETTE, ROOM_TYPES, RoomBatch, render_rooms

EXAMPLE_SEED = 20_000_008  # far from the seeds that train (from 0) and those that judge (from 10,000,000)
EXAMPLE_FILE = Path(__file__).resolve().parents[2] / "assets" / "synthrooms_scene.npz"
SHEET_SEEDS = {
    "rooms": (20_000_003, 20_000_008, 20_000_010, 20_000_013, 20_000_016, 20_000_022),
    "wide": (20_000_001, 20_000_002, 20_000_005, 20_000_015, 20_000_029, 20_000_036),
}


def example_arrays(seed: int = EXAMPLE_SEED, size_hw: tuple[int, int] = (224, 224)) -> dict[str, np.ndarray]:
    """Picture and ground truth of one room, task by task, in the types of a Result."""
    room = render_rooms([seed], size_hw, samples_per_pixel=4)
    return {
        "image": room.image_BHW3[0].numpy(),
        "semseg": room.semseg_BHW[0].numpy(),
        "depth": room.depth_BHW[0].numpy().astype(np.float16),
        "normals": room.normals_BHW3[0].numpy().astype(np.float16),
        "edge": room.edge_BHW[0].numpy(),
        "saliency": room.saliency_BHW[0].numpy(),
        "scene": room.scene_B[0].numpy(),
    }


def write_example(path: Path = EXAMPLE_FILE) -> None:
    """Write the room as a compressed .npz; it appears whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **example_arrays())
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(buffer.getvalue())
    temporary.replace(path)


def truth_row(rooms: RoomBatch, index: int) -> np.ndarray:
    """One room side by side: picture, depth (near is bright), normals, classes, edges, saliency; uint8 RGB."""
    depth = rooms.depth_BHW[index].numpy()
    near = np.clip((1 / depth - 1 / 8) / (1 / max(0.3, float(depth.min())) - 1 / 8), 0, 1)
    coloured = cv2.applyColorMap((255 * near).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    normals = ((rooms.normals_BHW3[index].numpy() + 1) * 127.5).astype(np.uint8)
    palette = np.full((256, 3), 255, np.uint8)  # the sky, which has no class, stays white
    palette[: len(PALETTE)] = PALETTE
    classes = palette[rooms.semseg_BHW[index].numpy()]
    masks = [255 - 255 * mask[index].numpy().astype(np.uint8) for mask in (rooms.edge_BHW, rooms.saliency_BHW)]
    grey = [np.repeat(mask[..., None], 3, axis=2) for mask in masks]
    return np.concatenate([rooms.image_BHW3[index].numpy(), coloured, normals, classes, *grey], axis=1)


def write_sheet(path: Path, world: str = "rooms") -> None:
    """A sheet of scenes (rows) and their ground truth (columns), as JPEG or PNG."""
    seeds = SHEET_SEEDS[world]
    rooms = render_rooms(seeds, (224, 224), samples_per_pixel=4, world=world)
    picture = np.concatenate([truth_row(rooms, index) for index in range(len(seeds))])
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheet", type=Path, help="also draw a sheet of rooms into this picture file")
    parser.add_argument("--world", choices=tuple(SHEET_SEEDS), default="rooms", help="of the sheet")
    arguments = parser.parse_args()
    write_example()
    size_kb = EXAMPLE_FILE.stat().st_size / 1e3
    print(f"{EXAMPLE_FILE.name}: {size_kb:.0f} kB, {len(CLASSES)} classes, {len(ROOM_TYPES)} kinds of room")
    if arguments.sheet:
        write_sheet(arguments.sheet, arguments.world)
        print(f"{arguments.sheet}: picture, depth, normals, classes, edges, saliency of {arguments.world}")


if __name__ == "__main__":
    main()
