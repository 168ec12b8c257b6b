"""Which furniture stands in which type of room."""

from __future__ import annotations

from collections.abc import Callable

from . import fittings
from .clutter import DECOR, FLOOR_THINGS, STUDY, TABLEWARE, scatter, table_lamp
from .dice import Dice
from .furniture import Style, bed, cabinet, chair, desk, dining_set, floor_lamp, media_unit, shelf, sofa, table
from .kitchen import counter, refrigerator
from .layout import Plan
from .pieces import Group, Surface

# Width, length and height ranges in metres.
PROPORTIONS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "bedroom": ((2.8, 4.5), (3.0, 5.0), (2.35, 2.9)),
    "living_room": ((3.6, 6.5), (4.0, 8.0), (2.4, 3.3)),
    "dining_room": ((3.0, 5.0), (3.4, 6.0), (2.4, 3.2)),
    "office": ((3.0, 7.0), (3.5, 8.0), (2.5, 3.4)),
    "kitchen": ((2.5, 4.0), (2.8, 5.0), (2.4, 3.0)),
    "corridor": ((1.3, 2.2), (4.5, 8.0), (2.3, 3.2)),
}


def _chest(dice: Dice, style: Style) -> Group:
    group = cabinet(dice, style, dice.uniform(0.7, 1.3), dice.uniform(0.38, 0.5), dice.uniform(0.7, 1.1))
    scatter(dice, group, group.surfaces[0], DECOR, dice.integer(0, 3))
    return group


def _wardrobe(dice: Dice, style: Style) -> Group:
    return cabinet(dice, style, dice.uniform(0.9, 2.0), dice.uniform(0.5, 0.62), dice.uniform(1.8, 2.2))


def _side_table(dice: Dice, style: Style) -> Group:
    group = table(dice, style, dice.uniform(0.4, 0.6), dice.uniform(0.4, 0.55), dice.uniform(0.45, 0.7))
    scatter(dice, group, group.surfaces[0], DECOR, dice.integer(1, 2))
    return group


def _floor_thing(dice: Dice) -> Group:
    return Group(0.4, 0.4, 0.4, [dice.choice(FLOOR_THINGS)(dice)])


def _lone_chair(dice: Dice, style: Style) -> Group:
    return Group(0.55, 0.55, 0.9, [chair(dice, style)])


def bedroom(dice: Dice, style: Style, plan: Plan) -> None:
    group = bed(dice, style)
    stands_there = plan.against_wall(dice, group, gap_m=0.06)
    stands = 2 if dice.chance(0.5) else 1
    if stands_there:
        head = plan.placed[-1].surfaces[0].centre
        if dice.chance(0.45):
            fittings.rug(dice, plan, head[0], head[2])
    for _ in range(stands):
        stand = cabinet(dice, style, 0.45, 0.4, dice.uniform(0.4, 0.6))
        scatter(dice, stand, Surface((0, stand.height, 0), 0.3, 0.25), (table_lamp, *STUDY[:3]), 1)
        plan.against_wall(dice, stand)
    plan.against_wall(dice, _wardrobe(dice, style))
    for make in (_chest, _lone_chair, shelf_unit, _side_table):
        if dice.chance(0.35):
            plan.against_wall(dice, make(dice, style))


def shelf_unit(dice: Dice, style: Style) -> Group:
    return shelf(dice, style, dice.uniform(0.6, 1.6), dice.uniform(0.9, 2.1))


def living_room(dice: Dice, style: Style, plan: Plan) -> None:
    if plan.against_wall(dice, sofa(dice, style, dice.integer(2, 4)), gap_m=dice.choice((0.03, 0.03, 0.9))):
        seat = plan.placed[-1]
        middle = seat.pieces[0].parts[0].centre
        towards = (plan.width / 2 - middle[0], plan.length / 2 - middle[2])
        reach = max((towards[0] ** 2 + towards[1] ** 2) ** 0.5, 1e-3)
        x, z = middle[0] + towards[0] / reach * 1.3, middle[2] + towards[1] / reach * 1.3
        coffee = table(dice, style, dice.uniform(0.6, 1.2), dice.uniform(0.5, 0.7), dice.uniform(0.32, 0.46))
        scatter(dice, coffee, coffee.surfaces[0], DECOR[:3] + TABLEWARE[:3] + STUDY[:1], dice.integer(0, 4))
        plan.in_the_room(dice, coffee, near=(x, 0, z), spread_m=0.15)
        if dice.chance(0.7):
            fittings.rug(dice, plan, x, z)
    plan.against_wall(dice, media_unit(dice, style))
    for _ in range(dice.integer(0, 2)):
        plan.in_the_room(dice, sofa(dice, style, 1))
    for make, likely in ((shelf_unit, 0.6), (_chest, 0.4), (floor_lamp, 0.6), (_side_table, 0.5)):
        if dice.chance(likely):
            plan.against_wall(dice, make(dice, style))


