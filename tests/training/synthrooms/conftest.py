"""A hand-made scene of which every surface is known, and a renderer that leaves the other cores alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from slimpath.tests.training.synthrooms.reference import BALL, BOX, CONE, ROOM_M
from slimpath.training.synthrooms.camera import Camera
from slimpath.training.synthrooms.materials import Material, Texture
from slimpath.training.synthrooms.pieces import Piece, rotation
from slimpath.training.synthrooms.sampling import sample_scene
from slimpath.training.synthrooms.scene import Light, Scene


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def grey() -> Material:
    return Material(Texture.PLAIN, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def empty_room(grey: Material) -> Scene:
    """A room with a lamp and nothing in it, seen from a corner."""
    camera = Camera((2.0, 1.5, 4.6), 0.1, math.radians(-12), math.radians(3), math.radians(60))
    light = Light((2.0, 2.4, 2.5), (0.2, 0, 0), (0, 0, 0.2), (0, -1, 0), (5.0, 5.0, 5.0))
    drawn = sample_scene(0)
    return replace(drawn, size_m=ROOM_M, faces=(grey,) * 6, pieces=(), lights=(light,), sun=None, camera=camera)


@pytest.fixture
def three_solids(empty_room: Scene, grey: Material) -> Scene:
    """A turned box, a ball and a cone standing in that room: a table, an object and a lamp."""
    box, ball, cone = Piece("table"), Piece("object"), Piece("lamp")
    box.box(BOX["centre"], BOX["size"], grey, turn=rotation(BOX["yaw"]))
    ball.ball(BALL["centre"], (BALL["radius"],) * 3, grey)
    cone.cylinder(CONE["centre"], CONE["radius"], CONE["height"], grey, taper=CONE["taper"])
    return replace(empty_room, pieces=(box, ball, cone))
