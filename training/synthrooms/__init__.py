"""SynthRooms: procedural indoor pictures with exact depth, normals, segments, edges and saliency.

Reading order: `classes`, `scene` (what a scene is), `sampling` (from seed to scene: `rooms`, `furniture`, `clutter`,
`fittings`, `finishes`, `viewpoint`), `intersect` and `surface` (rays), `textures` and `shading` (light), `labels`,
`lens`, `sensor`, and `render`, which puts them together. `wide` is the second world: rooms with people, animals and
vehicles (`living`, `vehicles`), pictures of one thing (`subjects`), the open (`open_air`, `outdoors`, `sky`), textures
from photographs (`photo_textures`). `packed` is how rooms are kept, `cache` writes them to disk.
"""

from .classes import CLASSES, PALETTE, ROOM_TYPES
from .render import RENDERER_VERSION, VERSIONS, WORLDS, RoomBatch, render_rooms

__all__ = [
    "CLASSES",
    "PALETTE",
    "RENDERER_VERSION",
    "ROOM_TYPES",
    "VERSIONS",
    "WORLDS",
    "RoomBatch",
    "render_rooms",
]
