"""SynthRooms: procedural indoor pictures with exact depth, normals, segments, edges and saliency.

Reading order: `classes`, `scene` (what a scene is), `sampling` (from seed to scene: `rooms`, `furniture`, `clutter`,
`fittings`, `finishes`, `viewpoint`), `intersect` and `surface` (rays), `textures` and `shading` (light), `labels`,
`sensor`, and `render`, which puts them together. `packed` is how rooms are kept, `cache` writes them to disk.
"""

from .classes import CLASSES, PALETTE, ROOM_TYPES
from .render import RENDERER_VERSION, RoomBatch, render_rooms

__all__ = ["CLASSES", "PALETTE", "RENDERER_VERSION", "ROOM_TYPES", "RoomBatch", "render_rooms"]
