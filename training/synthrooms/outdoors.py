"""What stands in the open: trees, bushes, flowers, rocks, houses and towers. Each function returns one piece standing
on its origin."""

from __future__ import annotations

import math
from dataclasses import replace

from .dice import Dice
from .materials import Material, Texture, hsv, leaf, photo, plastic, shade, stone, wood
from .pieces import Piece, rotation
from .rods import rod


def foliage(dice: Dice) -> Material:
    green = leaf(dice)
    if dice.chance(0.15):  # autumn, blossom
        hue = dice.choice((0.02, 0.1, 0.93))
        green = replace(green, color_a=hsv(hue, 0.6, 0.7), color_b=hsv(hue + 0.03, 0.7, 0.35))
    if dice.chance(0.4):
        return replace(photo(dice), color_a=green.color_a, color_b=green.color_b, strength=1.0)
    return replace(green, scale_u_m=0.3)


def tree(dice: Dice) -> Piece:
    piece, tall, crown = Piece("plant"), dice.uniform(2.2, 6.0), foliage(dice)
    trunk = wood(dice)
    thick = tall * dice.uniform(0.02, 0.05)
    if dice.chance(0.3):  # a conifer
        rod(piece, (0, 0, 0), (0, tall * 0.3, 0), thick, trunk)
        for tier in range(dice.integer(2, 4)):
            low = tall * (0.18 + 0.22 * tier)
            piece.cylinder((0, low + tall * 0.18, 0), tall * (0.14 - 0.025 * tier), tall * 0.36, crown, taper=-0.93)
        return piece
    rod(piece, (0, 0, 0), (dice.uniform(-0.2, 0.2), tall * 0.6, 0), thick, trunk, taper=-0.3)
    for _ in range(dice.integer(4, 9)):
        size = tall * dice.uniform(0.12, 0.26)
        turn, reach = dice.uniform(0, 2 * math.pi), tall * dice.uniform(0.0, 0.2)
        centre = (math.cos(turn) * reach, tall * dice.uniform(0.55, 0.9), math.sin(turn) * reach)
        piece.ball(centre, (size, size * dice.uniform(0.6, 1.0), size), crown)
    return piece


def bush(dice: Dice) -> Piece:
    piece, green, size = Piece("plant"), foliage(dice), dice.log_uniform(0.2, 0.8)
    for _ in range(dice.integer(3, 6)):
        big = size * dice.uniform(0.4, 0.8)
        centre = (dice.uniform(-0.6, 0.6) * size, big * 0.8, dice.uniform(-0.5, 0.5) * size)
        piece.ball(centre, (big, big * dice.uniform(0.7, 1.1), big), green)
    return piece


def flower(dice: Dice) -> Piece:
    """Petals round a middle, on a stem with leaves; the size of a dahlia to that of a sunflower."""
    piece, size = Piece("plant"), dice.log_uniform(0.05, 0.16)
    tall = size * dice.uniform(2.5, 5.0)
    hue = dice.choice((0.0, 0.05, 0.12, 0.16, 0.78, 0.9, 0.97)) + dice.uniform(-0.03, 0.03)
    inner = hsv(hue, dice.uniform(0.1, 0.95), dice.uniform(0.6, 1.0))
    petal = Material(Texture.PLAIN, inner, shade(inner, 0.5), 0.03, strength=0.8, gloss=0.1)
    rod(piece, (0, 0, 0), (0, tall, 0), size * 0.07, leaf(dice))
    lean = rotation(0.0, dice.uniform(0.2, 1.4))
    for ring in range(dice.integer(1, 3)):
        count, lift = dice.integer(6, 13), 0.25 + 0.35 * ring
        long = size * (1.0 - 0.22 * ring)
        for index in range(count):
            turn = lean @ rotation(2 * math.pi * (index + 0.5 * ring) / count, -lift)
            centre = turn @ (0.0, 0.0, long * 0.6)
            place = (float(centre[0]), tall + float(centre[1]), float(centre[2]))
            piece.ball(place, (long * dice.uniform(0.16, 0.3), size * 0.04, long * 0.5), petal, turn=turn)
    piece.ball((0, tall, 0), (size * 0.3, size * 0.3, size * 0.3), plastic(dice))
    for _ in range(dice.integer(1, 4)):
        turn = rotation(dice.uniform(0, 6.28), dice.uniform(-1.0, -0.2))
        reach = turn @ (0.0, 0.0, size * 0.8)
        height = tall * dice.uniform(0.1, 0.7)
        place = (float(reach[0]), height + float(reach[1]), float(reach[2]))
        piece.ball(place, (size * 0.3, size * 0.03, size * 0.8), leaf(dice), turn=turn)
    return piece


