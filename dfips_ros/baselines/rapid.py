# SPDX-License-Identifier: Apache-2.0
"""OpenCV's contour trackers (opencv-contrib ``rapid``): OLS (Seo et al. 2014) and GOS (Wang et al. 2015) on a mask."""

from __future__ import annotations

import cv2
import numpy as np

from ..errors import ConfigError, MissingDependencyError
from ..geometry import make_pose

TRACKERS = ("ols", "gos")


class RapidTracker:
    """One frame of OpenCV's ``rapid`` trackers, from an initial pose.

    Args:
        vertices: (V, 3) metres.
        faces: (F, 3).
        kind: ``ols`` or ``gos``.
        lines: search lines along the contour.
        length: length of a search line, pixels to either side.
        rounds: calls per frame; each runs up to 10 iterations.

    Raises:
        MissingDependencyError: this OpenCV has no ``rapid`` module.
        ConfigError: unknown kind.
    """

    def __init__(
        self, vertices: np.ndarray, faces: np.ndarray, kind: str, lines: int = 100, length: int = 40, rounds: int = 3
    ) -> None:
        if kind not in TRACKERS:
            raise ConfigError(f"kind={kind!r}: expected one of {', '.join(TRACKERS)}.")
        rapid = getattr(cv2, "rapid", None)
        if rapid is None:
            raise MissingDependencyError("RapidTracker needs cv2.rapid: pip install opencv-contrib-python-headless")
        self._make = rapid.OLSTracker_create if kind == "ols" else rapid.GOSTracker_create
        self.vertices = np.ascontiguousarray(vertices, np.float32)
        self.faces = np.ascontiguousarray(faces, np.int32)
        self.kind, self.lines, self.length, self.rounds = kind, lines, length, rounds

    def solve(self, mask: np.ndarray, camera_matrix: np.ndarray, initial: np.ndarray) -> np.ndarray:
        """Track one mask. (H, W) bool, (3, 3), (4, 4) -> T_camera_object (4, 4); ``initial`` if OpenCV gives up."""
        tracker = self._make(self.vertices, self.faces)
        image = np.repeat((mask.astype(np.uint8) * 255)[..., None], 3, axis=2)
        rotation = cv2.Rodrigues(initial[:3, :3])[0].astype(np.float64)
        translation = initial[:3, 3:].astype(np.float64).copy()
        stop = (cv2.TERM_CRITERIA_MAX_ITER | cv2.TERM_CRITERIA_EPS, 10, 0.05)
        try:
            for _ in range(self.rounds):
                _, rotation, translation = tracker.compute(
                    image, self.lines, self.length, camera_matrix, rotation, translation, stop
                )
        except cv2.error:
            return initial
        if not (np.isfinite(rotation).all() and np.isfinite(translation).all()) or translation[2, 0] <= 0:
            return initial
        return make_pose(cv2.Rodrigues(rotation)[0], translation[:, 0])
