# SPDX-License-Identifier: Apache-2.0
"""Initial poses from nothing but a mask: a table of silhouettes seen from all around the object.

The observed mask and every view are brought to a common frame (centroid in the middle, area one); the observed one is
turned through the in-plane angles, and overlaps are counted in one matrix product. Depth follows from the area.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ...geometry import fibonacci_directions, make_pose, rotation_angle
from ...processes.rasterizer import PackedMeshes, rasterize_numpy

_VIEW_SIZE = 96
_CANONICAL_SIZE = 32
_CANONICAL_SIDE = 3.2  # side of the canonical frame over the square root of the area
_VIEW_DEPTH = 4.0  # diameters


def _look_from(directions: np.ndarray) -> np.ndarray:
    """Rotations R_camera_object of cameras that look at the object from unit directions. (N, 3) -> (N, 3, 3)."""
    z = -directions
    up = np.where(np.abs(z[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    x = np.cross(up, z)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return np.stack([x, np.cross(z, x), z], axis=1)


def _area_and_centroid(mask: np.ndarray) -> tuple[float, np.ndarray]:
    moments = cv2.moments(mask, binaryImage=True)
    area = moments["m00"]
    return area, np.array([moments["m10"], moments["m01"]]) / max(area, 1.0)


def _canonical(mask: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """The mask in the common frame, turned by each angle. (S, S) uint8 -> (len(angles), 32 * 32) float32 in {0, 1}."""
    area, centroid = _area_and_centroid(mask)
    scale = _CANONICAL_SIZE / (_CANONICAL_SIDE * np.sqrt(max(area, 1.0)))
    middle = (_CANONICAL_SIZE - 1) / 2.0
    out = np.empty((len(angles), _CANONICAL_SIZE * _CANONICAL_SIZE), np.float32)
    for i, angle in enumerate(angles):
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = np.column_stack([turn, middle - turn @ centroid])
        warped = cv2.warpAffine(mask * 255, matrix, (_CANONICAL_SIZE, _CANONICAL_SIZE), flags=cv2.INTER_AREA)
        out[i] = (warped > 127).ravel()
    return out


@dataclass(frozen=True)
class ViewTable:
    """Silhouettes of one normalised mesh from all around.

    Attributes:
        rotations: (N, 3, 3) R_camera_object of each view.
        canonical: (N, 1024) float32 masks in the common frame.
        area: (N,) area on the plane at unit depth, times depth squared (diameters squared).
        centroid: (N, 2) mask centroid relative to the object's center, in diameters.
    """

    rotations: np.ndarray
    canonical: np.ndarray
    area: np.ndarray
    centroid: np.ndarray

    @staticmethod
    def build(packed: PackedMeshes, index: int = 0, views: int = 300) -> ViewTable:
        """Render the table.

        Args:
            packed: normalised meshes.
            index: which of them.
            views: number of directions; 300 are about 13 degrees apart.
        """
        rotations = _look_from(fibonacci_directions(views))
        poses = make_pose(rotations, np.tile([0.0, 0.0, _VIEW_DEPTH], (views, 1)))
        focal = 0.95 * _VIEW_SIZE * (_VIEW_DEPTH - 0.5)
        middle = (_VIEW_SIZE - 1) / 2.0
        camera = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1.0]])
        cameras = np.tile(camera, (views, 1, 1))
        shown = rasterize_numpy(packed, np.full(views, index), poses, cameras, (_VIEW_SIZE, _VIEW_SIZE)) > 0
        canonical = np.empty((views, _CANONICAL_SIZE * _CANONICAL_SIZE), np.float32)
        area, centroid = np.empty(views), np.empty((views, 2))
        scale = _VIEW_DEPTH / focal
        for i, mask in enumerate(shown.astype(np.uint8)):
            pixels, center = _area_and_centroid(mask)
            canonical[i] = _canonical(mask, np.zeros(1))[0]
            area[i] = max(pixels, 1.0) * scale**2
            centroid[i] = (center - middle) * scale
        return ViewTable(rotations, canonical, area, centroid)

    def shortlist(
        self, mask: np.ndarray, camera: np.ndarray, count: int, angles: int = 36, apart: float = 0.3
    ) -> tuple[np.ndarray, np.ndarray]:
        """The poses whose silhouettes overlap best with the mask.

        Args:
            mask: (S, S) uint8 crop.
            camera: (3, 3) pinhole matrix of the crop.
            count: how many poses at most.
            angles: number of in-plane rotations.
            apart: smallest angle between two of them, radians.

        Returns:
            Poses (K, 4, 4) of the normalised object in the crop's camera, and their overlaps (K,), best first.
        """
        turns = np.arange(angles) * (2 * np.pi / angles)
        observed = _canonical(mask, turns)
        common = observed @ self.canonical.T  # (angles, views)
        either = observed.sum(1)[:, None] + self.canonical.sum(1)[None] - common
        overlap = common / np.maximum(either, 1.0)
        order = np.argsort(-overlap, axis=None)[: 40 * count]
        chosen: list[np.ndarray] = []
        scores: list[float] = []
        for flat in order:
            turn, view = divmod(int(flat), len(self.rotations))
            pose = self._pose(mask, camera, -turns[turn], view)
            if chosen and rotation_angle(np.stack(chosen)[:, :3, :3], pose[None, :3, :3]).min() < apart:
                continue
            chosen.append(pose)
            scores.append(float(overlap[turn, view]))
            if len(chosen) == count:
                break
        return np.stack(chosen), np.array(scores)

    def _pose(self, mask: np.ndarray, camera: np.ndarray, angle: float, view: int) -> np.ndarray:
        pixels, center = _area_and_centroid(mask)
        focal = camera[0, 0]
        depth = focal * np.sqrt(self.area[view] / max(pixels, 1.0))
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
        shift = turn[:2, :2] @ self.centroid[view]
        ray = (center - camera[:2, 2]) / focal
        translation = np.array([ray[0] * depth - shift[0], ray[1] * depth - shift[1], depth])
        return make_pose(turn @ self.rotations[view], translation)
