"""`render_rooms`: seeds in, pictures and labels out.

Axes: B batch, H height, W width, N = H*W pixels. Scenes are rendered one after the other: each fills a CPU core or a
GPU by itself, no padding is wasted, and a scene cannot depend on its neighbours in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .camera import pixel_grid, pixel_rays
from .classes import NO_CLASS, ROOM_TYPES
from .labels import camera_normals, edge_map, salient
from .lens import defocus
from .packing import PackedScene, pack_scene
from .sampling import sample_scene
from .scene import Scene
from .sensor import develop
from .shading import shade
from .surface import Hits, trace
from .wide import sample_wide_scene

WORLDS: dict[str, Callable[[int], Scene]] = {"rooms": sample_scene, "wide": sample_wide_scene}
"""`rooms`: as in `sampling`. `wide`: rooms, people, animals, vehicles and the open, as in `wide`."""
VERSIONS: dict[str, str] = {"rooms": "synthrooms-1", "wide": "synthrooms-wide-1"}
RENDERER_VERSION = VERSIONS["rooms"]
_PIXEL_SALT = 0x5EED  # keeps pixel noise apart from the choices of the scene


@dataclass(frozen=True)
class RoomBatch:
    """Pictures and their labels, all on the device that rendered them.

    Attributes:
        image_BHW3: uint8 sRGB.
        depth_BHW: float32 metres along the optical axis (z, not the length of the ray).
        normals_BHW3: float32 unit vectors, camera x right, y up, z towards the viewer; always facing the camera.
            Zero in the sky.
        semseg_BHW: uint8 index into `CLASSES`; 255 in the sky.
        edge_BHW: bool, occlusion and crease boundaries about one pixel wide.
        saliency_BHW: bool, the one instance with the largest (pixels / mean depth), walls, floors, ceilings, windows
            and doors never counted; all False if there is none.
        scene_B: int64 index into `ROOM_TYPES`; 255 in the open.
        instance_BHW: int32, 0 for the room's shell, 1 and up for things.
    """

    image_BHW3: Tensor
    depth_BHW: Tensor
    normals_BHW3: Tensor
    semseg_BHW: Tensor
    edge_BHW: Tensor
    saliency_BHW: Tensor
    scene_B: Tensor
    instance_BHW: Tensor


def _camera_rays(
    scene: Scene, size_hw: tuple[int, int], samples_per_side: int, jitter_2N: Tensor | None, device: torch.device
) -> Tensor:
    """Rays through a grid `samples_per_side` finer than the pixels, at cell centres or jittered within the cells."""
    fine_hw = (size_hw[0] * samples_per_side, size_hw[1] * samples_per_side)
    x_px, y_px = pixel_grid(fine_hw, device)
    if jitter_2N is not None:
        x_px, y_px = x_px + jitter_2N[0] - 0.5, y_px + jitter_2N[1] - 0.5
    return pixel_rays(scene.camera, x_px / samples_per_side, y_px / samples_per_side, size_hw)


def _picture(
    scene: Scene,
    packed: PackedScene,
    centre: tuple[Tensor, Hits],
    size_hw: tuple[int, int],
    side: int,
    device: torch.device,
) -> Tensor:
    """Shade at `side` x `side` samples a pixel, average, develop."""
    generator = torch.Generator().manual_seed(scene.seed ^ _PIXEL_SALT)
    fine_hw = (size_hw[0] * side, size_hw[1] * side)
    jitter = torch.rand(4, fine_hw[0] * fine_hw[1], generator=generator).to(device)
    noise = torch.randn(2, 3, *size_hw, generator=generator).to(device)
    rays, hits = centre
    if side > 1:
        rays = _camera_rays(scene, size_hw, side, jitter[2:], device)
        hits = trace(packed, _origin(scene, device), rays, fine_hw)
    light = shade(scene, packed, hits, rays, scene.camera.focal_px(size_hw[0]) * side, fine_hw, jitter[:2])
    light = torch.nn.functional.avg_pool2d(light.view(1, 3, *fine_hw), side)[0]
    light = defocus(light, centre[1].depth_N.view(size_hw), scene.focus)
    return develop(light, scene.sensor, noise)


def _origin(scene: Scene, device: torch.device) -> Tensor:
    return torch.tensor(scene.camera.position, device=device, dtype=torch.float32)[:, None]


def render_scene(
    scene: Scene, size_hw: tuple[int, int], device: torch.device, samples_per_side: int = 1
) -> tuple[Tensor, ...]:
    """One scene: the fields of `RoomBatch`, in order, without the batch axis."""
    packed = pack_scene(scene, device)
    rays = _camera_rays(scene, size_hw, 1, None, device)
    hits = trace(packed, _origin(scene, device), rays, size_hw)
    label, instance = packed.label_S[hits.surface_N], packed.instance_S[hits.surface_N]
    image = _picture(scene, packed, (rays, hits), size_hw, samples_per_side, device)
    sky = packed.sky_S[hits.surface_N]
    # The sky is one face, whichever of the shell's it lies on: no edge runs through it.
    outlines = replace(hits, face_N=torch.where(sky, -1, hits.face_N))
    room_type = ROOM_TYPES.index(scene.room_type) if scene.room_type else NO_CLASS
    return (
        image,
        hits.depth_N.view(size_hw),
        (camera_normals(hits.normal_3N, scene.camera) * ~sky).t().reshape(*size_hw, 3),
        label.view(size_hw),
        edge_map(outlines, instance, size_hw),
        salient(instance, label, hits.depth_N).view(size_hw),
        torch.tensor(room_type, device=device),
        instance.view(size_hw),
    )


@torch.no_grad()  # not inference_mode: a loss must be able to save the labels for its backward
def render_rooms(
    seeds: Sequence[int],
    size_hw: tuple[int, int] = (224, 224),
    *,
    device: str | torch.device = "cpu",
    samples_per_pixel: int = 1,
    world: str = "rooms",
) -> RoomBatch:
    """Render one scene per seed; a seed gives the same picture of a world in whatever batch it comes.

    Args:
        seeds: whole numbers >= 0, at least one.
        size_hw: height and width in pixels, at least 2 x 2.
        device: where all pixel arithmetic runs.
        samples_per_pixel: 1, 4, 9, ...: shaded points averaged per pixel. Labels always come from the pixel's centre.
        world: which scenes there are.

    Raises:
        NoPhotographs: world "wide" without scikit-image.
        ValueError: no seeds, a negative seed, a size below 2, or `samples_per_pixel` not a square number.
    """
    if world not in WORLDS:
        raise ValueError(f"world must be one of {', '.join(WORLDS)}, got '{world}'")
    side = math.isqrt(max(samples_per_pixel, 0))
    if side < 1 or side * side != samples_per_pixel:
        raise ValueError(f"samples_per_pixel must be a square number (1, 4, 9, ...), got {samples_per_pixel}")
    if not seeds or min(size_hw) < 2:
        raise ValueError(f"need at least one seed and 2 x 2 pixels, got {len(seeds)} seeds and size {size_hw}")
    place = torch.device(device)
    scenes = [render_scene(WORLDS[world](seed), size_hw, place, side) for seed in seeds]
    return RoomBatch(*(torch.stack(field) for field in zip(*scenes, strict=True)))
