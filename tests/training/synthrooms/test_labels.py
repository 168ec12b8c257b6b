"""Edges lie where surfaces part or fold, and nowhere else; the salient thing follows its rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from slimpath.training.synthrooms import CLASSES, render_rooms
from slimpath.training.synthrooms.classes import STRUCTURE
from slimpath.training.synthrooms.materials import Material
from slimpath.training.synthrooms.pieces import Piece
from slimpath.training.synthrooms.render import render_scene
from slimpath.training.synthrooms.scene import Scene

CPU = torch.device("cpu")


def test_every_depth_jump_between_things_has_an_edge(three_solids: Scene) -> None:
    fields = render_scene(three_solids, (96, 96), CPU)
    depth, edge, instance = fields[1], fields[4], fields[7]
    jump = ((depth[:, 1:] - depth[:, :-1]).abs() > 0.1 * depth[:, 1:]) & (instance[:, 1:] != instance[:, :-1])
    assert jump.sum() > 50
    assert (edge[:, 1:] | edge[:, :-1])[jump].all()


def test_edge_of_a_board_parallel_to_the_wall_behind_lies_on_the_board(empty_room: Scene, grey: Material) -> None:
    board = Piece("picture")
    board.box((2.0, 1.5, 1.0), (1.0, 0.8, 0.001), grey)
    level = replace(empty_room.camera, yaw_rad=0.0, pitch_rad=0.0, roll_rad=0.0)
    fields = render_scene(replace(empty_room, camera=level, pieces=(board,)), (64, 64), CPU)
    on_board, edge = fields[7] == 1, fields[4]
    inner = -torch.nn.functional.max_pool2d(-on_board[None].float(), 3, 1, 1)[0] > 0
    assert (edge & on_board).sum() > 30
    cross = on_board[1:-1, 1:-1] & on_board[:-2, 1:-1] & on_board[2:, 1:-1] & on_board[1:-1, :-2] & on_board[1:-1, 2:]
    assert edge[1:-1, 1:-1][on_board[1:-1, 1:-1] & ~cross].all()  # the outline, all of it
    assert not edge[inner].any()


def test_fold_between_two_walls_is_an_edge_one_pixel_wide(empty_room: Scene) -> None:
    level = replace(empty_room.camera, yaw_rad=0.0, pitch_rad=0.0, roll_rad=0.0)
    edge = render_scene(replace(empty_room, camera=level), (64, 64), CPU)[4]
    assert edge[:, 32].sum() == 2  # the wall meets the floor and the ceiling
    assert edge[32].sum() == 0 or edge[32].sum() == 2  # and, where the picture is wide enough, its neighbours


def test_plain_wall_floor_and_smooth_ball_have_no_edge(three_solids: Scene) -> None:
    fields = render_scene(three_solids, (96, 96), CPU)
    depth, normals, edge, instance = fields[1], fields[2], fields[4], fields[7]
    flat = torch.zeros_like(edge)
    same = (instance[1:-1, 1:-1] == instance[:-2, 1:-1]) & (instance[1:-1, 1:-1] == instance[2:, 1:-1])
    same &= (instance[1:-1, 1:-1] == instance[1:-1, :-2]) & (instance[1:-1, 1:-1] == instance[1:-1, 2:])
    turn = sum(
        (normals[1:-1, 1:-1] * normals[1 + dy : 95 + dy, 1 + dx : 95 + dx]).sum(-1)
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
    )
    flat[1:-1, 1:-1] = same & (turn > 4 - 1e-4)
    ball = instance == 2
    inner = torch.zeros_like(ball)
    inner[1:-1, 1:-1] = ball[1:-1, 1:-1] & same
    assert flat.sum() > 5000 and inner.sum() > 100
    assert not edge[flat].any()
    assert not edge[inner].any()
    assert depth.isfinite().all()


def test_edges_are_thin_in_drawn_rooms() -> None:
    rooms = render_rooms(range(8), (96, 96))
    share = rooms.edge_BHW.float().mean(dim=(1, 2))
    assert 0.005 < share.mean() < 0.15


def expected_saliency(label: np.ndarray, instance: np.ndarray, depth: np.ndarray) -> np.ndarray:
    best, winner = 0.0, np.zeros_like(label, dtype=bool)
    for number in np.unique(instance):
        mask = (instance == number) & ~np.isin(label, [CLASSES.index(name) for name in STRUCTURE])
        if mask.any() and mask.sum() / depth[mask].mean() > best:
            best, winner = mask.sum() / depth[mask].mean(), mask
    return winner


def test_salient_is_the_thing_with_most_pixels_per_metre() -> None:
    rooms = render_rooms(range(12), (48, 48))
    for i in range(12):
        label, instance, depth = (field[i].numpy() for field in (rooms.semseg_BHW, rooms.instance_BHW, rooms.depth_BHW))
        assert (rooms.saliency_BHW[i].numpy() == expected_saliency(label, instance, depth)).all()
    assert rooms.saliency_BHW.any(dim=(1, 2)).float().mean() > 0.8


def test_bare_room_has_no_salient_pixel_and_only_structure(empty_room: Scene) -> None:
    fields = render_scene(empty_room, (32, 32), CPU)
    assert not fields[5].any()
    assert {CLASSES[index] for index in fields[3].unique().tolist()} <= {"wall", "floor", "ceiling"}
