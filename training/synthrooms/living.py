"""People-like and animal-like figures, of ellipsoids and tapered cylinders. Each function returns one piece standing on
its origin, facing +z; what they are labelled is "object", as the rooms have no class for them."""

from __future__ import annotations

import math
from dataclasses import replace

from .dice import Dice
from .materials import Material, Texture, fabric, hsv, photo, plastic, shade
from .pieces import Piece, Vec3
from .rods import rod


def skin(dice: Dice) -> Material:
    """From very light to very dark."""
    value = dice.uniform(0.25, 0.95)
    base = hsv(dice.uniform(0.03, 0.09), dice.uniform(0.25, 0.55), value)
    return Material(Texture.PLAIN, base, shade(base, 0.7), 0.15, strength=0.3, gloss=dice.uniform(0.0, 0.3))


def hair(dice: Dice) -> Material:
    base = hsv(dice.uniform(0.03, 0.13), dice.uniform(0.0, 0.7), dice.choice((0.08, 0.2, 0.4, 0.7)))
    return Material(Texture.FABRIC, base, shade(base, 0.5), 0.05, 0.05, 1.0, gloss=0.2)


def fur(dice: Dice) -> Material:
    """Plain, marbled like a tabby, or taken from a photograph."""
    base = hsv(dice.uniform(0.03, 0.13), dice.uniform(0.0, 0.6), dice.uniform(0.1, 0.9))
    other = shade(base, dice.choice((0.3, 0.6, 1.8)))
    if dice.chance(0.35):
        return replace(photo(dice), color_a=base, color_b=other)
    texture, scale = dice.choice((Texture.MARBLE, Texture.FABRIC, Texture.PLAIN)), dice.log_uniform(0.04, 0.2)
    return Material(texture, base, other, scale, scale, dice.uniform(0.5, 1.0), phase=dice.uniform(0, 50))


def cloth(dice: Dice) -> Material:
    return photo(dice) if dice.chance(0.25) else fabric(dice)


def person(dice: Dice) -> Piece:
    """A standing figure of 1.45 to 1.95 m."""
    piece, tall = Piece("object"), dice.uniform(1.45, 1.95)
    broad = dice.uniform(0.85, 1.25)
    top, trousers, face = cloth(dice), cloth(dice), skin(dice)
    hip, shoulder, stance = 0.5 * tall, 0.79 * tall, dice.uniform(0.06, 0.16)
    for side in (-1, 1):
        foot = (side * (stance + 0.03), 0.05, dice.uniform(-0.1, 0.1))
        rod(piece, foot, (side * 0.09, hip, 0), 0.055 * broad, trousers, taper=0.3)
        piece.ball((foot[0], 0.045, foot[2] + 0.06), (0.05, 0.05, 0.13), plastic(dice))
        _arm(dice, piece, side, shoulder, broad, top, face)
    piece.ball((0, 0.53 * tall, 0), (0.17 * broad, 0.13, 0.125 * broad), trousers)
    piece.ball((0, 0.63 * tall, 0), (0.17 * broad, 0.11 * tall, 0.12 * broad), top)
    piece.ball((0, 0.71 * tall, 0), (0.2 * broad, 0.1 * tall, 0.125 * broad), top)
    piece.ball((0, shoulder - 0.01, 0), (0.22 * broad, 0.055, 0.085), top)
    rod(piece, (0, shoulder, 0), (0, 0.87 * tall, 0.01), 0.055, face)
    _head(dice, piece, 0.925 * tall, face)
    return piece


def _arm(dice: Dice, piece: Piece, side: int, shoulder: float, broad: float, sleeve: Material, face: Material) -> None:
    start = (side * 0.22 * broad, shoulder - 0.02, 0.0)
    out, forward = dice.uniform(0.05, 0.5), dice.uniform(-0.3, 0.6)
    elbow = (start[0] + side * 0.28 * math.sin(out), start[1] - 0.28 * math.cos(out), 0.28 * math.sin(forward))
    bend = dice.uniform(-1.4, 0.6)
    hand = (
        elbow[0] - side * dice.uniform(-0.1, 0.2),
        elbow[1] + 0.25 * math.sin(bend),
        elbow[2] + 0.25 * math.cos(bend),
    )
    rod(piece, start, elbow, 0.05, sleeve)
    rod(piece, elbow, hand, 0.037, sleeve if dice.chance(0.6) else face)
    piece.ball(hand, (0.045, 0.05, 0.045), face)


