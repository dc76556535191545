# SPDX-License-Identifier: Apache-2.0
"""What surrounds the object in a generated sequence: background, shading, and the things that pass in front."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

LIGHTS = (
    ((-0.45, -0.75, -0.5), 0.75),
    ((0.8, -0.1, -0.55), 0.3),
)  # direction to the light (optical frame), strength
AMBIENT = 0.28
ARM_COLOUR = np.array([74.0, 96.0, 128.0])
BOARD_COLOUR = np.array([176.0, 156.0, 124.0])
SLIDE_SECONDS = 0.25


def random_field(shape: tuple[int, int], correlation: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth Gaussian noise of mean 0 and standard deviation 1. -> (H, W) float32; ``correlation`` in pixels."""
    small = (max(int(shape[0] / correlation) + 2, 2), max(int(shape[1] / correlation) + 2, 2))
    field = cv2.resize(rng.standard_normal(small).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return field / max(float(field.std()), 1e-6)


def background(size: tuple[int, int], seed: int) -> np.ndarray:
    """A workbench before a wall, slightly out of focus. -> (H, W, 3) uint8 RGB."""
    height, width = size
    rng = np.random.default_rng((seed, 2))
    horizon = int(0.55 * height)
    rows = np.linspace(0.0, 1.0, height)[:, None, None]
    wall = np.array([118.0, 130.0, 142.0]) * (0.72 + 0.4 * rows)
    bench = np.array([142.0, 128.0, 110.0]) * (0.62 + 0.45 * rows)
    image = np.where(np.arange(height)[:, None, None] < horizon, wall, bench) * np.ones((1, width, 1))
    colours = np.array([[96, 74, 62], [62, 86, 92], [150, 140, 128], [88, 92, 108], [120, 98, 80]], float)
    for i in range(7):  # boxes and jars on the bench
        left = int(width * (i + rng.uniform(0.0, 0.5)) / 7)
        wide, tall = int(width * rng.uniform(0.05, 0.11)), int(height * rng.uniform(0.10, 0.30))
        base = horizon + int(height * rng.uniform(0.01, 0.07))
        tone = colours[int(rng.integers(len(colours)))] * rng.uniform(0.75, 1.1)
        cv2.rectangle(image, (left, base - tall), (left + wide, base), tone.tolist(), -1)
    grain = random_field((height, width), 60.0, rng)[..., None] * 4.0
    streaks = cv2.resize(rng.standard_normal((height, 6)).astype(np.float32), (width, height))[..., None]
    image += grain + np.where(np.arange(height)[:, None, None] < horizon, 0.0, 3.0 * streaks)
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), max(width / 160, 0.5)), dtype=np.float64)
    u, v = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    image *= (1.0 - 0.22 * (u**2 + v**2))[..., None]
    image += rng.standard_normal((height, width, 1)) * 1.5
    return np.clip(image, 0, 255).astype(np.uint8)


