"""The labels of SynthRooms: what a pixel can be, which colour shows it, and which rooms there are."""

from __future__ import annotations

CLASSES: tuple[str, ...] = (
    "wall",
    "floor",
    "ceiling",
    "window",
    "door",
    "table",
    "chair",
    "sofa",
    "bed",
    "cabinet",
    "lamp",
    "picture",
    "rug",
    "plant",
    "object",
)

PALETTE: tuple[tuple[int, int, int], ...] = (
    (196, 200, 206),  # wall
    (168, 132, 96),  # floor
    (236, 234, 226),  # ceiling
    (120, 200, 240),  # window
    (142, 84, 60),  # door
    (240, 170, 70),  # table
    (226, 92, 76),  # chair
    (150, 94, 190),  # sofa
    (84, 118, 214),  # bed
    (70, 158, 150),  # cabinet
    (250, 224, 92),  # lamp
    (232, 130, 180),  # picture
    (176, 60, 96),  # rug
    (92, 176, 84),  # plant
    (58, 70, 90),  # object
)

ROOM_TYPES: tuple[str, ...] = (
    "bedroom",
    "living_room",
    "dining_room",
    "office",
    "kitchen",
    "corridor",
)

NO_CLASS = 255  # of a pixel of the sky, and of a scene in the open as a kind of room

CLASS_ID: dict[str, int] = {name: index for index, name in enumerate(CLASSES)}

# Parts of the building: never the salient object.
STRUCTURE: tuple[str, ...] = ("wall", "floor", "ceiling", "window", "door")