def _head(dice: Dice, piece: Piece, y: float, face: Material) -> None:
    dark = Material(Texture.PLAIN, (0.02, 0.02, 0.02), (0.02, 0.02, 0.02), gloss=0.5)
    piece.ball((0, y, 0.01), (0.078, 0.112, 0.095), face)
    piece.ball((0, y - 0.015, 0.105), (0.014, 0.022, 0.018), face)
    for side in (-1, 1):
        piece.ball((side * 0.03, y + 0.02, 0.092), (0.013, 0.009, 0.008), dark)
        piece.ball((side * 0.078, y, 0.0), (0.015, 0.03, 0.02), face)
    piece.ball(
        (0, y - 0.055, 0.086), (0.026, 0.007, 0.012), Material(Texture.PLAIN, hsv(0, 0.5, 0.5), (0.2, 0.02, 0.02))
    )
    crown = hair(dice)
    if dice.chance(0.9):
        piece.ball((0, y + 0.048, -0.028), (0.09, 0.092, 0.102), crown)
    if dice.chance(0.35):
        piece.ball((0, y - 0.08, -0.05), (0.1, 0.15, 0.07), crown)
    if dice.chance(0.25):
        hat = cloth(dice)
        piece.cylinder((0, y + 0.07, 0), 0.1 + 0.08 * dice.unit(), 0.012, hat)
        piece.cylinder((0, y + 0.11, 0), 0.09, 0.09, hat, taper=-0.1)


def animal(dice: Dice) -> Piece:
    """Something with four legs, from the size of a cat to that of a large dog; sitting now and then."""
    piece, size, coat = Piece("object"), dice.log_uniform(0.16, 0.42), fur(dice)
    sitting, legs = dice.chance(0.4), size * dice.uniform(0.5, 1.3)
    chest = (0.0, legs + size * 0.35, size * 0.55)
    rear = (0.0, size * 0.45 if sitting else chest[1], -size * dice.uniform(0.35, 0.8))
    thick = size * dice.uniform(0.34, 0.5)
    _spindle(piece, rear, chest, thick, coat)
    for side in (-1, 1):
        rod(piece, (side * thick * 0.6, 0, chest[2]), (side * thick * 0.5, chest[1], chest[2]), size * 0.11, coat)
        knee = (side * thick * 0.7, rear[1] * 0.6, rear[2] + (size * 0.3 if sitting else 0))
        rod(piece, (side * thick * 0.7, 0, rear[2] + size * 0.1), knee, size * 0.12, coat)
    end = (dice.uniform(-0.5, 0.5) * size, rear[1] + dice.uniform(-0.3, 0.6) * size, rear[2] - size * 0.9)
    rod(piece, rear, end, size * 0.06, coat)
    _animal_head(dice, piece, size, (0.0, chest[1] + size * dice.uniform(0.4, 0.8), chest[2] + size * 0.3), coat)
    return piece


def _animal_head(dice: Dice, piece: Piece, size: float, centre: Vec3, coat: Material) -> None:
    x, y, z = centre
    big = size * dice.uniform(0.34, 0.46)
    rod(piece, (x, y - size * 0.5, z - size * 0.25), centre, big * 0.7, coat)
    piece.ball(centre, (big, big * 0.88, big * 0.95), coat)
    snout = big * dice.uniform(0.4, 0.9)
    piece.ball(
        (x, y - big * 0.3, z + big * 0.75), (big * 0.42, big * 0.32, snout), fur(dice) if dice.chance(0.3) else coat
    )
    nose = Material(Texture.PLAIN, hsv(0.0, 0.4, dice.uniform(0.05, 0.6)), (0.05, 0.05, 0.05), gloss=0.5)
    piece.ball((x, y - big * 0.22, z + big * 0.75 + snout), (big * 0.13, big * 0.09, big * 0.07), nose)
    iris = plastic(dice)
    for side in (-1, 1):
        piece.ball((x + side * big * 0.42, y + big * 0.15, z + big * 0.78), (big * 0.16, big * 0.16, big * 0.16), iris)
        tip = (x + side * big * dice.uniform(0.7, 1.1), y + big * dice.uniform(0.6, 1.7), z)
        rod(piece, (x + side * big * 0.55, y + big * 0.5, z), tip, big * 0.3, coat, taper=-0.85)


def _spindle(piece: Piece, a: Vec3, b: Vec3, thick: float, material: Material) -> None:
    """A body between two points: an ellipsoid at either end, and a barrel between them."""
    rod(piece, a, b, thick * 0.95, material)
    for end in (a, b):
        piece.ball(end, (thick, thick, thick), material)