def dining_room(dice: Dice, style: Style, plan: Plan) -> None:
    middle = (plan.width / 2, 0.0, plan.length / 2)
    if dice.chance(0.4):
        fittings.rug(dice, plan, middle[0], middle[2])
    plan.in_the_room(dice, dining_set(dice, style), near=middle, spread_m=0.3)
    for make, likely in ((_chest, 0.8), (shelf_unit, 0.3), (_wardrobe, 0.2), (floor_lamp, 0.3), (_lone_chair, 0.3)):
        if dice.chance(likely):
            plan.against_wall(dice, make(dice, style))


def office(dice: Dice, style: Style, plan: Plan) -> None:
    for _ in range(dice.integer(1, 3)):
        plan.against_wall(dice, desk(dice, style))
    if dice.chance(0.35):
        plan.in_the_room(dice, desk(dice, style))
    for make, likely in ((shelf_unit, 0.7), (shelf_unit, 0.4), (_chest, 0.4), (_wardrobe, 0.3), (_lone_chair, 0.5)):
        if dice.chance(likely):
            plan.against_wall(dice, make(dice, style))


def kitchen(dice: Dice, style: Style, plan: Plan) -> None:
    longest = max(plan.width, plan.length)
    plan.against_wall(dice, counter(dice, style, dice.uniform(0.5, 0.75) * longest), gap_m=0.0)
    plan.against_wall(dice, refrigerator(dice, style))
    if dice.chance(0.5):
        plan.against_wall(dice, counter(dice, style, dice.uniform(0.8, 1.5)), gap_m=0.0)
    if dice.chance(0.6):
        small = table(dice, style, dice.uniform(0.7, 1.1), dice.uniform(0.6, 0.8), dice.uniform(0.72, 0.95))
        scatter(dice, small, small.surfaces[0], TABLEWARE, dice.integer(1, 4))
        plan.in_the_room(dice, small)
    for _ in range(dice.integer(0, 2)):
        plan.in_the_room(dice, _lone_chair(dice, style))


def corridor(dice: Dice, style: Style, plan: Plan) -> None:
    for wall in (1, 3, 1, 3):
        if dice.chance(0.75):
            fittings.door(dice, plan, wall=wall)
    if dice.chance(0.5):
        fittings.rug(dice, plan, plan.width / 2, plan.length / 2)
    for make, likely in ((_chest, 0.4), (_side_table, 0.35), (_lone_chair, 0.3), (shelf_unit, 0.25)):
        if dice.chance(likely):
            plan.against_wall(dice, make(dice, style), walls=(1, 3))


FURNISH: dict[str, Callable[[Dice, Style, Plan], None]] = {
    "bedroom": bedroom,
    "living_room": living_room,
    "dining_room": dining_room,
    "office": office,
    "kitchen": kitchen,
    "corridor": corridor,
}


def furnish(dice: Dice, style: Style, plan: Plan, room_type: str) -> None:
    """Doors, then furniture, then what hangs on the remaining wall and lies on the remaining floor."""
    fittings.door(dice, plan, wall=0 if room_type == "corridor" else None)
    FURNISH[room_type](dice, style, plan)
    for _ in range(dice.integer(0, 5)):
        plan.in_the_room(dice, _floor_thing(dice))
    if dice.chance(0.15):
        plan.in_the_room(
            dice, cabinet(dice, style, dice.uniform(0.3, 0.6), dice.uniform(0.3, 0.5), dice.uniform(0.4, 0.6))
        )
    for _ in range(dice.integer(0, 4)):
        fittings.picture(dice, plan)
    fittings.wall_bits(dice, plan)
