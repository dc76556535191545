# SPDX-License-Identifier: Apache-2.0
"""Random shapes to train on: what a robot meets is boxes, vessels, tools, furniture, vehicles, animals and parts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import trimesh
from trimesh import creation
from trimesh.transformations import random_rotation_matrix, rotation_matrix

from ...processes.mesh import Mesh

_AXES = np.eye(3)


def random_shape(seed: int) -> Mesh:
    """One random object of diameter 0.2 m to 1 m, the same for the same seed."""
    rng = np.random.default_rng(seed)
    maker = _MAKERS[int(rng.choice(len(_MAKERS), p=_WEIGHTS))]
    parts = maker(rng)
    start = np.cumsum([0] + [len(part.vertices) for part in parts])
    vertices = np.concatenate([part.vertices for part in parts])
    faces = np.concatenate([part.faces + first for part, first in zip(parts, start, strict=False)])
    if rng.uniform() < 0.5:
        vertices = vertices * rng.uniform(0.6, 1.4, 3)
    extent = float(np.ptp(vertices, axis=0).max())
    return Mesh(f"{maker.__name__.strip('_')}_{seed}", vertices * (rng.uniform(0.2, 1.0) / extent), faces)


def _move(solid: trimesh.Trimesh, offset: np.ndarray, axis: int | None = None, angle: float = 0.0) -> trimesh.Trimesh:
    transform = np.eye(4) if axis is None else rotation_matrix(angle, _AXES[axis])
    transform[:3, 3] = offset
    return solid.apply_transform(transform)


def _tilt(solid: trimesh.Trimesh, rng: np.random.Generator) -> trimesh.Trimesh:
    return solid.apply_transform(random_rotation_matrix(rng.uniform(size=3)))


def _box(extents: np.ndarray | tuple[float, ...]) -> trimesh.Trimesh:
    return creation.box(extents=np.asarray(extents, dtype=float))


def _ball(radii: np.ndarray, subdivisions: int = 2) -> trimesh.Trimesh:
    return creation.icosphere(subdivisions=subdivisions).apply_scale(radii)


def _rod(radius: float, length: float, sections: int = 14) -> trimesh.Trimesh:
    return creation.cylinder(radius=radius, height=length, sections=sections)


def _revolved(rng: np.random.Generator, points: int) -> trimesh.Trimesh:
    """A vessel: a random smooth profile turned about z."""
    z = np.linspace(0.0, 1.0, points) * rng.uniform(0.5, 2.0)
    radius = np.interp(z, np.linspace(0, z[-1], 5), rng.uniform(0.12, 0.5, 5))
    profile = np.stack([np.concatenate([[0.0], radius, [0.0]]), np.concatenate([[0.0], z, [z[-1]]])], axis=1)
    return creation.revolve(profile, sections=20)


def _extruded(rng: np.random.Generator, corners: int) -> trimesh.Trimesh:
    """A plate or prism whose outline is a random star-shaped polygon."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    ring = rng.uniform(0.2, 1.0, corners)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    height = rng.uniform(0.05, 0.8)
    bottom = np.column_stack([ring, np.zeros(corners)])
    top = np.column_stack([ring, np.full(corners, height)])
    vertices = np.concatenate([bottom, top, [[0, 0, 0], [0, 0, height]]])
    faces = []
    for i in range(corners):
        j = (i + 1) % corners
        faces += [[i, j, corners + j], [i, corners + j, corners + i], [2 * corners, j, i]]
        faces += [[2 * corners + 1, corners + i, corners + j]]
    return trimesh.Trimesh(vertices, faces, process=False)


def _primitive(rng: np.random.Generator) -> trimesh.Trimesh:
    size = rng.uniform(0.12, 1.0, 3)
    kind = rng.integers(0, 7)
    if kind == 0:
        return _box(size)
    if kind == 1:
        return _rod(size[0] / 2, size[1])
    if kind == 2:
        return _ball(size / 2)
    if kind == 3:
        return creation.cone(radius=size[0] / 2, height=size[1], sections=16)
    if kind == 4:
        return creation.capsule(height=size[1], radius=size[0] / 3, count=[10, 10])
    if kind == 5:
        return creation.torus(size[0] / 2, size[0] * rng.uniform(0.08, 0.2), major_sections=18, minor_sections=8)
    return creation.annulus(size[0] * rng.uniform(0.2, 0.45), size[0] / 2, height=size[1] / 2, sections=18)


