# SPDX-License-Identifier: Apache-2.0
"""OpenCV's contour trackers (module ``rapid`` of opencv-contrib) as estimators of a pose from one silhouette.

Control points are sampled along the projected outline, each searches the image along its normal, and a
Levenberg-Marquardt PnP moves the pose (Harris and Stennett, "RAPID", BMVC 1990; Drummond and Cipolla, PAMI 2002).
``OLS`` takes the outermost edge whose inner side looks like the object (Seo et al., "Optimal local searching for fast
and robust textureless 3D object tracking in highly cluttered backgrounds", TVCG 2014), ``GOS`` the best chain of edges
around the outline (Wang et al., "Robust edge-based 3D object tracking with direction-based pose validation", 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import trimesh
from torch import Tensor

from ..checks import check_choice, check_range
from ..errors import ConfigError, MissingDependencyError
from ..geometry import make_pose
from ..solver import Solution

TRACKERS = {"ols": "OLSTracker_create", "gos": "GOSTracker_create"}
_OBJECT, _GROUND = (0, 0, 255), (0, 255, 0)  # hues that the trackers' histograms tell apart (they skip dark pixels)
_ONE_STEP = (cv2.TERM_CRITERIA_MAX_ITER, 1, 0.0)


@dataclass(frozen=True)
class OpencvRapidConfig:
    """Settings of the trackers.

    Attributes:
        tracker: "ols" or "gos".
        points: control points along the outline.
        reaches: how far each of them searches along its normal, over the longer side of the mask's bounding box; one
            after the other, wide to narrow.
        iterations: PnP solutions at each reach.
        longest_edge: the mesh's edges are split until none is longer, over the diagonal of its bounding box.
    """

    tracker: str = "ols"
    points: int = 100
    reaches: tuple[float, ...] = (0.3, 0.15, 0.05)
    iterations: int = 10
    longest_edge: float = 0.08

    def __post_init__(self) -> None:
        check_choice("tracker", self.tracker, tuple(TRACKERS))
        check_range("points", self.points, 3, 10_000)
        check_range("iterations", self.iterations, 1, 10_000)
        check_range("longest_edge", self.longest_edge, 1e-3, 1.0)
        if not self.reaches or min(self.reaches) <= 0:
            raise ConfigError(f"reaches={self.reaches}: expected one or more positive numbers.")


class OpencvRapid:
    """Pose from a silhouette by one of OpenCV's contour trackers; an ``Estimator`` of batches of (mask, camera).

    The trackers want a colour image and have seen the object before: the mask is painted in two hues, and before each
    solve they see the object at the initial pose, as from the frame before.

    Args:
        vertices: (V, 3) in the unit of the poses.
        faces: (F, 3); winding does not matter.
        config: see :class:`OpencvRapidConfig`.

    Raises:
        MissingDependencyError: OpenCV is installed without its module ``rapid``.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray, config: OpencvRapidConfig | None = None) -> None:
        self._rapid: Any = getattr(cv2, "rapid", None)
        if self._rapid is None:
            raise MissingDependencyError(
                "OpenCV's contour trackers need its module 'rapid', which this OpenCV "
                f"({cv2.__version__}) lacks. Install opencv-contrib-python-headless in its place."
            )
        self.config = config or OpencvRapidConfig()
        # Control points lie between vertices that are seen on the outline: a flat face needs some of its own.
        size = self.config.longest_edge * float(np.linalg.norm(np.ptp(vertices, axis=0)))
        vertices, faces = trimesh.remesh.subdivide_to_size(np.asarray(vertices, np.float64), faces, size)
        self.vertices = np.ascontiguousarray(vertices, dtype=np.float32)[:, None]
        self.faces = np.ascontiguousarray(np.concatenate([faces, faces[:, ::-1]]), dtype=np.int32)[:, None]

    def estimate(self, observation: tuple[Tensor, Tensor], initial: Tensor | None = None) -> Solution:
        """Track from ``initial``.

        Args:
            observation: masks (B, H, W), non-zero on the object, and cameras (B, 3, 3).
            initial: (B, 4, 4).

        Returns:
            The poses; of an object that was lost on the way it is the initial one. The trackers know no residual norm:
            those are NaN.

        Raises:
            ConfigError: no initial estimate was given.
        """
        if initial is None:
            raise ConfigError("initial: a tracker needs an initial estimate (B, 4, 4), got None.")
        masks, cameras = observation
        found = torch.stack(
            [
                torch.from_numpy(self._track(m.numpy() > 0, k.double().numpy(), x.double().numpy())).to(initial)
                for m, k, x in zip(masks, cameras, initial, strict=True)
            ]
        )
        return Solution(found, (initial, found), torch.full((len(found), 2), torch.nan))

    def _track(self, mask: np.ndarray, camera: np.ndarray, initial: np.ndarray) -> np.ndarray:
        c = self.config
        tracker = getattr(self._rapid, TRACKERS[c.tracker])(self.vertices, self.faces)
        # The blur of ``_painted`` puts edges onto pixels and moves the image by half a pixel.
        matrix = camera + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        rotation, translation = cv2.Rodrigues(initial[:3, :3])[0], initial[:3, 3:].copy()
        bounds = cv2.boundingRect(mask.astype(np.uint8))
        side = max(bounds[2:])
        image = _painted(mask)
        try:
            before = _painted(self._silhouette(mask.shape, camera, rotation, translation))
            length = self._length(c.reaches[0], side)
            tracker.compute(before, c.points, length, matrix, rotation.copy(), translation.copy(), _ONE_STEP)
            for reach in c.reaches:
                length = self._length(reach, side)
                for _ in range(c.iterations):
                    # One step per call: from the second on, OpenCV 5.0 trips over the shape of its own buffers.
                    share, turned, moved, *_ = tracker.compute(
                        image, c.points, length, matrix, rotation.copy(), translation.copy(), _ONE_STEP
                    )
                    if not np.linalg.norm(moved - initial[:3, 3:]) < 0.5 * np.linalg.norm(initial[:3, 3]):
                        return initial  # it has run away: lost
                    if share == 0:
                        break
                    rotation, translation = turned, moved
        except cv2.error:
            return initial  # the outline has left the image: lost
        return make_pose(cv2.Rodrigues(rotation)[0], translation[:, 0])

    @staticmethod
    def _length(reach: float, side: float) -> int:
        return max(3, round(reach * side))

    def _silhouette(
        self, shape: tuple[int, ...], camera: np.ndarray, rotation: np.ndarray, translation: np.ndarray
    ) -> np.ndarray:
        points, _ = cv2.projectPoints(self.vertices, rotation, translation, camera, None)
        out = np.zeros(shape, np.uint8)
        corners = np.clip(points[:, 0].round(), -30_000, 30_000).astype(np.int32)
        for face in corners[self.faces[: len(self.faces) // 2, 0]]:
            cv2.fillConvexPoly(out, face, 1)
        return out > 0


def _painted(mask: np.ndarray) -> np.ndarray:
    """Object and background in two hues, (H, W) bool -> (H, W, 3) uint8; between them one pixel is halfway."""
    picture = np.where(mask[..., None], _OBJECT, _GROUND).astype(np.uint8)
    return np.asarray(cv2.blur(picture, (2, 2)))
