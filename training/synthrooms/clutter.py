"""Small things on tables, shelves and floors. Each function returns one piece standing on its origin."""

from __future__ import annotations

import math
from collections.abc import Callable

from .dice import Dice
from .materials import Material, Texture, ceramic, fabric, hsv, leaf, metal, patterned, plastic, wood
from .pieces import Group, Piece, Surface, rotation


def cup(dice: Dice) -> Piece:
    piece, skin = Piece("object"), ceramic(dice)
    radius, height = dice.uniform(0.03, 0.05), dice.uniform(0.06, 0.13)
    piece.cylinder((0, height / 2, 0), radius, height, skin, taper=dice.uniform(-0.05, 0.25))
    piece.cylinder((0, height, 0), radius * 0.85, 0.004, plastic(dice))
    piece.box((radius * 1.2, height / 2, 0), (radius * 0.7, height * 0.5, 0.012), skin)
    return piece


def bottle(dice: Dice) -> Piece:
    piece, skin = Piece("object"), plastic(dice)
    radius, height = dice.uniform(0.03, 0.05), dice.uniform(0.12, 0.24)
    piece.cylinder((0, height / 2, 0), radius, height, skin)
    piece.cylinder((0, height * 1.1, 0), radius * 0.65, height * 0.25, skin, taper=-0.5)
    piece.cylinder((0, height * 1.3, 0), radius * 0.4, height * 0.2, plastic(dice))
    return piece


def vase(dice: Dice) -> Piece:
    piece, skin = Piece("object"), ceramic(dice)
    radius, height = dice.uniform(0.05, 0.1), dice.uniform(0.15, 0.35)
    piece.ball((0, height * 0.4, 0), (radius, height * 0.4, radius), skin)
    piece.cylinder((0, height * 0.85, 0), radius * 0.55, height * 0.3, skin, taper=dice.uniform(-0.2, 0.5))
    piece.cylinder((0, 0.01, 0), radius * 0.6, 0.02, skin)
    return piece


def ball(dice: Dice) -> Piece:
    piece, radius = Piece("object"), dice.log_uniform(0.03, 0.14)
    skin = dice.choice((plastic, ceramic, fabric))(dice)
    piece.ball((0, radius, 0), (radius, radius, radius), skin, turn=rotation(0, dice.uniform(0, 3), dice.uniform(0, 3)))
    return piece


def carton(dice: Dice) -> Piece:
    piece = Piece("object")
    size = (dice.log_uniform(0.06, 0.4), dice.log_uniform(0.05, 0.3), dice.log_uniform(0.05, 0.3))
    skin = dice.choice((plastic, wood, fabric, ceramic))(dice)
    piece.box((0, size[1] / 2, 0), size, skin)
    if dice.chance(0.5):
        lid = dice.uniform(0.01, 0.03)
        piece.box((0, size[1] + lid / 2, 0), (size[0] * 1.04, lid, size[2] * 1.04), plastic(dice))
    return piece


def books(dice: Dice) -> Piece:
    piece, height = Piece("object"), 0.0
    for _ in range(dice.integer(1, 4)):
        thick = dice.uniform(0.015, 0.05)
        turn = rotation(dice.uniform(-0.4, 0.4))
        size = (dice.uniform(0.13, 0.22), thick, dice.uniform(0.18, 0.3))
        piece.box((0, height + thick / 2, 0), size, plastic(dice), turn=turn)
        height += thick
    return piece


def bowl(dice: Dice) -> Piece:
    piece, radius = Piece("object"), dice.uniform(0.08, 0.16)
    piece.cylinder((0, radius * 0.3, 0), radius * 0.75, radius * 0.6, ceramic(dice), taper=0.35)
    for _ in range(dice.integer(0, 4)):
        size = dice.uniform(0.03, 0.045)
        angle, reach = dice.uniform(0, 6.28), radius * 0.5
        fruit = plastic(dice)
        piece.ball(
            (math.cos(angle) * reach, radius * 0.6 + size * 0.5, math.sin(angle) * reach), (size, size, size), fruit
        )
    return piece


def plate(dice: Dice) -> Piece:
    piece, radius, skin = Piece("object"), dice.uniform(0.09, 0.15), ceramic(dice)
    piece.cylinder((0, 0.009, 0), radius, 0.018, skin, taper=0.12)
    if dice.chance(0.4):
        size = dice.uniform(0.03, 0.07)
        piece.ball((0, 0.02, 0), (size, size * 0.5, size), plastic(dice))
    return piece


def fruit(dice: Dice) -> Piece:
    piece, size = Piece("object"), dice.uniform(0.03, 0.06)
    skin = plastic(dice)
    piece.ball((0, size * 0.95, 0), (size, size * dice.uniform(0.8, 1.1), size), skin)
    return piece


def laptop(dice: Dice) -> Piece:
    piece, shell = Piece("object"), metal(dice)
    width, depth = dice.uniform(0.28, 0.38), dice.uniform(0.2, 0.26)
    tilt = dice.uniform(0.1, 0.5)
    piece.box((0, 0.01, 0), (width, 0.02, depth), shell)
    rise, back = depth / 2 * math.cos(tilt), -depth / 2 - depth / 2 * math.sin(tilt)
    turn = rotation(0, -tilt)
    piece.box((0, 0.02 + rise, back), (width, depth, 0.012), shell, turn=turn)
    screen = patterned(dice, Texture.SCREEN, emission=dice.uniform(0.3, 1.2))
    piece.box((0, 0.02 + rise, back + 0.008), (width * 0.94, depth * 0.9, 0.004), screen, turn=turn)
    return piece


