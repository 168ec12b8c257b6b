"""A second ray caster that shares no arithmetic with the first: float64, one pixel at a time, world coordinates."""

from __future__ import annotations

import math

import numpy as np

# Everything in metres and radians; sizes are full edge lengths.
ROOM_M = (4.0, 2.6, 5.0)
BOX = {"centre": (1.2, 0.4, 2.2), "size": (0.7, 0.8, 0.5), "yaw": 0.6}
BALL = {"centre": (2.6, 0.5, 2.6), "radius": 0.5}
CONE = {"centre": (2.0, 0.5, 1.2), "radius": 0.35, "height": 1.0, "taper": -0.4}


def camera_axes(yaw: float, pitch: float, roll: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right, up and forward of a camera that looks along -z at rest: rolled, then pitched up, then turned left."""
    forward = np.array([-math.sin(yaw) * math.cos(pitch), math.sin(pitch), -math.cos(yaw) * math.cos(pitch)])
    level_right = np.array([math.cos(yaw), 0.0, -math.sin(yaw)])
    level_up = np.cross(level_right, forward)
    right = level_right * math.cos(roll) + level_up * math.sin(roll)
    return right, np.cross(right, forward), forward


def hit_box(o: np.ndarray, d: np.ndarray, centre: np.ndarray, size: np.ndarray, yaw: float) -> float:
    """Nearest of the six face planes whose point lies within the face."""
    axes = [
        np.array([math.cos(yaw), 0, -math.sin(yaw)]),
        np.array([0, 1.0, 0]),
        np.array([math.sin(yaw), 0, math.cos(yaw)]),
    ]
    best = math.inf
    for axis in range(3):
        for sign in (-1, 1):
            normal = sign * axes[axis]
            t = np.dot(centre + normal * size[axis] / 2 - o, normal) / np.dot(d, normal)
            offset = o + t * d - centre
            within = all(abs(np.dot(offset, axes[k])) <= size[k] / 2 + 1e-9 for k in range(3) if k != axis)
            if t > 0 and within:
                best = min(best, t)
    return best


def hit_ball(o: np.ndarray, d: np.ndarray, centre: np.ndarray, radius: float) -> float:
    """By the foot of the perpendicular from the centre onto the ray."""
    length = np.linalg.norm(d)
    unit = d / length
    along = np.dot(centre - o, unit)
    miss2 = np.dot(centre - o, centre - o) - along**2
    if miss2 > radius**2 or along < 0:
        return math.inf
    return (along - math.sqrt(radius**2 - miss2)) / length


def hit_cone(o: np.ndarray, d: np.ndarray, centre: np.ndarray, radius: float, height: float, taper: float) -> float:
    """Side by numpy's polynomial roots, ends as discs."""

    def width(y: float) -> float:
        return radius * (1 + taper * (y - centre[1]) / (height / 2))

    slope = radius * taper / (height / 2)
    ox, oz = o[0] - centre[0], o[2] - centre[2]
    coefficients = (
        d[0] ** 2 + d[2] ** 2 - (slope * d[1]) ** 2,
        2 * (ox * d[0] + oz * d[2] - slope * d[1] * width(o[1])),
        ox**2 + oz**2 - width(o[1]) ** 2,
    )
    times = [root.real for root in np.roots(coefficients) if abs(root.imag) < 1e-12]
    best = min((t for t in times if t > 0 and abs(o[1] + t * d[1] - centre[1]) <= height / 2), default=math.inf)
    for end in (centre[1] - height / 2, centre[1] + height / 2):
        t = (end - o[1]) / d[1]
        if t > 0 and math.hypot(ox + t * d[0], oz + t * d[2]) <= width(end):
            best = min(best, t)
    return best


def hit_room(o: np.ndarray, d: np.ndarray, size: np.ndarray) -> float:
    return min(((size[k] if d[k] > 0 else 0.0) - o[k]) / d[k] for k in range(3))