def _assembly(rng: np.random.Generator) -> list[trimesh.Trimesh]:
    parts = []
    for _ in range(rng.integers(1, 6)):
        part = _primitive(rng)
        part = _tilt(part, rng) if rng.uniform() < 0.5 else part
        parts.append(_move(part, rng.uniform(-0.5, 0.5, 3)))
    return parts


def _box_like(rng: np.random.Generator) -> list[trimesh.Trimesh]:
    return [_box(rng.uniform(0.15, 1.0, 3))]


def _vessel(rng: np.random.Generator) -> list[trimesh.Trimesh]:
    body = _revolved(rng, 14)
    parts = [body]
    height, radius = body.bounds[1, 2], body.bounds[1, 0]
    if rng.uniform() < 0.7:
        size = rng.uniform(0.2, 0.4) * height
        ring = creation.torus(size, 0.2 * size, major_sections=16, minor_sections=8)
        parts.append(_move(ring, np.array([radius, 0, height * rng.uniform(0.4, 0.7)]), 0, np.pi / 2))
    if rng.uniform() < 0.3:
        spout = creation.cone(radius=0.2 * radius, height=radius * 1.2, sections=12)
        parts.append(_move(spout, np.array([-radius * 0.7, 0, height * 0.5]), 1, -rng.uniform(0.6, 1.2)))
    return parts


def _plate(rng: np.random.Generator) -> list[trimesh.Trimesh]:
    parts = [_extruded(rng, int(rng.integers(3, 12)))]
    for _ in range(rng.integers(0, 3)):
        parts.append(_move(_tilt(_extruded(rng, int(rng.integers(3, 9))), rng), rng.uniform(-0.4, 0.4, 3)))
    return parts


def _furniture(rng: np.random.Generator) -> list[trimesh.Trimesh]:
    width, depth, height = rng.uniform(0.5, 1.6), rng.uniform(0.4, 1.0), rng.uniform(0.3, 1.0)
    board, leg = rng.uniform(0.03, 0.15), rng.uniform(0.03, 0.1)
    parts = [_move(_box((width, depth, board)), np.array([0, 0, height]))]
    kind = rng.integers(0, 3)
    if kind == 0:  # on four legs
        for sx in (-1, 1):
            for sy in (-1, 1):
                post = _box((leg, leg, height)) if rng.uniform() < 0.7 else _rod(leg / 2, height, 8)
                parts.append(_move(post, np.array([sx * (width - leg) / 2, sy * (depth - leg) / 2, height / 2])))
    elif kind == 1:  # on a solid base
        parts.append(_move(_box((width, depth, height)), np.array([0, 0, height / 2])))
    else:  # on one column
        parts.append(_move(_rod(leg, height), np.array([0, 0, height / 2])))
        parts.append(_move(_rod(0.3 * width, board), np.array([0, 0, 0])))
    if rng.uniform() < 0.6:  # a back
        back = rng.uniform(0.3, 1.0)
        parts.append(_move(_box((width, board, back)), np.array([0, (depth - board) / 2, height + back / 2])))
    for side in (-1, 1):
        if rng.uniform() < 0.4:  # arms
            arm = rng.uniform(0.1, 0.35)
            parts.append(_move(_box((board, depth, arm)), np.array([side * (width - board) / 2, 0, height + arm / 2])))
    return parts


def _tool(rng: np.random.Generator) -> list[trimesh.Trimesh]:
    length = rng.uniform(0.6, 1.2)
    thick = rng.uniform(0.04, 0.14)
    parts = [_rod(thick, length) if rng.uniform() < 0.6 else _box((1.6 * thick, thick, length))]
    head = _primitive(rng).apply_scale(rng.uniform(0.3, 0.7))
    parts.append(_move(head, np.array([rng.uniform(-0.15, 0.15), 0, length / 2]), int(rng.integers(3)), np.pi / 2))
    if rng.uniform() < 0.6:
        grip = _box(rng.uniform(0.08, 0.35, 3)) if rng.uniform() < 0.5 else _rod(rng.uniform(0.05, 0.12), 0.5)
        offset = np.array([rng.uniform(0.05, 0.25), 0, -length / 2 + rng.uniform(0.0, 0.3)])
        parts.append(_move(grip, offset, 1, rng.uniform(0, np.pi / 2)))
    if rng.uniform() < 0.4:
        parts.append(_move(_box(rng.uniform(0.1, 0.4, 3)), np.array([rng.uniform(-0.3, 0.3), 0, -length / 2])))
    return parts


