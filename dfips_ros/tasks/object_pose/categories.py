# SPDX-License-Identifier: Apache-2.0
"""Generated instances of the ten categories of Ma et al. 2020 (supplement, table 4), for a machine without CAD models.

Every maker puts together boxes, cylinders and plates in plausible proportions (metres; z up, x to the front); the
parts that an instance has and their sizes are drawn at random. They are no ShapeNet: within a category they vary less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import trimesh
from trimesh import creation
from trimesh.transformations import rotation_matrix

from ...checks import check_choice, check_range
from ...processes.mesh import Mesh

Parts = list[trimesh.Trimesh]
_X, _Y, _Z = np.eye(3)


def category_instance(category: str, seed: int) -> Mesh:
    """One random instance, the same for the same seed.

    Args:
        category: one of :data:`CATEGORIES`.
        seed: not negative.

    Raises:
        ConfigError: no such category; the known ones are listed.
    """
    check_choice("category", category, tuple(CATEGORIES))
    check_range("seed", seed, 0)
    rng = np.random.default_rng((seed, list(CATEGORIES).index(category)))
    parts = CATEGORIES[category](rng)
    start = np.cumsum([0] + [len(part.vertices) for part in parts])
    vertices = np.concatenate([part.vertices for part in parts])
    faces = np.concatenate([part.faces + first for part, first in zip(parts, start, strict=False)])
    return Mesh(f"{category}_{seed}", vertices, faces)


def _box(size: Sequence[float], center: Sequence[float], tilt: float = 0.0, axis: np.ndarray = _Y) -> trimesh.Trimesh:
    """A box (x, y, z) around its center, turned about an axis through it by ``tilt`` radians."""
    solid = creation.box(extents=np.asarray(size, dtype=float))
    return _placed(solid, center, tilt, axis)


def _rod(radius: float, length: float, center: Sequence[float], axis: np.ndarray = _Z) -> trimesh.Trimesh:
    """A cylinder around its center, along x, y or z."""
    solid = creation.cylinder(radius=radius, height=length, sections=14)
    return _placed(solid, center, 0.0 if axis is _Z else np.pi / 2, _Y if axis is _X else _X)


def _placed(solid: trimesh.Trimesh, center: Sequence[float], angle: float, axis: np.ndarray) -> trimesh.Trimesh:
    transform = rotation_matrix(angle, axis)
    transform[:3, 3] = center
    return solid.apply_transform(transform)


def _legs(rng: np.random.Generator, length: float, width: float, height: float, thick: float, inset: float) -> Parts:
    """Four legs below a rectangle of this length (x) and width (y), their upper ends at ``height``."""
    round_ones = rng.uniform() < 0.4
    parts = []
    for sx in (-1, 1):
        for sy in (-1, 1):
            at = (sx * (length / 2 - thick / 2 - inset), sy * (width / 2 - thick / 2 - inset), height / 2)
            parts.append(_rod(thick / 2, height, at) if round_ones else _box((thick, thick, height), at))
    return parts


def _plate(outline: Sequence[tuple[float, float]], thick: float) -> trimesh.Trimesh:
    """A convex plate in the x-y plane, around z = 0."""
    ring = np.asarray(outline, dtype=float)
    points = np.concatenate([np.column_stack([ring, np.full(len(ring), z)]) for z in (-thick / 2, thick / 2)])
    return trimesh.convex.convex_hull(points)


def _seat(rng: np.random.Generator, width: float, arm: float, back_tilt: float) -> Parts:
    """What couches and sofas share: a body, cushions, two arms and a back."""
    depth, height = rng.uniform(0.75, 1.0), rng.uniform(0.35, 0.48)
    foot = rng.uniform(0.0, 0.12)
    body = height - foot
    parts = [_box((depth, width, body), (0, 0, foot + body / 2))]
    back, thick = rng.uniform(0.3, 0.5), rng.uniform(0.15, 0.25)
    parts.append(_box((thick, width, back), (-depth / 2 + thick / 2, 0, height + back / 2 - 0.02), -back_tilt))
    arm_height = rng.uniform(0.12, 0.28)
    for side in (-1, 1):
        at = (0, side * (width / 2 - arm / 2), height + arm_height / 2)
        parts.append(_box((depth, arm, arm_height), at))
        if rng.uniform() < 0.3:
            parts.append(_rod(arm / 2, depth, (0, side * (width / 2 - arm / 2), height + arm_height), _X))
    cushions = int(rng.integers(1, 4))
    each = (width - 2 * arm) / cushions
    for i in range(cushions):
        y = -width / 2 + arm + (i + 0.5) * each
        parts.append(_box((depth - thick, 0.94 * each, 0.1), (thick / 2 + 0.02, y, height + 0.05)))
    if foot > 0.03:
        parts += _legs(rng, depth, width, foot, 0.06, 0.04)
    return parts


def _couch(rng: np.random.Generator) -> Parts:
    """A long seat, often with a chaise at one end."""
    width = rng.uniform(1.8, 2.8)
    parts = _seat(rng, width, rng.uniform(0.14, 0.25), rng.uniform(0.0, 0.2))
    if rng.uniform() < 0.6:
        side = 1.0 if rng.uniform() < 0.5 else -1.0
        long, wide = rng.uniform(0.5, 0.9), rng.uniform(0.6, 0.85)
        parts.append(_box((long, wide, 0.4), (0.4 + long / 2, side * (width - wide) / 2, 0.24)))
    return parts


def _sofa(rng: np.random.Generator) -> Parts:
    """A seat for one to three."""
    return _seat(rng, rng.uniform(0.9, 2.0), rng.uniform(0.1, 0.2), rng.uniform(0.0, 0.3))


def _car(rng: np.random.Generator) -> Parts:
    """A body, a cabin that narrows upwards, wheels."""
    length, width = rng.uniform(3.6, 5.0), rng.uniform(1.6, 1.95)
    radius, clearance, body = rng.uniform(0.29, 0.38), rng.uniform(0.16, 0.3), rng.uniform(0.45, 0.65)
    parts = [_box((length, width, body), (0, 0, clearance + body / 2))]
    cabin, height = length * rng.uniform(0.42, 0.68), rng.uniform(0.45, 0.65)
    back = -rng.uniform(0.0, 0.45) * (length - cabin) + 0.05
    slope_front, slope_back = rng.uniform(0.3, 0.8), rng.uniform(0.05, 0.6)
    bottom, top = clearance + body, clearance + body + height
    corners = [
        (back + (1 - 2 * end) * -cabin / 2 - (slope_back if end == 0 else -slope_front) * -level, side * half, z)
        for end in (0, 1)
        for level, z, half in ((0.0, bottom, 0.47 * width), (1.0, top, 0.38 * width))
        for side in (-1, 1)
    ]
    parts.append(trimesh.convex.convex_hull(np.array(corners)))
    axle = length * rng.uniform(0.29, 0.33)
    for x in (-axle, axle):
        for side in (-1, 1):
            parts.append(_rod(radius, 0.22, (x, side * (width / 2 - 0.1), radius), _Y))
    if rng.uniform() < 0.25:
        parts.append(_box((0.25, 0.9 * width, 0.05), (-length / 2 + 0.12, 0, bottom + 0.25)))
    return parts


def _bench(rng: np.random.Generator) -> Parts:
    """A long seat of planks on legs or side plates, with or without a back and arms."""
    width, depth, height = rng.uniform(1.1, 2.2), rng.uniform(0.35, 0.55), rng.uniform(0.4, 0.5)
    planks = int(rng.integers(1, 5))
    each = depth / planks
    parts = [
        _box((each * (0.8 if planks > 1 else 1.0), width, 0.05), (-depth / 2 + (i + 0.5) * each, 0, height))
        for i in range(planks)
    ]
    if rng.uniform() < 0.5:
        parts += _legs(rng, depth, width, height, rng.uniform(0.05, 0.1), rng.uniform(0.0, 0.05))
    else:
        for side in (-1, 1):
            parts.append(_box((0.9 * depth, 0.07, height), (0, side * width * rng.uniform(0.34, 0.46), height / 2)))
    if rng.uniform() < 0.65:
        rows, tilt = int(rng.integers(1, 4)), rng.uniform(0.05, 0.3)
        for i in range(rows):
            up = 0.15 + 0.14 * i
            parts.append(_box((0.04, width, 0.1), (-depth / 2 - tilt * up, 0, height + up), -tilt))
        for side in (-1, 1):
            post = (-depth / 2 - 0.2 * tilt, side * 0.45 * width, height + 0.22)
            parts.append(_box((0.05, 0.05, 0.5), post, -tilt))
        if rng.uniform() < 0.5:
            for side in (-1, 1):
                parts.append(_box((depth, 0.06, 0.05), (0, side * 0.47 * width, height + 0.22)))
                parts.append(_box((0.05, 0.06, 0.24), (depth / 2 - 0.05, side * 0.47 * width, height + 0.11)))
    return parts


def _monitor(rng: np.random.Generator) -> Parts:
    """A screen on a neck and a foot."""
    width = rng.uniform(0.4, 0.75)
    height = width / rng.uniform(1.25, 2.2)
    thick, lift = rng.uniform(0.02, 0.07), rng.uniform(0.05, 0.16)
    tilt = rng.uniform(-0.05, 0.25)
    middle = lift + height / 2
    parts = [_box((thick, width, height), (0, 0, middle), -tilt)]
    if rng.uniform() < 0.5:  # a bulge behind: electronics, or a tube
        deep = rng.uniform(0.03, 0.25)
        parts.append(_box((deep, 0.6 * width, 0.6 * height), (-thick / 2 - deep / 2, 0, middle), -tilt))
    neck = rng.uniform(0.03, 0.09)
    parts.append(_box((0.04, neck, middle), (-thick / 2 - 0.02, 0, middle / 2)))
    if rng.uniform() < 0.5:
        parts.append(_rod(rng.uniform(0.09, 0.16), 0.02, (-0.02, 0, 0.01)))
    else:
        parts.append(_box((rng.uniform(0.14, 0.24), width * rng.uniform(0.3, 0.6), 0.02), (-0.01, 0, 0.01)))
    return parts


def _chair(rng: np.random.Generator) -> Parts:
    """A seat, a back of slats or a plate, four legs or one on a star; arms at times."""
    depth, width, height = rng.uniform(0.4, 0.55), rng.uniform(0.4, 0.56), rng.uniform(0.4, 0.52)
    thick = rng.uniform(0.03, 0.1)
    parts = [_box((depth, width, thick), (0, 0, height - thick / 2))]
    if rng.uniform() < 0.75:
        parts += _legs(rng, depth, width, height - thick, rng.uniform(0.03, 0.06), rng.uniform(0.0, 0.04))
    else:
        parts.append(_rod(0.03, height, (0, 0, height / 2)))
        for i in range(5):
            turn = _box((0.3, 0.05, 0.04), (0.15, 0, 0.02))
            parts.append(turn.apply_transform(rotation_matrix(2 * np.pi * i / 5, _Z)))
    back, tilt = rng.uniform(0.35, 0.6), rng.uniform(0.0, 0.25)
    x, z = -depth / 2 - 0.5 * back * np.sin(tilt) + 0.02, height + 0.5 * back * np.cos(tilt)
    if rng.uniform() < 0.5:
        parts.append(_box((0.04, width * rng.uniform(0.75, 1.0), back), (x, 0, z), -tilt))
    else:
        for side in (-1, 1):
            parts.append(_box((0.04, 0.04, back), (x, side * (width / 2 - 0.02), z), -tilt))
        rows = int(rng.integers(1, 4))
        for i in range(rows):
            up = back * (0.9 - 0.3 * i)
            parts.append(_box((0.03, width, 0.08), (-depth / 2 - up * np.sin(tilt) + 0.02, 0, height + up), -tilt))
    if rng.uniform() < 0.4:
        rest = rng.uniform(0.17, 0.26)
        for side in (-1, 1):
            parts.append(_box((0.85 * depth, 0.05, 0.04), (0, side * width / 2, height + rest)))
            parts.append(_box((0.04, 0.04, rest), (depth * 0.35, side * width / 2, height + rest / 2)))
    return parts


def _table(rng: np.random.Generator) -> Parts:
    """A round or rectangular top on four legs, two sides or one column."""
    length, width, height = rng.uniform(0.7, 1.3), rng.uniform(0.8, 2.2), rng.uniform(0.4, 0.8)
    thick = rng.uniform(0.03, 0.08)
    if rng.uniform() < 0.3:
        radius = length / 2
        return [
            _rod(radius, thick, (0, 0, height)), _rod(rng.uniform(0.04, 0.1), height, (0, 0, height / 2)),
            _box((1.2 * radius, 0.1, 0.05), (0, 0, 0.025)), _box((0.1, 1.2 * radius, 0.05), (0, 0, 0.025)),
        ]  # fmt: skip
    parts = [_box((length, width, thick), (0, 0, height))]
    if rng.uniform() < 0.7:
        parts += _legs(rng, length, width, height, rng.uniform(0.05, 0.12), rng.uniform(0.0, 0.12))
        if rng.uniform() < 0.4:
            parts.append(_box((0.9 * length, 0.9 * width, 0.03), (0, 0, height * rng.uniform(0.2, 0.4))))
    else:
        for side in (-1, 1):
            parts.append(_box((0.9 * length, 0.05, height), (0, side * 0.45 * width, height / 2)))
    if rng.uniform() < 0.3:  # drawers under one end
        parts.append(_box((0.9 * length, 0.3 * width, 0.5 * height), (0, 0.3 * width, 0.72 * height)))
    return parts


def _plane(rng: np.random.Generator) -> Parts:
    """An aircraft: a fuselage, swept wings, a tail, engines below the wings at times."""
    length, span = 1.0, rng.uniform(0.75, 1.25)
    radius = rng.uniform(0.045, 0.075)
    parts = [creation.icosphere(subdivisions=2).apply_scale((length / 2, radius, radius * rng.uniform(1.0, 1.25)))]
    root, tip, sweep = rng.uniform(0.14, 0.26), rng.uniform(0.04, 0.1), rng.uniform(-0.02, 0.3)
    x, z = rng.uniform(0.02, 0.15), rng.uniform(-0.7, 0.9) * radius
    rise = rng.uniform(0.0, 0.15)
    engines = rng.uniform() < 0.6
    for side in (-1, 1):
        half = [(root / 2, 0), (-root / 2, 0), (-root / 2 - sweep, span / 2), (-root / 2 - sweep + tip, span / 2)]
        wing = _plate([(a, side * b) for a, b in half], 0.018)
        parts.append(_placed(wing, (x, 0, z), side * rise, _X))
        if engines:
            at = (x - 0.3 * sweep + 0.08, side * span * 0.17, z - 0.035)
            parts.append(_rod(rng.uniform(0.02, 0.034), rng.uniform(0.1, 0.16), at, _X))
        small, chord = span * rng.uniform(0.15, 0.2), root * 0.55
        outline = [(chord / 2, 0), (-chord / 2, 0), (-chord, side * small), (-chord / 2, side * small)]
        parts.append(_placed(_plate(outline, 0.012), (-0.42, 0, 0.01), 0.0, _X))
    fin = rng.uniform(0.11, 0.2)
    outline = [(0.07, 0), (-0.08, 0), (-0.13, fin), (-0.06, fin)]
    parts.append(_placed(_plate(outline, 0.012), (-0.4, 0, 0.01), np.pi / 2, _X))
    return parts


def _bed(rng: np.random.Generator) -> Parts:
    """A mattress on a frame with a headboard; at times a canopy, a second storey or a foot board."""
    length, width, height = rng.uniform(1.9, 2.2), rng.uniform(0.9, 2.0), rng.uniform(0.2, 0.4)
    thick = rng.uniform(0.12, 0.28)
    kind = rng.uniform()
    base = rng.uniform(1.2, 1.6) if kind < 0.15 else height  # a loft bed
    parts = [
        _box((length, width, 0.12), (0, 0, base)), _box((0.97 * length, 0.94 * width, thick), (0, 0, base + thick / 2))
    ]  # fmt: skip
    parts += _legs(rng, length, width, base, rng.uniform(0.06, 0.12), 0.0)
    board = rng.uniform(0.35, 0.9)
    parts.append(_box((0.07, width, board), (-length / 2, 0, base + board / 2)))
    if rng.uniform() < 0.5:
        parts.append(_box((0.07, width, 0.5 * board), (length / 2, 0, base + board / 4)))
    if 0.15 <= kind < 0.3:  # two storeys
        above = base + rng.uniform(0.9, 1.1)
        parts += [_box((length, width, 0.2), (0, 0, above)), *_legs(rng, length, width, above, 0.08, 0.0)]
    if 0.3 <= kind < 0.42:  # four posts
        parts += _legs(rng, length, width, 2.0, 0.07, 0.0)
        for side in (-1, 1):
            parts.append(_box((length, 0.06, 0.06), (0, side * (width / 2 - 0.03), 2.0)))
    pillows = int(rng.integers(0, 3))
    for i in range(pillows):
        y = 0.0 if pillows == 1 else (i - 0.5) * 0.48 * width
        parts.append(_box((0.4, 0.4 * width, 0.12), (-length / 2 + 0.28, y, base + thick + 0.05)))
    return parts


def _cabinet(rng: np.random.Generator) -> Parts:
    """A case on feet, or open shelves, with doors or drawers that stand out, and handles."""
    depth, width, height = rng.uniform(0.3, 0.6), rng.uniform(0.4, 1.6), rng.uniform(0.5, 2.0)
    foot = rng.uniform(0.0, 0.15)
    if rng.uniform() < 0.3:  # open shelves
        parts = [_box((depth, 0.04, height), (0, side * width / 2, height / 2)) for side in (-1, 1)]
        shelves = int(rng.integers(2, 6))
        return parts + [_box((depth, width, 0.04), (0, 0, height * i / (shelves - 1))) for i in range(shelves)]
    parts = [_box((depth, width, height - foot), (0, 0, foot + (height - foot) / 2))]
    if foot > 0.04:
        parts += _legs(rng, depth, width, foot, 0.06, 0.02)
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    for i in range(columns):
        for j in range(rows):
            y = -width / 2 + (i + 0.5) * width / columns
            z = foot + (j + 0.5) * (height - foot) / rows
            size = (0.03, 0.92 * width / columns, 0.92 * (height - foot) / rows)
            parts += [_box(size, (depth / 2 + 0.015, y, z)), _rod(0.012, 0.1, (depth / 2 + 0.05, y, z), _Y)]
    if rng.uniform() < 0.35:
        parts.append(_box((1.1 * depth, 1.05 * width, 0.05), (0, 0, height)))
    return parts


CATEGORIES: dict[str, Callable[[np.random.Generator], Parts]] = {
    "couch": _couch, "car": _car, "bench": _bench, "monitor": _monitor, "chair": _chair, "table": _table,
    "sofa": _sofa, "plane": _plane, "bed": _bed, "cabinet": _cabinet,
}  # fmt: skip
