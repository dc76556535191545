# SPDX-License-Identifier: Apache-2.0
"""Generated image sequences with true poses.

The object moves as in a hand: smooth rotation about changing axes, sideways and in depth. Its masks
have noisy edges and holes, an arm passes in front of it, and a board hides it for a moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch

from ...checks import check_range
from ...errors import ConfigError
from ...geometry import make_pose
from ...processes.mesh import Mesh
from ...processes.silhouette import RasterRenderer, Renderer
from .scenery import Occluder, background, draw_occluder, random_field, shade

TAGS = ("clean", "occluded", "hidden")
CLEAN_FRACTION = 0.98
HIDDEN_FRACTION = 0.5


@dataclass(frozen=True)
class Frame:
    """One image of a sequence.

    Attributes:
        stamp: seconds since the sequence began.
        mask: (H, W) uint8, 255 on the object: what a segmenter would deliver.
        image: (H, W, 3) uint8 RGB.
        T_camera_object: (4, 4) float64, ground truth.
        tag: "clean", "occluded" (an object in front of it) or "hidden" (less than half of it is visible).
        visible_fraction: share of the silhouette that nothing covers, 0 to 1.
    """

    stamp: float
    mask: np.ndarray
    image: np.ndarray
    T_camera_object: np.ndarray
    tag: str
    visible_fraction: float


@dataclass(frozen=True)
class SequenceConfig:
    """What a generated sequence contains.

    Attributes:
        seconds: length; the events keep their place relative to it.
        rate: frames per second.
        height, width: image size in pixels.
        focal_length: in pixels.
        nearest, farthest: distance of the object in diameters.
        max_turn_deg: largest rotation speed, degrees per second.
        edge_noise: standard deviation of the mask's edge, pixels.
        holes: mean number of holes per mask.
        occlusion: largest share of the silhouette that the passing arm covers, 0 to 0.6.
        hidden_seconds: how long the object is fully covered; 0 leaves the event out.
        seed: of the trajectory, the noise and the scenery.
    """

    seconds: float = 20.0
    rate: float = 30.0
    height: int = 480
    width: int = 640
    focal_length: float = 700.0
    nearest: float = 2.3
    farthest: float = 4.0
    max_turn_deg: float = 60.0
    edge_noise: float = 0.8
    holes: float = 2.0
    occlusion: float = 0.3
    hidden_seconds: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("seconds", self.seconds, 0.1, 3600.0)
        check_range("rate", self.rate, 1.0, 1000.0)
        check_range("height", self.height, 32, 8192)
        check_range("width", self.width, 32, 8192)
        check_range("focal_length", self.focal_length, 1.0)
        check_range("nearest", self.nearest, 1.0)
        check_range("farthest", self.farthest, 1.0)
        check_range("max_turn_deg", self.max_turn_deg, 0.0, 720.0)
        check_range("edge_noise", self.edge_noise, 0.0, 20.0)
        check_range("holes", self.holes, 0.0, 50.0)
        check_range("occlusion", self.occlusion, 0.0, 0.6)
        check_range("hidden_seconds", self.hidden_seconds, 0.0)
        if self.nearest > self.farthest:
            raise ConfigError(f"nearest={self.nearest} is more than farthest={self.farthest}: swap them.")
        if self.hidden_seconds > self.seconds / 4:
            raise ConfigError(
                f"hidden_seconds={self.hidden_seconds}: expected at most a quarter of seconds={self.seconds}."
            )


# (start, end) of the events as shares of the length, and the direction in which the occluder moves, radians.
ARM_PASSES = ((0.22, 0.38, 0.3), (0.72, 0.90, 2.6))
HIDDEN_AT = 0.55


class SequenceGenerator:
    """A seeded sequence of one mesh; frames are made on demand, in any order, the same each time.

    Args:
        mesh: the object.
        config: what happens.
        renderer: draws the mesh; by default the rasteriser.
    """

    def __init__(self, mesh: Mesh, config: SequenceConfig | None = None, renderer: Renderer | None = None) -> None:
        self.mesh = mesh
        self.config = SequenceConfig() if config is None else config
        self._renderer = RasterRenderer(mesh) if renderer is None else renderer
        self.size = (self.config.height, self.config.width)
        self.camera_matrix = np.array(
            [
                [self.config.focal_length, 0.0, self.config.width / 2 - 0.5],
                [0.0, self.config.focal_length, self.config.height / 2 - 0.5],
                [0.0, 0.0, 1.0],
            ]
        )
        self.stamps = np.arange(round(self.config.seconds * self.config.rate)) / self.config.rate
        self.poses = trajectory(mesh, self.config, self.camera_matrix)
        self._background = background(self.size, self.config.seed)
        self._occluders = self._place_occluders()

    def __len__(self) -> int:
        return len(self.stamps)

    def __iter__(self) -> Iterator[Frame]:
        return (self.frame(i) for i in range(len(self)))

    def frame(self, index: int) -> Frame:
        """Frame number ``index``, counted from 0."""
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of a sequence of {len(self)}.")
        rng = np.random.default_rng((self.config.seed, 1, index))
        depth = self._depth(self.poses[index])
        silhouette = depth > 0
        image = shade(self._background, depth, self.camera_matrix, np.array([214.0, 122.0, 38.0]))
        cover = np.zeros(self.size, bool)
        for occluder in self._occluders:
            cover |= draw_occluder(image, occluder, self.stamps[index])
        visible = silhouette & ~cover
        fraction = float(visible.sum() / max(silhouette.sum(), 1))
        tag = "clean" if fraction >= CLEAN_FRACTION else "occluded" if fraction >= HIDDEN_FRACTION else "hidden"
        mask = degrade_mask(visible, self.config.edge_noise, self.config.holes, rng)
        return Frame(float(self.stamps[index]), mask, image, self.poses[index].copy(), tag, fraction)

    def _depth(self, pose: np.ndarray) -> np.ndarray:
        poses = torch.from_numpy(pose[None].astype(np.float32))
        camera = torch.from_numpy(self.camera_matrix.astype(np.float32))
        return self._renderer.render(poses, camera, self.size)[0].numpy()

    def _place_occluders(self) -> list[Occluder]:
        """Arms whose width gives the wanted occlusion, and the board that hides everything for a moment."""
        occluders: list[Occluder] = []
        if self.config.occlusion > 0:
            for begin, end, direction in ARM_PASSES:
                window = (begin * self.config.seconds, end * self.config.seconds)
                occluders.append(self._fit_arm(window, direction))
        if self.config.hidden_seconds > 0:
            start = HIDDEN_AT * self.config.seconds
            window = (start, start + self.config.hidden_seconds)
            occluders.append(Occluder.board(window, self.size, self._centers, self._largest_radius))
        return occluders

    def _fit_arm(self, window: tuple[float, float], direction: float) -> Occluder:
        """The widest arm that covers at most ``occlusion`` of the silhouette (looked at 40 times)."""
        moments = np.linspace(*window, 42)[1:-1]
        indices = np.clip(np.round(moments * self.config.rate).astype(int), 0, len(self) - 1)
        silhouettes = {int(i): self._depth(self.poses[i]) > 0 for i in np.unique(indices)}
        canvas = np.zeros((*self.size, 3), np.uint8)

        def largest_share(width: float) -> float:
            arm = Occluder.arm(window, direction, width, self.size, self._centers, self._largest_radius)
            shares = [
                (draw_occluder(canvas, arm, self.stamps[i]) & seen).sum() / max(seen.sum(), 1)
                for i, seen in silhouettes.items()
            ]
            return float(max(shares))

        low, high = 2.0, float(max(self.size))
        for _ in range(9):
            middle = (low + high) / 2
            low, high = (middle, high) if largest_share(middle) < self.config.occlusion else (low, middle)
        return Occluder.arm(window, direction, low, self.size, self._centers, self._largest_radius)

    @cached_property
    def _largest_radius(self) -> float:
        """Of the object in the image, pixels."""
        depth = (self.poses[:, :3, :3] @ self.mesh.center + self.poses[:, :3, 3])[:, 2]
        return float((self.config.focal_length * 0.5 * self.mesh.diameter / (depth - 0.5 * self.mesh.diameter)).max())

    @cached_property
    def _centers(self) -> tuple[np.ndarray, np.ndarray]:
        """Stamps (N,) and the object's image position (N, 2), pixels."""
        centers = self.poses[:, :3, :3] @ self.mesh.center + self.poses[:, :3, 3]
        pixels = centers @ self.camera_matrix.T
        return self.stamps, pixels[:, :2] / pixels[:, 2:]