def _vehicle(rng: np.random.Generator) -> list[trimesh.Trimesh]:
    length, width, height = rng.uniform(1.0, 2.0), rng.uniform(0.4, 0.8), rng.uniform(0.2, 0.5)
    parts = [_box((length, width, height))]
    cabin = (length * rng.uniform(0.25, 0.6), width * rng.uniform(0.7, 1.0), height * rng.uniform(0.5, 1.2))
    shift = rng.uniform(-0.5, 0.5) * (length - cabin[0])
    parts.append(_move(_box(cabin), np.array([shift, 0, (height + cabin[2]) / 2])))
    radius = rng.uniform(0.1, 0.25)
    for x in (-0.33, 0.33):
        for y in (-0.5, 0.5):
            wheel = _rod(radius, 0.12)
            parts.append(_move(wheel, np.array([x * length, y * width, -height / 2]), 0, np.pi / 2))
    return parts


def _plane(rng: np.random.Generator) -> list[trimesh.Trimesh]:
    length, span, thick = 1.0, rng.uniform(0.6, 1.4), rng.uniform(0.02, 0.05)
    parts = [_ball(np.array([length / 2, rng.uniform(0.05, 0.12), rng.uniform(0.05, 0.12)]))]
    wing = _box((rng.uniform(0.12, 0.3), span, thick))
    parts.append(_move(wing, np.array([rng.uniform(-0.05, 0.2), 0, rng.uniform(-0.06, 0.06)])))
    tail = _box((0.12, span * rng.uniform(0.25, 0.45), thick))
    parts.append(_move(tail, np.array([-0.45, 0, rng.uniform(0.0, 0.25)])))
    parts.append(_move(_box((0.14, thick, rng.uniform(0.15, 0.3))), np.array([-0.45, 0, 0.1])))
    return parts


def _blob(rng: np.random.Generator) -> list[trimesh.Trimesh]:
    ball = creation.icosphere(subdivisions=3)
    waves = rng.normal(size=(6, 3)) * rng.uniform(0.5, 2.5)
    phase, height = rng.uniform(0, 2 * np.pi, 6), rng.uniform(0.0, 0.14, 6)
    radius = 1.0 + (np.sin(ball.vertices @ waves.T + phase) * height).sum(axis=1)
    ball.vertices = ball.vertices * radius[:, None] * rng.uniform(0.4, 1.0, 3)
    return [ball]


def _animal(rng: np.random.Generator) -> list[trimesh.Trimesh]:
    body = _ball(rng.uniform((0.35, 0.15, 0.15), (0.6, 0.3, 0.3)))
    parts = [body]
    front = body.bounds[1, 0]
    head = _ball(rng.uniform(0.1, 0.22, 3))
    parts.append(_move(head, np.array([front, 0, rng.uniform(0.0, 0.4)])))
    leg, radius = rng.uniform(0.2, 0.5), rng.uniform(0.03, 0.08)
    for x in (-0.6, 0.6):
        for y in (-0.1, 0.1):
            tilt = rng.uniform(-0.4, 0.4)
            parts.append(_move(_rod(radius, leg, 8), np.array([x * front, y, -leg / 2 - 0.05]), 1, tilt))
    if rng.uniform() < 0.6:
        tail = creation.capsule(height=rng.uniform(0.2, 0.5), radius=0.03, count=[8, 8])
        parts.append(_move(tail, np.array([-front, 0, rng.uniform(0, 0.2)]), 1, rng.uniform(-2, 2)))
    return parts


_Maker = Callable[[np.random.Generator], list[trimesh.Trimesh]]
_MAKERS: list[_Maker] = [
    _assembly, _box_like, _vessel, _plate, _furniture, _tool, _vehicle, _plane, _blob, _animal,
]  # fmt: skip
_WEIGHTS = np.array([0.28, 0.04, 0.1, 0.1, 0.12, 0.12, 0.06, 0.06, 0.06, 0.06])
