"""What surfaces are made of: a texture, two colours, its scale and its gloss, drawn at random per room."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace
from enum import IntEnum

from .dice import Dice

Rgb = tuple[float, float, float]  # linear light, 0..1


class Texture(IntEnum):
    """Procedural patterns; `textures.py` holds the function behind each."""

    PLAIN = 0
    WOOD = 1
    TILES = 2
    CHECKER = 3
    BRICK = 4
    STRIPES = 5
    PANELS = 6
    MARBLE = 7
    FABRIC = 8
    MOTIF = 9
    PICTURE = 10
    WINDOW = 11
    BOOKS = 12
    SCREEN = 13
    RUG = 14
    DOOR = 15
    PHOTO = 16
    SKY = 17


@dataclass(frozen=True)
class Material:
    """One surface finish. Scales are metres per repeat; `phase` shifts the pattern, `variant` 0..1 picks its style."""

    texture: Texture
    color_a: Rgb
    color_b: Rgb
    scale_u_m: float = 1.0
    scale_v_m: float = 1.0
    strength: float = 0.3
    gloss: float = 0.0
    shininess: float = 20.0
    emission: float = 0.0
    phase: float = 0.0
    variant: float = 0.0
    skirting_m: float = 0.0
    wainscot_m: float = 0.0

    def columns(self) -> tuple[float, ...]:
        """The numbers in the order of `textures.COLUMNS`."""
        return (
            *self.color_a,
            *self.color_b,
            self.scale_u_m,
            self.scale_v_m,
            self.strength,
            self.gloss,
            self.shininess,
            self.emission,
            self.phase,
            self.variant,
            self.skirting_m,
            self.wainscot_m,
        )

    def glowing(self, emission: float) -> Material:
        return replace(self, emission=emission)


def hsv(hue: float, saturation: float, value: float) -> Rgb:
    """Linear RGB of a colour given as display HSV, each 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))
    return (red**2.2, green**2.2, blue**2.2)


def natural_hue(dice: Dice) -> float:
    """Hues as indoors: mostly reds to yellows, then blues and greens, seldom the rest."""
    low, high = dice.choice(((0.0, 0.16), (0.52, 0.68), (0.2, 0.45), (0.0, 1.0)), (0.52, 0.2, 0.12, 0.16))
    return dice.uniform(low, high)


def shade(color: Rgb, factor: float) -> Rgb:
    red, green, blue = (min(channel * factor, 1.0) for channel in color)
    return (red, green, blue)


def _surface(dice: Dice, texture: Texture, color_a: Rgb, color_b: Rgb, **fields: float) -> Material:
    return Material(texture, color_a, color_b, phase=dice.uniform(0, 50), variant=dice.unit(), **fields)


def wood(dice: Dice, plank_m: float = 9.0) -> Material:
    hue, value = dice.uniform(0.05, 0.11), dice.choice((0.3, 0.45, 0.6, 0.75, 0.85)) + dice.uniform(-0.08, 0.08)
    saturation = dice.uniform(0.2, 0.65)
    base = hsv(hue, saturation, value)
    dark = hsv(hue - 0.01, saturation + 0.1, value * dice.uniform(0.55, 0.85))
    return _surface(
        dice,
        Texture.WOOD,
        base,
        dark,
        scale_u_m=plank_m,
        scale_v_m=plank_m * dice.uniform(5, 14),
        strength=dice.uniform(0.3, 1.0),
        gloss=dice.uniform(0.0, 0.35),
        shininess=dice.log_uniform(10, 120),
    )


def paint(dice: Dice, *, bright: bool = True) -> Material:
    """Wall paint: mostly pale, now and then a strong or a dark colour."""
    value = dice.uniform(0.72, 0.97) if bright or dice.chance(0.8) else dice.uniform(0.25, 0.6)
    saturation = dice.uniform(0.0, 0.16) if dice.chance(0.75) else dice.uniform(0.15, 0.5)
    base = hsv(natural_hue(dice), saturation, value)
    other = hsv(natural_hue(dice), saturation * dice.uniform(0.5, 1.5), value * dice.uniform(0.55, 1.05))
    return _surface(
        dice, Texture.PLAIN, base, other, scale_u_m=dice.uniform(0.3, 1.5), strength=dice.uniform(0.0, 0.35)
    )


def plastic(dice: Dice) -> Material:
    """Anything uniformly coloured: lacquer, plastic, glazed ceramic."""
    kind = dice.choice(("vivid", "white", "black", "grey"), (0.45, 0.27, 0.14, 0.14))
    color = {
        "vivid": hsv(natural_hue(dice), dice.uniform(0.25, 0.95), dice.uniform(0.35, 0.95)),
        "white": hsv(dice.uniform(0.05, 0.15), dice.uniform(0, 0.1), dice.uniform(0.85, 0.98)),
        "black": hsv(dice.unit(), dice.uniform(0, 0.3), dice.uniform(0.08, 0.25)),
        "grey": hsv(dice.unit(), dice.uniform(0, 0.1), dice.uniform(0.3, 0.75)),
    }[kind]
    gloss = dice.uniform(0.05, 0.7)
    return _surface(
        dice,
        Texture.PLAIN,
        color,
        shade(color, 0.7),
        scale_u_m=0.1,
        strength=0.1,
        gloss=gloss,
        shininess=dice.log_uniform(20, 300),
    )