def trajectory(mesh: Mesh, config: SequenceConfig, camera_matrix: np.ndarray) -> np.ndarray:
    """Smooth poses of a hand-held object. -> T_camera_object (N, 4, 4) float64.

    Rotation speed and position are sums of three sinusoids per axis with seeded phases; the speed's norm peaks
    at ``max_turn_deg``. Positions keep the whole object in the image.
    """
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng((config.seed, 0))
    count = round(config.seconds * config.rate)
    times = np.arange(count) / config.rate

    def wander(periods: tuple[float, float, float]) -> np.ndarray:
        """(3, N) in [-1, 1]: three smooth signals."""
        waves = np.zeros((3, count))
        for period, weight in zip(periods, (1.0, 0.6, 0.3), strict=True):
            phase = rng.uniform(0, 2 * np.pi, (3, 1))
            stretch = rng.uniform(0.85, 1.15, (3, 1))
            waves += weight * np.sin(2 * np.pi * times / (period * stretch) + phase)
        return waves / np.maximum(np.abs(waves).max(axis=1, keepdims=True), 1.9)

    speed = wander((7.0, 4.0, 2.5)).T
    speed *= np.radians(config.max_turn_deg) / max(float(np.linalg.norm(speed, axis=1).max()), 1e-9)
    steps = Rotation.from_rotvec(speed / config.rate).as_matrix()
    rotations = np.empty((count, 3, 3))
    rotations[0] = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    for i in range(1, count):
        rotations[i] = steps[i - 1] @ rotations[i - 1]

    path = wander((8.0, 5.0, 3.0))
    distance = mesh.diameter * (config.nearest + (config.farthest - config.nearest) * (0.5 + 0.5 * path[2]))
    margin = 0.5 * mesh.diameter * config.focal_length / (distance - 0.5 * mesh.diameter)
    room_x = np.maximum(config.width / 2 - margin - 4, 0.0)
    room_y = np.maximum(config.height / 2 - margin - 4, 0.0)
    pixels = np.stack([camera_matrix[0, 2] + path[0] * room_x, camera_matrix[1, 2] + path[1] * room_y, np.ones(count)])
    centers = (np.linalg.inv(camera_matrix) @ pixels * distance).T
    return make_pose(rotations, centers - rotations @ mesh.center)