def rock(dice: Dice) -> Piece:
    piece, skin, size = Piece("object"), photo(dice) if dice.chance(0.6) else stone(dice), dice.log_uniform(0.15, 0.8)
    for _ in range(dice.integer(1, 3)):
        turn = rotation(dice.uniform(0, 6.28), dice.uniform(-0.4, 0.4), dice.uniform(-0.4, 0.4))
        radii = (size * dice.uniform(0.6, 1.2), size * dice.uniform(0.4, 0.8), size * dice.uniform(0.6, 1.0))
        piece.ball((dice.uniform(-0.5, 0.5) * size, radii[1] * 0.6, 0), radii, skin, turn=turn)
    return piece


def house(dice: Dice, facade: Material) -> Piece:
    """A block with rows of windows and a roof."""
    piece = Piece("wall")
    wide, deep, tall = dice.uniform(2.5, 5.0), dice.uniform(2.0, 3.5), dice.uniform(2.4, 5.0)
    piece.box((0, tall / 2, 0), (wide, tall, deep), facade)
    glass = Material(Texture.PLAIN, (0.05, 0.07, 0.09), (0.02, 0.02, 0.03), gloss=0.9, shininess=100.0)
    columns, rows = dice.integer(2, 4), max(int(tall / 1.6), 1)
    for column in range(columns):
        for row in range(rows):
            x = ((column + 0.5) / columns - 0.5) * wide
            piece.box((x, (row + 0.55) * tall / rows, 0), (wide * 0.4 / columns, 0.9, deep + 0.03), glass)
    roof = plastic(dice)
    if dice.chance(0.6):
        side = wide / 2 / math.cos(0.6)
        for lean in (-1, 1):
            centre = (lean * wide / 4, tall + wide / 4 * math.tan(0.6), 0)
            piece.box(centre, (side * 1.1, 0.12, deep * 1.1), roof, turn=rotation(0.0, 0.0, -lean * 0.6))
    return piece


def tower(dice: Dice, facade: Material) -> Piece:
    """Storeys that get narrower upwards, each under a roof that sticks out: a pagoda, a stepped tower, a monument."""
    piece, roof = Piece("wall"), plastic(dice)
    wide, y, tiers = dice.uniform(1.6, 3.2), 0.0, dice.integer(2, 5)
    round_one = dice.chance(0.3)
    for _ in range(tiers):
        tall = wide * dice.uniform(0.4, 0.7)
        if round_one:
            piece.cylinder((0, y + tall / 2, 0), wide / 2, tall, facade, taper=-0.05)
            piece.cylinder((0, y + tall, 0), wide * 0.7, 0.25 * tall, roof, taper=-0.6)
        else:
            piece.box((0, y + tall / 2, 0), (wide, tall, wide), facade)
            piece.box((0, y + tall, 0), (wide * 1.35, 0.12 * tall, wide * 1.35), roof)
            piece.cylinder((0, y + tall * 1.12, 0), wide * 0.66, tall * 0.22, roof, taper=-0.5)
        y, wide = y + tall * 1.15, wide * dice.uniform(0.7, 0.9)
    rod(piece, (0, y, 0), (0, y + wide, 0), wide * 0.08, roof, taper=-0.8)
    return piece