def shade(backdrop: np.ndarray, depth: np.ndarray, camera_matrix: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Paint a depth image over a backdrop with two lamps; normals come from the depth. -> (H, W, 3) uint8 RGB."""
    image = backdrop.copy()
    seen = depth > 0
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if len(rows) == 0:
        return image
    top, left = max(rows[0] - 2, 0), max(columns[0] - 2, 0)
    window = np.s_[top : rows[-1] + 3, left : columns[-1] + 3]
    depth, seen = depth[window], seen[window]
    v, u = np.mgrid[top : top + depth.shape[0], left : left + depth.shape[1]].astype(np.float32)
    x = (u - camera_matrix[0, 2]) / camera_matrix[0, 0]
    y = (v - camera_matrix[1, 2]) / camera_matrix[1, 1]
    points = np.stack([x * depth, y * depth, depth], axis=-1).astype(np.float32)
    normals = np.cross(_slope(points, seen, 0), _slope(points, seen, 1))
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    normals *= np.where((normals * points).sum(-1, keepdims=True) > 0, -1.0, 1.0)
    light = np.full(depth.shape, AMBIENT, np.float32)
    gloss = np.zeros(depth.shape, np.float32)
    for direction, strength in LIGHTS:
        toward = np.array(direction) / np.linalg.norm(direction)
        halfway = toward + (0.0, 0.0, -1.0)
        halfway = halfway / np.linalg.norm(halfway)
        light += strength * np.clip(normals @ toward, 0.0, None)
        gloss += strength * np.clip(normals @ halfway, 0.0, None) ** 24
    painted = colour * light[..., None] + 90.0 * gloss[..., None]
    painted[~seen] = 0.0
    alpha = seen.astype(np.float32)
    soft = cv2.GaussianBlur(alpha, (3, 3), 0)[..., None]
    spread = cv2.GaussianBlur(painted, (3, 3), 0) / np.maximum(soft, 1e-3)
    painted = np.where((alpha > 0)[..., None], painted, spread)
    image[window] = np.clip(painted * soft + image[window] * (1.0 - soft), 0, 255).astype(np.uint8)
    return image


def _slope(points: np.ndarray, seen: np.ndarray, axis: int) -> np.ndarray:
    """Difference of neighbouring points along an axis, one-sided (the flatter side) and inside the object only."""
    forward, backward = np.zeros_like(points), np.zeros_like(points)
    ahead = np.s_[:-1] if axis == 0 else np.s_[:, :-1]
    behind = np.s_[1:] if axis == 0 else np.s_[:, 1:]
    difference = points[behind] - points[ahead]
    both = (seen[behind] & seen[ahead])[..., None]
    forward[ahead] = np.where(both, difference, np.inf)
    backward[behind] = np.where(both, difference, np.inf)
    last = np.s_[-1:] if axis == 0 else np.s_[:, -1:]
    first = np.s_[:1] if axis == 0 else np.s_[:, :1]
    forward[last], backward[first] = np.inf, np.inf
    flatter = np.where(np.abs(forward[..., 2:]) <= np.abs(backward[..., 2:]), forward, backward)
    return np.where(np.isfinite(flatter), flatter, 0.0)


@dataclass(frozen=True)
class Occluder:
    """Something that moves through the image in front of the object.

    Attributes:
        times: (K,) seconds; it is in the image between the first and the last.
        points: (K, 2) its anchor in pixels at those times, linear in between.
        axis: (2,) unit vector along the arm, towards its hand; (0, 0) for a board, which is upright.
        width: thickness in pixels.
    """

    times: np.ndarray
    points: np.ndarray
    axis: np.ndarray
    width: float

    @classmethod
    def arm(
        cls,
        window: tuple[float, float],
        direction: float,
        width: float,
        size: tuple[int, int],
        centers: tuple[np.ndarray, np.ndarray],
        radius: float,
    ) -> Occluder:
        """A sleeve that crosses the object, quick outside it and slow over it, at right angles to its own axis.

        Args:
            window: begin and end, seconds.
            direction: of the movement, radians in the image.
            width: thickness, pixels.
            size: (height, width) of the image.
            centers: stamps (N,) and image positions (N, 2) of the object.
            radius: largest radius of the object in the image, pixels.
        """
        move = np.array([np.cos(direction), np.sin(direction)])
        axis = np.array([-move[1], move[0]])
        axis *= -np.sign(axis[1]) if axis[1] != 0 else 1.0  # the hand points up, the arm comes from below
        stamps, pixels = centers
        middle = (window[0] + window[1]) / 2
        crossing = np.array([np.interp(middle, stamps, pixels[:, k]) for k in range(2)])
        reach = crossing + axis * 0.06 * size[1]
        far = float(np.hypot(*size)) + width
        near = 0.7 * radius + width / 2
        share = min(SLIDE_SECONDS / (window[1] - window[0]), 0.3)
        times = np.interp([0.0, share, 1.0 - share, 1.0], [0.0, 1.0], window)
        return cls(times, reach + np.array([[-far], [-near], [near], [far]]) * move, axis, width)

    @classmethod
    def board(
        cls,
        window: tuple[float, float],
        size: tuple[int, int],
        centers: tuple[np.ndarray, np.ndarray],
        radius: float,
    ) -> Occluder:
        """An upright board that slides in, stays over the object during ``window``, and slides out.

        Args:
            window: begin and end of the full cover, seconds.
            size: (height, width) of the image.
            centers: stamps (N,) and image positions (N, 2) of the object.
            radius: largest radius of the object in the image, pixels.
        """
        stamps, pixels = centers
        stay = np.linspace(*window, 12)
        x = np.interp(stay, stamps, pixels[:, 0])
        outside = radius + 10.0
        times = np.r_[window[0] - SLIDE_SECONDS, stay, window[1] + SLIDE_SECONDS]
        x = np.r_[-outside, x, size[1] + outside]
        points = np.stack([x, np.full(len(x), size[0] / 2)], axis=1)
        return cls(times, points, np.zeros(2), 2 * outside)


def draw_occluder(image: np.ndarray, occluder: Occluder, time: float) -> np.ndarray:
    """Paint the occluder into ``image`` (H, W, 3) uint8 in place. -> (H, W) bool, True where it covers."""
    cover = np.zeros(image.shape[:2], np.uint8)
    if not occluder.times[0] <= time <= occluder.times[-1]:
        return cover.astype(bool)
    anchor = np.array([np.interp(time, occluder.times, occluder.points[:, k]) for k in range(2)])
    if not occluder.axis.any():
        _draw_board(image, cover, anchor[0], occluder.width)
    else:
        _draw_arm(image, cover, anchor, occluder.axis, occluder.width)
    return cover.astype(bool)


def _draw_board(image: np.ndarray, cover: np.ndarray, x: float, width: float) -> None:
    left, right = round(x - width / 2), round(x + width / 2)
    height = image.shape[0]
    cv2.rectangle(cover, (left, -1), (right, height), 1, -1)
    cv2.rectangle(image, (left, -1), (right, height), BOARD_COLOUR.tolist(), -1)
    for k, tone in enumerate((0.93, 1.05, 0.97)):  # planks
        edge = left + round(width * (k + 1) / 4)
        cv2.line(image, (edge, 0), (edge, height), (BOARD_COLOUR * tone * 0.9).tolist(), 2)
    cv2.rectangle(image, (left, -2), (right, height + 1), (BOARD_COLOUR * 0.55).tolist(), 2)


def _draw_arm(image: np.ndarray, cover: np.ndarray, hand: np.ndarray, axis: np.ndarray, width: float) -> None:
    length = 2.0 * float(np.hypot(*image.shape[:2]))
    side = np.array([-axis[1], axis[0]])
    tail = hand - axis * length

    def stroke(canvas: np.ndarray, colour: list[float], share: float, shift: float) -> None:
        a, b = np.round([hand + side * shift * width, tail + side * shift * width]).astype(int).tolist()
        cv2.line(canvas, a, b, colour, max(round(width * share), 1))

    stroke(cover, [1.0], 1.0, 0.0)
    for k in range(7):  # a cylinder lit from one side
        stroke(image, (ARM_COLOUR * (0.62 + 0.11 * k)).tolist(), 1.0 - 0.13 * k, 0.03 * k)
