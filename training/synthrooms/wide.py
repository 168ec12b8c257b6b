"""The wide world: rooms as ever, rooms with people, animals and vehicles in them, pictures of one thing, and scenes in
the open; with textures from photographs, and a lens that bends lines and blurs what is out of focus.

Here for what photographs have and rooms lack. Classes and kinds of rooms stay those of the rooms: what has no class of
its own is an "object", and the open is no kind of room.
"""

from __future__ import annotations

from dataclasses import replace

from .camera import Camera
from .dice import Dice
from .lens import Focus
from .living import animal, person
from .materials import photo
from .open_air import open_plan, populate, surroundings
from .pieces import Piece, standing
from .rooms import furnish
from .sampling import draw_lighting, draw_sensor, draw_shell, draw_windows
from .scene import Scene
from .subjects import Subject, draw_subject, place_subject, subject_camera
from .vehicles import two_wheeler
from .viewpoint import choose_camera

KINDS = ("room", "lived_in", "subject", "subject_outside", "open_air")
_SHARES = (0.28, 0.22, 0.22, 0.13, 0.15)
_SEED_SHIFT = 1 << 40  # a room of the same number is another one


def sample_wide_scene(seed: int) -> Scene:
    """The scene of `seed`, always the same.

    Raises:
        ValueError: the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"a scene seed must be >= 0, got {seed}")
    dice = Dice(seed + _SEED_SHIFT)
    kind = dice.choice(KINDS, _SHARES)
    subject = draw_subject(dice) if kind.startswith("subject") else None
    scene = _in_a_room(dice, seed, subject, kind) if kind not in ("subject_outside", "open_air") else None
    return _with_lens(dice, scene or _outside(dice, seed, subject), close=subject is not None)


def _in_a_room(dice: Dice, seed: int, subject: Subject | None, kind: str) -> Scene:
    shell = draw_shell(dice)
    room_type, plan = shell.room_type, shell.plan
    placed = place_subject(dice, plan, subject) if subject is not None else None
    if kind == "lived_in":
        for _ in range(dice.integer(1, 3)):
            make, wide, deep = dice.choice(((person, 0.7, 0.5), (animal, 0.5, 0.9), (two_wheeler, 1.9, 0.7)), (5, 3, 1))
            plan.in_the_room(dice, standing(make(dice), wide, deep))
    night = dice.chance(0.2)
    windows = draw_windows(dice, plan, room_type, night=night)
    furnish(dice, shell.style, plan, room_type)
    lighting = draw_lighting(dice, plan, room_type, windows, night=night)
    if placed is not None and subject is not None:
        camera, distance_m = subject_camera(dice, plan, subject, placed)
    else:
        camera, distance_m = choose_camera(dice, plan, room_type, close_up=dice.chance(0.3)), 1.5
    faces = tuple(replace(photo(dice), phase=face.phase) if dice.chance(0.12) else face for face in shell.faces)
    size_m = (plan.width, plan.height, plan.length)
    pieces = tuple(_with_photo(dice, piece) for piece in plan.pieces)
    sensor, focus = draw_sensor(dice), Focus(distance_m)
    light = (lighting.lights, lighting.sun, lighting.ambient)
    return Scene(seed, room_type, size_m, faces, pieces, *light, camera, sensor, focus)


def _outside(dice: Dice, seed: int, subject: Subject | None) -> Scene:
    plan = open_plan(dice)
    placed = place_subject(dice, plan, subject) if subject is not None else None
    populate(dice, plan)
    around = surroundings(dice, plan)
    if placed is not None and subject is not None:
        camera, distance_m = subject_camera(dice, plan, subject, placed)
    else:
        camera, distance_m = choose_camera(dice, plan, "", close_up=False), 4.0
    size_m = (plan.width, plan.height, plan.length)
    light = (around.lights, around.sun, around.ambient)
    sensor, focus = draw_sensor(dice), Focus(distance_m)
    return Scene(seed, "", size_m, around.faces, tuple(plan.pieces), *light, camera, sensor, focus, around.face_labels)


def _with_lens(dice: Dice, scene: Scene, *, close: bool) -> Scene:
    """Distortion now and then; a shallow depth of field often where one thing is the subject."""
    camera: Camera = scene.camera
    if dice.chance(0.35):
        camera = replace(camera, distortion=dice.uniform(-0.15, 0.1))
    blurred = dice.chance(0.6 if close else 0.15)
    blur_px = dice.log_uniform(0.8, 7.0) if blurred else 0.0
    return replace(scene, camera=camera, focus=replace(scene.focus, blur_px=blur_px))


def _with_photo(dice: Dice, piece: Piece) -> Piece:
    """Now and then something is covered with a photograph; its lamps and screens stay what they are."""
    if not dice.chance(0.12):
        return piece
    cover = photo(dice)
    parts = [part if part.material.emission else replace(part, material=cover) for part in piece.parts]
    return Piece(piece.label, parts)