def degrade_mask(visible: np.ndarray, edge_noise: float, holes: float, rng: np.random.Generator) -> np.ndarray:
    """What a segmenter makes of a silhouette: a wavering edge and a few holes. (H, W) bool -> uint8 0 or 255."""
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    result = np.zeros(visible.shape, np.uint8)
    if len(rows) == 0:
        return result
    pad = int(4 * edge_noise) + 3
    window = np.s_[max(rows[0] - pad, 0) : rows[-1] + pad + 1, max(columns[0] - pad, 0) : columns[-1] + pad + 1]
    part = visible[window].astype(np.uint8)
    inside = cv2.distanceTransform(part, cv2.DIST_L2, 3)
    outside = cv2.distanceTransform(1 - part, cv2.DIST_L2, 3)
    # The edge lies half-way between two pixel centers: -0.5 inside and +0.5 outside it.
    signed = np.where(part > 0, 0.5 - inside, outside - 0.5)
    kept = signed < edge_noise * random_field(part.shape, 3.0, rng)
    ys, xs = np.nonzero(kept)
    canvas = kept.astype(np.uint8) * 255
    if len(ys) > 0:
        for _ in range(rng.poisson(holes)):
            pick = int(rng.integers(len(ys)))
            axes = tuple(int(a) for a in rng.integers(2, 7, 2))
            cv2.ellipse(canvas, (int(xs[pick]), int(ys[pick])), axes, float(rng.uniform(0, 180)), 0, 360, 0, -1)
    result[window] = canvas
    return result