def monitor(dice: Dice) -> Piece:
    piece, shell = Piece("object"), plastic(dice)
    width, height = dice.uniform(0.45, 0.75), dice.uniform(0.28, 0.4)
    lift = height / 2 + dice.uniform(0.08, 0.16)
    piece.box((0, 0.01, 0), (0.22, 0.02, 0.16), shell)
    piece.box((0, lift / 2, -0.03), (0.05, lift, 0.03), shell)
    piece.box((0, lift, 0), (width, height, 0.03), shell)
    screen = patterned(dice, Texture.SCREEN, emission=dice.choice((0.0, 0.6, 1.2)))
    piece.box((0, lift, 0.016), (width * 0.95, height * 0.92, 0.004), screen)
    return piece


def keyboard(dice: Dice) -> Piece:
    piece = Piece("object")
    piece.box((0, 0.01, 0), (0.42, 0.02, 0.14), plastic(dice))
    piece.ball((0.3, 0.012, 0), (0.035, 0.02, 0.055), plastic(dice))
    return piece


def table_lamp(dice: Dice) -> Piece:
    piece, foot = Piece("lamp"), dice.choice((metal, ceramic, wood))(dice)
    height, radius = dice.uniform(0.25, 0.5), dice.uniform(0.09, 0.17)
    piece.cylinder((0, 0.01, 0), radius * 0.6, 0.02, foot)
    if dice.chance(0.4):
        piece.ball((0, height * 0.35, 0), (radius * 0.5, height * 0.33, radius * 0.5), foot)
    piece.cylinder((0, height * 0.5, 0), 0.012, height, foot)
    shade = plastic(dice) if dice.chance(0.3) else fabric(dice)
    piece.cylinder(
        (0, height, 0), radius, radius * 1.3, shade.glowing(dice.choice((0.0, 1.5, 4.0))), taper=dice.uniform(-0.4, 0.0)
    )
    return piece


def houseplant(dice: Dice) -> Piece:
    """A pot with a crown of leaves: many thin tilted ellipsoids, or a few round tufts."""
    piece, green, scale = Piece("plant"), leaf(dice), dice.log_uniform(0.15, 0.4)
    pot = ceramic(dice)
    piece.cylinder((0, scale * 0.25, 0), scale * 0.3, scale * 0.5, pot, taper=0.2)
    bushy = dice.chance(0.4)
    for index in range(dice.integer(5, 9)):
        yaw, lean = index * 2.4 + dice.uniform(-0.4, 0.4), dice.uniform(0.1, 1.0)
        length = scale * dice.uniform(0.5, 0.9)
        turn = rotation(yaw, lean)
        reach = turn @ (0.0, length, 0.0)
        width = length * (dice.uniform(0.5, 0.7) if bushy else dice.uniform(0.12, 0.28))
        radii = (width, length * (0.5 if bushy else 1.0), width if bushy else 0.01)
        piece.ball((float(reach[0]), scale * 0.5 + float(reach[1]), float(reach[2])), radii, green, turn=turn)
    return piece


def candle(dice: Dice) -> Piece:
    piece, height = Piece("object"), dice.uniform(0.05, 0.2)
    piece.cylinder((0, height / 2, 0), dice.uniform(0.02, 0.04), height, plastic(dice))
    piece.ball((0, height + 0.015, 0), (0.008, 0.018, 0.008), plastic(dice).glowing(dice.choice((0.0, 5.0))))
    return piece


def clock(dice: Dice) -> Piece:
    piece, radius = Piece("object"), dice.uniform(0.05, 0.09)
    piece.cylinder((0, radius, 0), radius, 0.05, plastic(dice), turn=rotation(0, math.pi / 2))
    face = Material(Texture.PLAIN, hsv(0.1, 0.05, 0.95), hsv(0.1, 0.05, 0.9))
    piece.cylinder((0, radius, 0.025), radius * 0.85, 0.006, face, turn=rotation(0, math.pi / 2))
    return piece


Maker = Callable[[Dice], Piece]
TABLEWARE: tuple[Maker, ...] = (cup, bottle, bowl, plate, plate, fruit, vase, candle)
STUDY: tuple[Maker, ...] = (books, books, cup, laptop, keyboard, carton, bottle, clock)
DECOR: tuple[Maker, ...] = (vase, books, candle, table_lamp, houseplant, ball, carton, clock)
FLOOR_THINGS: tuple[Maker, ...] = (ball, ball, carton, carton, houseplant, books)


def scatter(dice: Dice, group: Group, surface: Surface, makers: tuple[Maker, ...], count: int) -> None:
    """Stand up to `count` random things on a top of `group`, in cells of a grid so that they rarely overlap."""
    columns = max(int(surface.width / 0.24), 1)
    rows = max(int(surface.depth / 0.26), 1)
    cells = [(column, row) for column in range(columns) for row in range(rows)]
    for _ in range(min(count, len(cells))):
        column, row = cells.pop(dice.integer(0, len(cells) - 1))
        x = surface.centre[0] + ((column + 0.5) / columns - 0.5) * surface.width + dice.uniform(-0.04, 0.04)
        z = surface.centre[2] + ((row + 0.5) / rows - 0.5) * surface.depth + dice.uniform(-0.04, 0.04)
        piece = dice.choice(makers)(dice)
        group.pieces.append(piece.moved(x, surface.centre[1], z, dice.uniform(-0.6, 0.6)))
