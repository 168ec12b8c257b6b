"""Furniture as compositions of solids. Each function returns a group on its own origin, front towards +z."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .clutter import DECOR, STUDY, TABLEWARE, books, cup, keyboard, laptop, monitor, scatter, table_lamp
from .dice import Dice
from .materials import Material, Texture, any_finish, fabric, hsv, metal, paint, patterned, plastic, stone, wood
from .pieces import Group, Piece, Surface, rotation


@dataclass(frozen=True)
class Style:
    """Finishes shared by the furniture of one room, so that it looks chosen together."""

    wood: Material
    lacquer: Material
    cloth: Material
    metal: Material


def make_style(dice: Dice) -> Style:
    lacquer = plastic(dice) if dice.chance(0.5) else paint(dice)
    return Style(wood(dice), lacquer, fabric(dice), metal(dice))


def _body(dice: Dice, style: Style) -> Material:
    return dice.choice((style.wood, style.lacquer, any_finish(dice)), (0.55, 0.3, 0.15))


def _legs(piece: Piece, dice: Dice, width: float, depth: float, height: float, skin: Material) -> None:
    thick, round_legs = dice.uniform(0.03, 0.07), dice.chance(0.35)
    for x in (-1, 1):
        for z in (-1, 1):
            centre = (x * (width / 2 - thick), height / 2, z * (depth / 2 - thick))
            if round_legs:
                piece.cylinder(centre, thick / 2, height, skin, taper=0.2)
            else:
                piece.box(centre, (thick, height, thick), skin)


def table(dice: Dice, style: Style, width: float, depth: float, height: float) -> Group:
    """A bare table: four legs, a pedestal under a round top, or two side boards."""
    piece, top = Piece("table"), _body(dice, style)
    if dice.chance(0.12):
        top = stone(dice)
    legs = style.metal if dice.chance(0.3) else _body(dice, style)
    thick = dice.uniform(0.02, 0.06)
    kind = dice.choice(("legs", "round", "boards"), (0.62, 0.2, 0.18))
    if kind == "round":
        radius = min(width, depth) / 2
        width = depth = 2 * radius
        piece.cylinder((0, height - thick / 2, 0), radius, thick, top)
        piece.cylinder((0, height / 2, 0), 0.05, height - thick, legs)
        piece.cylinder((0, 0.02, 0), radius * 0.5, 0.04, legs)
    else:
        piece.box((0, height - thick / 2, 0), (width, thick, depth), top)
        if kind == "legs":
            _legs(piece, dice, width, depth, height - thick, legs)
        else:
            for x in (-1, 1):
                piece.box((x * (width / 2 - 0.04), (height - thick) / 2, 0), (0.04, height - thick, depth * 0.9), legs)
    inner = 0.68 if kind == "round" else 0.88
    return Group(width, depth, height, [piece], [Surface((0, height, 0), width * inner, depth * inner)])


def chair(dice: Dice, style: Style) -> Piece:
    piece, frame = Piece("chair"), _body(dice, style)
    seat = dice.choice((frame, style.cloth, fabric(dice)))
    width, height = dice.uniform(0.4, 0.5), dice.uniform(0.42, 0.48)
    top = dice.uniform(0.8, 1.05)
    piece.box((0, height - 0.02, 0), (width, dice.uniform(0.03, 0.08), width), seat)
    _legs(piece, dice, width, width, height - 0.03, frame)
    lean = rotation(0, -dice.uniform(0.0, 0.2))
    if dice.chance(0.5):
        piece.box(
            (0, (top + height) / 2, -width / 2), (width, top - height, 0.03), dice.choice((seat, frame)), turn=lean
        )
    else:
        for x in (-0.42, 0.42):
            piece.box((x * width, (top + height) / 2, -width / 2), (0.03, top - height, 0.03), frame, turn=lean)
        for part in range(dice.integer(1, 3)):
            piece.box(
                (0, top - 0.06 - 0.13 * part, -width / 2 - 0.02 * (2 - part)),
                (width * 0.85, 0.07, 0.02),
                frame,
                turn=lean,
            )
    return piece


def swivel_chair(dice: Dice, style: Style) -> Piece:
    piece, shell, pad = Piece("chair"), plastic(dice), dice.choice((style.cloth, plastic(dice)))
    piece.box((0, 0.46, 0), (0.48, 0.08, 0.48), pad)
    piece.cylinder((0, 0.25, 0), 0.03, 0.36, style.metal)
    for index in range(3):
        turn = rotation(index * math.pi / 3)
        piece.box((0, 0.06, 0), (0.6, 0.035, 0.05), shell, turn=turn)
    piece.box((0, 0.78, -0.24), (0.42, dice.uniform(0.4, 0.65), 0.06), pad, turn=rotation(0, -0.15))
    if dice.chance(0.6):
        for x in (-0.27, 0.27):
            piece.box((x, 0.66, 0), (0.05, 0.03, 0.3), shell)
            piece.box((x, 0.56, 0), (0.03, 0.2, 0.04), shell)
    return piece


def sofa(dice: Dice, style: Style, seats: int) -> Group:
    piece, cloth = Piece("sofa"), style.cloth if dice.chance(0.6) else fabric(dice)
    arm, seat_m = dice.uniform(0.1, 0.22), dice.uniform(0.55, 0.7)
    width, depth = seats * seat_m + 2 * arm, dice.uniform(0.8, 0.98)
    base, back = dice.uniform(0.25, 0.32), dice.uniform(0.7, 0.95)
    piece.box((0, base / 2 + 0.04, 0), (width, base - 0.04, depth), cloth)
    piece.box((0, back / 2, -depth / 2 + 0.1), (width, back - 0.1, 0.2), cloth)
    for side in (-1, 1):
        piece.box((side * (width - arm) / 2, 0.32, 0), (arm, 0.56, depth), cloth)
        if dice.chance(0.3):
            piece.cylinder((side * (width - arm) / 2, 0.6, 0), arm * 0.6, depth, cloth, turn=rotation(0, math.pi / 2))
    for index in range(seats):
        x = (index - (seats - 1) / 2) * seat_m
        piece.box((x, base + 0.08, 0.08), (seat_m * 0.97, 0.16, depth - 0.25), cloth)
        piece.box((x, base + 0.32, -depth / 2 + 0.27), (seat_m * 0.95, 0.36, 0.14), cloth, turn=rotation(0, -0.2))
    group = Group(width, depth, back, [piece])
    for _ in range(dice.integer(0, 3)):
        cushion = Piece("sofa")
        turn = rotation(dice.uniform(-0.4, 0.4), -0.4, dice.uniform(-0.3, 0.3))
        cushion.ball(
            (dice.uniform(-0.4, 0.4) * (width - 2 * arm), base + 0.36, -0.05),
            (0.24, 0.22, 0.09),
            fabric(dice),
            turn=turn,
        )
        piece.parts += cushion.parts
    return group


def bed(dice: Dice, style: Style) -> Group:
    """Head at the back. Mattress, blanket, pillows."""
    piece, frame = Piece("bed"), _body(dice, style)
    width, depth = dice.choice((0.95, 1.4, 1.7)), dice.uniform(1.95, 2.15)
    base, top = dice.uniform(0.2, 0.35), dice.uniform(0.45, 0.6)
    sheet, blanket = paint(dice), style.cloth if dice.chance(0.6) else fabric(dice)
    piece.box((0, base / 2 + 0.04, 0), (width + 0.06, base - 0.08, depth), frame)
    piece.box((0, (base + top) / 2, 0.02), (width, top - base, depth - 0.06), sheet)
    cover = dice.uniform(0.5, 0.75) * depth
    piece.box(
        (0, (base + top) / 2 + 0.02, depth / 2 - cover / 2 + 0.01), (width + 0.05, top - base + 0.03, cover), blanket
    )
    if dice.chance(0.85):
        piece.box(
            (0, dice.uniform(0.4, 0.6), -depth / 2 - 0.02),
            (width + 0.1, dice.uniform(0.75, 1.2), 0.06),
            dice.choice((frame, blanket)),
        )
    pillow = dice.choice((sheet, fabric(dice)))
    for side in (-1, 1) if width > 1.2 else (0,):
        turn = rotation(dice.uniform(-0.2, 0.2), dice.uniform(0.0, 0.6))
        piece.ball(
            (side * width / 4, top + 0.08, -depth / 2 + 0.3), (min(0.36, width / 2.6), 0.11, 0.24), pillow, turn=turn
        )
    group = Group(width + 0.1, depth + 0.1, top, [piece], [Surface((0, top + 0.03, 0.3), width * 0.7, depth * 0.3)])
    return group


def cabinet(dice: Dice, style: Style, width: float, depth: float, height: float, *, on_feet: bool = True) -> Group:
    """A closed chest, wardrobe or sideboard with drawer or door fronts."""
    piece, body = Piece("cabinet"), _body(dice, style)
    feet = dice.choice((0.0, 0.08, 0.15)) if on_feet else 0.0
    piece.box((0, (height + feet) / 2, 0), (width, height - feet, depth), body)
    if feet:
        _legs(piece, dice, width, depth, feet, style.metal)
    columns, rows = max(round(width / 0.5), 1), dice.integer(1, 4) if height < 1.3 and on_feet else dice.integer(1, 2)
    front = body if dice.chance(0.6) else style.lacquer
    for column in range(columns):
        for row in range(rows):
            tall = (height - feet) / rows
            x, y = ((column + 0.5) / columns - 0.5) * width, feet + (row + 0.5) * tall
            piece.box((x, y, depth / 2), (width / columns - 0.015, tall - 0.015, 0.025), front, casts_shadow=False)
            if columns * rows <= 8:
                piece.box(
                    (x, y + tall * 0.3 * (rows > 1), depth / 2 + 0.02),
                    (0.1, 0.012, 0.02),
                    style.metal,
                    casts_shadow=False,
                )
    return Group(width, depth, height, [piece], [Surface((0, height, 0), width * 0.85, depth * 0.7)])


def shelf(dice: Dice, style: Style, width: float, height: float) -> Group:
    """An open bookcase: boards, a back, rows of books and things."""
    piece, board, depth = Piece("cabinet"), _body(dice, style), dice.uniform(0.25, 0.35)
    piece.box((0, height / 2, -depth / 2 + 0.01), (width, height, 0.02), board)
    for side in (-1, 1):
        piece.box((side * (width / 2 - 0.015), height / 2, 0), (0.03, height, depth), board)
    levels = max(round(height / 0.38), 2)
    group = Group(width, depth, height, [piece])
    for level in range(levels + 1):
        y = 0.02 + level * (height - 0.04) / levels
        piece.box((0, y, 0), (width, 0.025, depth), board)
        if level == levels:
            break
        room = (height - 0.04) / levels - 0.04
        if dice.chance(0.7):
            row, tall = Piece("object"), room * dice.uniform(0.65, 0.95)
            long = width * dice.uniform(0.4, 0.92)
            shift = dice.uniform(-0.5, 0.5) * (width * 0.92 - long)
            spines = patterned(dice, Texture.BOOKS)
            row.box((shift, y + 0.012 + tall / 2, -0.02), (long, tall, depth * 0.7), spines, casts_shadow=False)
            group.pieces.append(row)
        elif dice.chance(0.6):
            group.pieces.append(dice.choice((cup, books))(dice).moved(dice.uniform(-0.3, 0.3) * width, y + 0.013, 0))
    group.surfaces.append(Surface((0, height, 0), width * 0.8, depth * 0.7))
    return group


def desk(dice: Dice, style: Style) -> Group:
    """A desk against the wall with a screen, a keyboard and a swivel chair in front."""
    width, depth = dice.uniform(1.1, 1.7), dice.uniform(0.6, 0.8)
    group = table(dice, style, width, depth, dice.uniform(0.7, 0.76))
    top = group.height
    for index in range(dice.integer(1, 2)):
        x = dice.uniform(-0.15, 0.15) if index == 0 else 0.45
        machine = laptop if dice.chance(0.3) else monitor
        group.pieces.append(machine(dice).moved(x, top, -group.depth * 0.2, dice.uniform(-0.2, 0.2)))
    if dice.chance(0.7):
        group.pieces.append(keyboard(dice).moved(-0.05, top, group.depth * 0.22))
    if dice.chance(0.4):
        group.pieces.append(table_lamp(dice).moved(-group.width * 0.4, top, -group.depth * 0.25))
    scatter(
        dice,
        group,
        Surface((group.width * 0.3, top, 0), group.width * 0.3, group.depth * 0.7),
        STUDY,
        dice.integer(0, 2),
    )
    seat = swivel_chair if dice.chance(0.7) else chair
    group.pieces.append(
        seat(dice, style).moved(dice.uniform(-0.2, 0.2), 0, group.depth * 0.75, math.pi + dice.uniform(-0.7, 0.7))
    )
    group.depth += 0.5
    return group.moved(0, 0, -0.25, 0)


def dining_set(dice: Dice, style: Style) -> Group:
    width, depth = dice.uniform(1.0, 2.0), dice.uniform(0.8, 1.05)
    group = table(dice, style, width, depth, dice.uniform(0.72, 0.78))
    scatter(dice, group, group.surfaces[0], TABLEWARE, dice.integer(1, 7))
    model_seed = int(dice.unit() * 2**31)  # chairs of one set are alike
    for side in (-1, 1):
        for index in range(max(int(group.width / 0.65), 1)):
            if dice.chance(0.12):
                continue
            x = (index + 0.5 - max(int(group.width / 0.65), 1) / 2) * 0.62
            yaw = (math.pi if side > 0 else 0.0) + dice.uniform(-0.25, 0.25)
            out = group.depth / 2 + dice.uniform(0.02, 0.25)
            group.pieces.append(chair(Dice(model_seed), style).moved(x, 0, side * out, yaw))
    group.depth += 1.1
    return group


def media_unit(dice: Dice, style: Style) -> Group:
    group = cabinet(dice, style, dice.uniform(1.1, 1.9), 0.4, dice.uniform(0.4, 0.6))
    screen, width = Piece("object"), dice.uniform(0.8, 1.3)
    shell = plastic(dice)
    y = group.height + width * 0.3 + 0.05
    screen.box((0, y, 0), (width, width * 0.57, 0.05), shell)
    picture = patterned(dice, Texture.SCREEN, emission=dice.choice((0.0, 0.0, 0.8)))
    if dice.chance(0.5):
        picture = Material(Texture.PLAIN, hsv(0, 0, 0.1), hsv(0, 0, 0.1), gloss=0.7, shininess=200.0)
    screen.box((0, y, 0.026), (width * 0.96, width * 0.53, 0.004), picture)
    screen.box((0, group.height + 0.03, 0), (width * 0.4, 0.06, 0.2), shell)
    group.pieces.append(screen)
    scatter(dice, group, Surface((group.width * 0.4, group.height, 0), 0.25, 0.3), DECOR, dice.integer(0, 1))
    return group


def floor_lamp(dice: Dice, style: Style) -> Group:
    piece, height = Piece("lamp"), dice.uniform(1.3, 1.8)
    radius = dice.uniform(0.14, 0.25)
    piece.cylinder((0, 0.015, 0), 0.14, 0.03, style.metal)
    piece.cylinder((0, height / 2, 0), 0.014, height, style.metal)
    shade = fabric(dice).glowing(dice.choice((0.0, 2.0, 5.0)))
    piece.cylinder((0, height, 0), radius, radius * 1.3, shade, taper=dice.uniform(-0.35, 0.0))
    return Group(0.4, 0.4, height, [piece])