def metal(dice: Dice) -> Material:
    color = hsv(dice.uniform(0.05, 0.15), dice.choice((0.02, 0.05, 0.4)), dice.choice((0.2, 0.5, 0.75)))
    return _surface(
        dice, Texture.PLAIN, color, color, scale_u_m=0.2, strength=0.1, gloss=0.9, shininess=dice.log_uniform(30, 200)
    )


def fabric(dice: Dice) -> Material:
    """Upholstery, blankets, curtains: plain weave, stripes, checks or printed motifs."""
    hue, saturation = natural_hue(dice), dice.uniform(0.0, 0.7) ** 1.3
    base = hsv(hue, saturation, dice.uniform(0.2, 0.95))
    other = hsv(hue + dice.uniform(-0.2, 0.2), saturation * dice.uniform(0.3, 1.3), dice.uniform(0.25, 0.95))
    texture = dice.choice((Texture.FABRIC, Texture.STRIPES, Texture.CHECKER, Texture.MOTIF), (0.66, 0.14, 0.08, 0.12))
    scale = dice.log_uniform(0.04, 0.2)
    return _surface(dice, texture, base, other, scale_u_m=scale, scale_v_m=scale, strength=dice.uniform(0.3, 1.0))


def ceramic(dice: Dice) -> Material:
    """Vases, cups, bowls: glossy, plain or painted."""
    plain = plastic(dice)
    if dice.chance(0.6):
        return replace(plain, gloss=dice.uniform(0.3, 0.8))
    texture = dice.choice((Texture.MARBLE, Texture.STRIPES, Texture.MOTIF, Texture.CHECKER))
    scale = dice.log_uniform(0.02, 0.08)
    other = hsv(dice.unit(), dice.uniform(0.1, 0.8), dice.uniform(0.2, 0.95))
    return replace(plain, texture=texture, color_b=other, scale_u_m=scale, scale_v_m=scale, strength=0.8)


def stone(dice: Dice) -> Material:
    base = hsv(dice.unit(), dice.uniform(0, 0.12), dice.uniform(0.25, 0.95))
    vein = shade(base, dice.choice((0.4, 0.7, 1.6)))
    scale = dice.log_uniform(0.15, 0.8)
    return _surface(
        dice,
        Texture.MARBLE,
        base,
        vein,
        scale_u_m=scale,
        scale_v_m=scale,
        strength=dice.uniform(0.3, 1),
        gloss=0.4,
        shininess=80.0,
    )


def leaf(dice: Dice) -> Material:
    hue, value = dice.uniform(0.2, 0.38), dice.uniform(0.25, 0.7)
    color_a, color_b = hsv(hue, dice.uniform(0.4, 0.9), value), hsv(hue + 0.03, 0.7, value * 0.4)
    return _surface(
        dice, Texture.FABRIC, color_a, color_b, scale_u_m=dice.uniform(0.03, 0.12), strength=1.0, gloss=0.15
    )


def any_finish(dice: Dice) -> Material:
    """Domain randomisation: whatever there is."""
    return dice.choice((wood, plastic, fabric, ceramic, stone, metal, paint))(dice)


def patterned(dice: Dice, texture: Texture, *, emission: float = 0.0) -> Material:
    """A picture, screen, rug or row of books: two free colours, the pattern does the rest."""
    hue = natural_hue(dice)
    color_a = hsv(hue, dice.uniform(0.1, 0.9), dice.uniform(0.3, 0.95))
    color_b = hsv(hue + dice.uniform(0.1, 0.9), dice.uniform(0.0, 0.9), dice.uniform(0.1, 0.95))
    scale = dice.log_uniform(0.05, 0.3)
    return _surface(
        dice, texture, color_a, color_b, scale_u_m=scale, scale_v_m=scale, strength=dice.unit(), emission=emission
    )


def photo(dice: Dice) -> Material:
    """Cut from a photograph: as it is, or in two colours of its own."""
    hue, value = natural_hue(dice), dice.uniform(0.4, 0.98)
    light = hsv(hue, dice.uniform(0.0, 0.6), value)
    dark = hsv(hue + dice.uniform(-0.08, 0.08), dice.uniform(0.1, 0.8), value * dice.uniform(0.05, 0.6))
    scale = dice.log_uniform(0.15, 1.6)
    gloss = dice.choice((0.0, dice.uniform(0.0, 0.5)))
    return _surface(
        dice, Texture.PHOTO, light, dark, scale_u_m=scale, scale_v_m=scale, strength=dice.unit(), gloss=gloss
    )
