"""The pattern behind each `Texture`: albedo in linear RGB at surface points.

Axes: N points, M material columns. Patterns are softened by the size of a pixel on the surface, so that lines far
away fade instead of flickering.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .materials import Texture
from .noise import noise, scramble
from .photo_textures import photo
from .sky import sky

COLUMNS = (
    "a_red", "a_green", "a_blue", "b_red", "b_green", "b_blue", "scale_u_m", "scale_v_m", "strength", "gloss",
    "shininess", "emission", "phase", "variant", "skirting_m", "wainscot_m",
)  # fmt: skip
_INDEX = {name: index for index, name in enumerate(COLUMNS)}


@dataclass(frozen=True)
class Patch:
    """Points of one texture: metres on the face (u, v), -1..1 on the face, metres in the solid, pixel size."""

    material_MN: Tensor
    u: Tensor
    v: Tensor
    unit_u: Tensor
    unit_v: Tensor
    local_3N: Tensor
    pixel_m: Tensor

    def get(self, name: str) -> Tensor:
        return self.material_MN[_INDEX[name]]

    @property
    def color_a(self) -> Tensor:
        return self.material_MN[0:3]

    @property
    def color_b(self) -> Tensor:
        return self.material_MN[3:6]

    def noise(
        self, cells_per_m: Tensor | float, stretch: tuple[float, float, float] = (1, 1, 1)
    ) -> tuple[Tensor, Tensor]:
        scaled = self.local_3N * torch.tensor(stretch, device=self.u.device)[:, None] * cells_per_m
        return noise(scaled + self.get("phase"))


def mix(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    return a + (b - a) * share


def _line(x: Tensor, period: Tensor, width: Tensor | float, pixel_m: Tensor) -> Tensor:
    """How much of the pixel (0..1) lies on lines of `width` that repeat every `period`."""
    offset = torch.remainder(x / period + 0.5, 1.0) - 0.5
    blur = torch.clamp_min(pixel_m, 1e-4)
    cover = ((width / 2 + blur / 2 - offset.abs() * period) / blur).clamp(0, 1)
    return cover * torch.clamp_max(width / blur, 1.0)


def _square(x: Tensor, period: Tensor, pixel_m: Tensor) -> Tensor:
    """A 0/1 square wave, blurred to the pixel and to 0.5 where the pixel exceeds the period."""
    ramp = (torch.remainder(x / period, 1.0) - 0.5).abs() - 0.25
    sharp = (ramp * period / torch.clamp_min(pixel_m, 1e-4) + 0.5).clamp(0, 1)
    return mix(torch.full_like(sharp, 0.5), sharp, _fade(period, pixel_m))


def _fade(period: Tensor | float, pixel_m: Tensor) -> Tensor:
    return (1.6 - 1.8 * pixel_m / period).clamp(0, 1)


def _plain(p: Patch) -> Tensor:
    rough, cloudy = p.noise(6.0 / p.get("scale_u_m"))
    return p.color_a * (1 + p.get("strength") * (0.35 * (cloudy - 0.5) + 0.08 * (rough - 0.5)))


def _wood(p: Patch) -> Tensor:
    swap = p.get("variant") > 0.5
    u, v = torch.where(swap, p.v, p.u), torch.where(swap, p.u, p.v)
    width, length, phase = p.get("scale_u_m"), p.get("scale_v_m"), p.get("phase")
    u, v = u + 0.37 * width, v + 0.37 * length  # no joint through the middle of a table made of one plank
    row = torch.floor(u / width)
    shifted = v + scramble(row, 1.0, phase) * length
    column = torch.floor(shifted / length)
    tone = scramble(row, column, phase)
    _, grain = noise(torch.stack([u * 120 + tone * 40, v * 7 + tone * 31, tone * 57 + phase]))
    _, swirl = noise(torch.stack([u * 22 + tone * 17, v * 3.0, phase + tone * 9]))
    rings = torch.sin(u * 40 + swirl * 14 + tone * 6)
    fade = _fade(0.03, p.pixel_m)
    share = 0.35 * (tone - 0.5) + p.get("strength") * (0.55 * (grain - 0.5) + 0.18 * rings * fade) + 0.4
    gap = torch.maximum(_line(u, width, 0.003, p.pixel_m), _line(shifted, length, 0.003, p.pixel_m))
    return mix(p.color_a, p.color_b, share.clamp(0, 1)) * (1 - 0.65 * gap)


def _tiles(p: Patch) -> Tensor:
    width, height = p.get("scale_u_m"), p.get("scale_v_m")
    tone = scramble(torch.floor(p.u / width + 0.5), torch.floor(p.v / height + 0.5), p.get("phase"))
    rough, cloudy = p.noise(20.0)
    body = p.color_a * (1 + p.get("strength") * (0.22 * (tone - 0.5) + 0.35 * (cloudy - 0.5) + 0.1 * (rough - 0.5)))
    joint = torch.maximum(_line(p.u, width, 0.006, p.pixel_m), _line(p.v, height, 0.006, p.pixel_m))
    return mix(body, p.color_b * 0.8, joint)


def _checker(p: Patch) -> Tensor:
    a, b = _square(p.u, 2 * p.get("scale_u_m"), p.pixel_m), _square(p.v, 2 * p.get("scale_u_m"), p.pixel_m)
    rough, cloudy = p.noise(20.0)
    return mix(p.color_a, p.color_b, a + b - 2 * a * b) * (1 + 0.25 * (cloudy - 0.5) + 0.1 * (rough - 0.5))


def _brick(p: Patch) -> Tensor:
    width, height, phase = p.get("scale_u_m"), p.get("scale_v_m"), p.get("phase")
    row = torch.floor(p.v / height)
    shifted = p.u + 0.5 * width * torch.remainder(row, 2.0)
    tone = scramble(torch.floor(shifted / width), row, phase)
    rough, cloudy = p.noise(60.0)
    body = p.color_a * (0.75 + 0.45 * tone + 0.5 * (cloudy - 0.5) + 0.2 * (rough - 0.5))
    joint = torch.maximum(_line(shifted, width, 0.011, p.pixel_m), _line(p.v, height, 0.011, p.pixel_m))
    return mix(body, p.color_b * (0.8 + 0.3 * rough), joint)


def _stripes(p: Patch) -> Tensor:
    rough, cloudy = p.noise(25.0)
    wave = _square(p.u, p.get("scale_u_m"), p.pixel_m)
    soft = 0.5 + 0.5 * torch.sin(p.u / p.get("scale_u_m") * 6.2832) * _fade(p.get("scale_u_m"), p.pixel_m)
    share = torch.where(p.get("variant") > 0.35, wave, soft)
    return mix(p.color_a, p.color_b, share * p.get("strength")) * (1 + 0.15 * (cloudy - 0.5) + 0.08 * (rough - 0.5))


def _panels(p: Patch) -> Tensor:
    width = p.get("scale_u_m")
    tone = scramble(torch.floor(p.u / width + 0.5), 3.0, p.get("phase"))
    _, cloudy = p.noise(12.0, (1.0, 0.15, 1.0))
    groove = _line(p.u, width, 0.008, p.pixel_m)
    return p.color_a * (1 + p.get("strength") * (0.2 * (tone - 0.5) + 0.3 * (cloudy - 0.5))) * (1 - 0.5 * groove)


def _marble(p: Patch) -> Tensor:
    _, cloudy = p.noise(5.0 / p.get("scale_u_m"))
    wave = p.local_3N[0] + 0.6 * p.local_3N[2] + 0.8 * p.local_3N[1]
    vein = 1 - torch.sin(wave / p.get("scale_u_m") * 3.0 + cloudy * 11.0).abs()
    return mix(p.color_a, p.color_b, (vein**3 + 0.3 * (cloudy - 0.5)).clamp(0, 1) * p.get("strength"))


def _fabric(p: Patch) -> Tensor:
    rough, cloudy = p.noise(260.0)
    _, worn = p.noise(14.0)
    fine = (0.7 * (rough - 0.5) + 0.5 * (cloudy - 0.5)) * _fade(0.006, p.pixel_m) + 0.25 * (cloudy - 0.5) * _fade(
        0.03, p.pixel_m
    )
    return mix(p.color_a, p.color_b, (p.get("strength") * (0.5 * (worn - 0.4) + fine)).clamp(0, 0.7)) * (
        1 + 0.35 * fine
    )


def _motif(p: Patch) -> Tensor:
    """Wallpaper: dots, diamonds or rosettes on a staggered grid."""
    scale, variant = p.get("scale_u_m"), p.get("variant")
    row = torch.floor(p.v / scale)
    x = torch.remainder(p.u / scale + 0.5 * torch.remainder(row, 2.0), 1.0) - 0.5
    y = torch.remainder(p.v / scale, 1.0) - 0.5
    radius = (x * x + y * y).sqrt()
    petals = radius * (1 + 0.35 * torch.cos(torch.atan2(y, x) * 6))
    distance = torch.where(variant < 0.35, radius, torch.where(variant < 0.65, x.abs() + y.abs(), petals))
    cover = ((0.3 - distance) * scale / torch.clamp_min(p.pixel_m, 1e-4) + 0.5).clamp(0, 1)
    share = mix(torch.full_like(cover, 0.28), cover, _fade(scale, p.pixel_m))
    _, cloudy = p.noise(20.0)
    return mix(p.color_a, p.color_b, share * p.get("strength")) * (1 + 0.15 * (cloudy - 0.5))


def _hue(shift: Tensor) -> Tensor:
    """A colour (3, N) round the colour circle, warm ones more often than the rest."""
    offsets = torch.tensor([0.0, 2.1, 4.2], device=shift.device)[:, None]
    turn = shift * 6.2832
    return (0.5 + 0.45 * torch.cos(turn - 0.9 * torch.sin(turn - 0.6) + 0.3 - offsets)) ** 2


def _picture(p: Patch) -> Tensor:
    """A landscape, an abstract of bands, discs, or a cloudy photograph; some with a white mount."""
    x, y, phase, variant = p.unit_u, p.unit_v, p.get("phase"), p.get("variant")
    third = _hue(phase * 0.137)
    value, cloudy = noise(torch.stack([x * 9 + phase, y * 9, phase * 3]))
    hills = y < (cloudy - 0.5) * 1.6 + 0.1 * torch.sin(x * 5 + phase)
    land = torch.where(hills, p.color_b * (0.4 + cloudy), mix(p.color_a, third, 0.5 + 0.5 * y))
    bands = mix(p.color_a, p.color_b, scramble(torch.floor(x * 3 + cloudy * 1.5 + phase), torch.floor(y * 2), phase))
    near = ((x - 0.4 * torch.sin(phase)) ** 2 + (y - 0.4 * torch.cos(phase * 2)) ** 2).sqrt()
    discs = torch.where(torch.sin(near * 9 + phase) > 0, p.color_a, mix(p.color_b, third, near.clamp(0, 1)))
    photo = mix(mix(p.color_a, p.color_b, cloudy), third, (value * 1.5 - 0.5).clamp(0, 1) * 0.5)
    image = torch.where(
        variant < 0.3, land, torch.where(variant < 0.5, bands, torch.where(variant < 0.7, discs, photo))
    )
    mount = (torch.maximum(x.abs(), y.abs()) > 0.78) & (p.get("strength") > 0.5)
    return torch.where(mount, torch.full_like(image, 0.85), image)


def _window(p: Patch) -> Tensor:
    """Sky above trees or houses behind glazing bars, overexposed more or less."""
    x, y, phase, variant = p.unit_u, p.unit_v, p.get("phase"), p.get("variant")
    _, cloudy = noise(torch.stack([p.u * 6 + phase, p.v * 6, phase]))
    _, leaves = noise(torch.stack([p.u * 30, p.v * 30 + phase, phase]))
    sky = torch.stack([0.75 + 0.25 * cloudy, 0.85 + 0.12 * cloudy, torch.ones_like(cloudy)])
    horizon = (variant - 0.6) * 1.5 + 0.7 * (cloudy - 0.5) * (phase > 20)
    green = torch.stack([0.12 + 0.3 * leaves, 0.2 + 0.35 * leaves, 0.06 + 0.15 * leaves])
    across, up = torch.remainder(p.u * 1.7 + phase, 1.0), torch.remainder(p.v * 1.3, 1.0)
    pane = (across > 0.3) & (across < 0.7) & (up > 0.25) & (up < 0.8)
    facade = mix(p.color_a, torch.full_like(sky, 0.5), torch.full_like(x, 0.6))
    ground = torch.where(phase > 20, green, torch.where(pane, facade * 0.3, facade * (0.8 + 0.3 * leaves)))
    view = torch.where(y < horizon, ground, sky)
    haze = (1.2 * p.get("strength")).clamp(0.25, 1)
    view = mix(view, torch.ones_like(view), haze)
    half_m = (p.u / p.unit_u.where(p.unit_u.abs() > 1e-3, torch.full_like(x, 1e-3))).abs().clamp_min(0.1)
    bars = _line(p.u, torch.where(variant > 0.6, half_m * 2 / 3, half_m * 9) + 0 * x, 0.045, p.pixel_m) * (
        variant > 0.3
    )
    cross = _line(p.v - 0.3 * variant, torch.full_like(x, 9.0), 0.045, p.pixel_m) * (p.get("strength") > 0.4)
    return mix(view, torch.full_like(view, 0.16), torch.maximum(bars, cross))


def _books(p: Patch) -> Tensor:
    phase, width = p.get("phase"), 0.034
    wobble = 0.012 * torch.sin(p.u * 23 + phase) + 0.008 * torch.sin(p.u * 57 + 2 * phase)
    cell = torch.floor((p.u + wobble) / width)
    pick, other, tall = scramble(cell, 1.0, phase), scramble(cell, 5.0, phase), scramble(cell, 9.0, phase)
    color = mix(_hue(pick), torch.full_like(p.color_a, 1.0) * other, 0.35 + 0.5 * scramble(cell, 13.0, phase)) * (
        0.15 + 0.75 * other
    )
    above = p.unit_v > 0.55 + 0.5 * tall
    title = _line(p.unit_v - 0.8 * (other - 0.5), torch.full_like(pick, 2.0), 0.12, torch.full_like(pick, 0.03)) * 0.6
    color = mix(color, torch.full_like(color, 0.75), title)
    gap = _line(p.u + wobble, torch.full_like(pick, width), 0.004, p.pixel_m)
    return torch.where(above, torch.full_like(color, 0.03), color * (1 - 0.8 * gap))


def _screen(p: Patch) -> Tensor:
    """A desktop: a coloured background and a few windows with lines of text."""
    x, y, phase = p.unit_u, p.unit_v, p.get("phase")
    _, cloudy = noise(torch.stack([x * 6 + phase, y * 6, phase]))
    desk = mix(p.color_a, p.color_b, (0.5 + 0.5 * y + 0.6 * (cloudy - 0.5)).clamp(0, 1))
    left, low = -0.8 + 0.5 * scramble(phase, 1.0), -0.8 + 0.4 * scramble(phase, 2.0)
    page = (x > left) & (x < left + 1.1) & (y > low) & (y < low + 1.3)
    row = torch.floor(y * 18)
    text = (
        (torch.remainder(y * 18, 1.0) < 0.55)
        & (scramble(row, torch.floor(x * 26), phase) > 0.35)
        & (x < left + 0.3 + 0.7 * scramble(row, 0.0, phase))
    )
    paper = torch.where(text, 0.15, 0.9).expand_as(desk)
    return torch.where(page, paper, desk)


def _rug(p: Patch) -> Tensor:
    """A border, a field with medallions, stripes or zigzags, and the tufts of wool."""
    x, y, phase, variant = p.unit_u, p.unit_v, p.get("phase"), p.get("variant")
    edge = torch.maximum(x.abs(), y.abs())
    third = _hue(phase * 0.31) * 0.6 + 0.1
    medallion = torch.sin((x.abs() + y.abs()) * (6 + 10 * variant) + phase)
    zigzag = torch.sin((y * 2 + (torch.remainder(x * 4, 1.0) - 0.5).abs()) * 16)
    waves = torch.sin(p.u / p.get("scale_u_m") * 4)
    field = torch.where(variant < 0.4, medallion, torch.where(variant < 0.7, zigzag, waves))
    color = torch.where(field > 0.1, p.color_a, p.color_b)
    border = (edge > 0.8) & (p.get("strength") > 0.3)
    color = torch.where(border, third, color)
    color = torch.where((edge > 0.86) & (edge < 0.9) & border, p.color_a, color)
    rough, _ = p.noise(150.0)
    return color * (1 + 0.5 * (rough - 0.5) * _fade(0.02, p.pixel_m))


def _door(p: Patch) -> Tensor:
    """A leaf with recessed panels, one, two or three by two."""
    x, y, variant = p.unit_u, p.unit_v, p.get("variant")
    rows, columns = 1 + torch.floor(variant * 3), torch.where(variant > 0.5, 2.0, 1.0)
    along, up = torch.remainder((x * 0.5 + 0.5) * columns, 1.0), torch.remainder((y * 0.5 + 0.5) * rows, 1.0)
    inset = torch.minimum(torch.minimum(along, 1 - along) * 0.8 / columns, torch.minimum(up, 1 - up) * 2.0 / rows)
    groove = ((0.012 - (inset - 0.1).abs()) / 0.008).clamp(0, 1) * (variant > 0.25)
    _, grain = p.noise(14.0, (8.0, 0.5, 8.0))
    base = mix(p.color_a, p.color_b, (0.4 * p.get("strength") * grain).clamp(0, 1))
    return base * (1 - 0.35 * groove)


_PATTERNS: dict[int, Callable[[Patch], Tensor]] = {
    Texture.PLAIN: _plain,
    Texture.WOOD: _wood,
    Texture.TILES: _tiles,
    Texture.CHECKER: _checker,
    Texture.BRICK: _brick,
    Texture.STRIPES: _stripes,
    Texture.PANELS: _panels,
    Texture.MARBLE: _marble,
    Texture.FABRIC: _fabric,
    Texture.MOTIF: _motif,
    Texture.PICTURE: _picture,
    Texture.WINDOW: _window,
    Texture.BOOKS: _books,
    Texture.SCREEN: _screen,
    Texture.RUG: _rug,
    Texture.DOOR: _door,
    Texture.PHOTO: photo,
    Texture.SKY: sky,
}


def albedo(texture: int, patch: Patch) -> Tensor:
    """Albedo (3, N), 0..1, of points that share a texture; room trim (skirting, wainscot) included."""
    color = _PATTERNS[texture](patch).clamp(0.0, 1.0)
    skirting, wainscot = patch.get("skirting_m"), patch.get("wainscot_m")
    color = torch.where((wainscot > 0) & (patch.v < wainscot), patch.color_b * 0.9, color)
    rail = (wainscot > 0) & ((patch.v - wainscot).abs() < 0.025)
    trim = (skirting > 0) & (patch.v < skirting)
    return torch.where(trim | rail, 0.75 - 0.25 * _line(patch.v, skirting.clamp_min(0.05), 0.012, patch.pixel_m), color)
