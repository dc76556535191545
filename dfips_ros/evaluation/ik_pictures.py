# SPDX-License-Identifier: Apache-2.0
"""Line drawings of an arm and its target, for animations."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from ..processes.kinematics import ChainForward, SerialChain
from .figures import AXIS_COLOURS

SIZE = (720, 720)
PAPER, ARM, JOINT, TRAIL, GRID = (250, 250, 248), (58, 66, 82), (240, 120, 40), (120, 170, 230), (222, 224, 226)
TRAIL_LENGTH = 90  # pictures
AXIS_LENGTH = 0.12  # of the reach
ELEVATION, TURN_PER_PICTURE = 0.45, 0.002


class ArmDrawing:
    """Draws an arm as lines through its joints, from a camera that goes slowly round.

    Args:
        chain: the arm.
        configurations: (N, n) that will be drawn; they set the scale.
    """

    def __init__(self, chain: SerialChain, configurations: np.ndarray) -> None:
        forward = ChainForward(chain, dtype=torch.float64)
        _, tip, _, origins = forward.with_axes(torch.from_numpy(np.ascontiguousarray(configurations)))
        self._points = torch.stack([torch.zeros_like(tip), *origins, tip], dim=1).numpy()  # (N, m + 2, 3)
        low, high = self._points.min(axis=(0, 1)), self._points.max(axis=(0, 1))
        self._middle = 0.5 * (low + high)
        self._reach = float(np.linalg.norm(high - low)) / 2
        self._low = float(low[2])

    def draw(self, index: int, target: np.ndarray, lines: Sequence[str]) -> np.ndarray:
        """The arm at configuration ``index``, the target's axes (4, 4), and some text. -> (H, W, 3) uint8 RGB."""
        picture = np.full((*SIZE, 3), PAPER, np.uint8)
        angle = 0.7 + TURN_PER_PICTURE * index
        self._ground(picture, angle)
        trail = self._pixels(self._points[max(0, index - TRAIL_LENGTH) : index + 1, -1], angle)
        cv2.polylines(picture, [trail], False, TRAIL, 2, cv2.LINE_AA)
        arm = self._pixels(self._points[index], angle)
        cv2.polylines(picture, [arm], False, ARM, 7, cv2.LINE_AA)
        for point in arm[1:-1]:
            cv2.circle(picture, (int(point[0]), int(point[1])), 7, JOINT, -1, cv2.LINE_AA)
        origin, length = target[:3, 3], AXIS_LENGTH * self._reach
        for axis, colour in enumerate(AXIS_COLOURS):
            ends = self._pixels(np.stack([origin, origin + length * target[:3, axis]]), angle)
            cv2.polylines(picture, [ends], False, colour, 3, cv2.LINE_AA)
        for row, text in enumerate(lines):
            place = (16, 30 + 24 * row)
            cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.55, ARM, 1, cv2.LINE_AA)
        return picture

    def _ground(self, picture: np.ndarray, angle: float) -> None:
        span = np.linspace(-1.0, 1.0, 9) * self._reach
        for offset in span:
            for ends in (((offset, span[0]), (offset, span[-1])), ((span[0], offset), (span[-1], offset))):
                points = np.array([[x, y, self._low] for x, y in ends])
                cv2.polylines(picture, [self._pixels(points, angle)], False, GRID, 1, cv2.LINE_AA)

    def _pixels(self, points: np.ndarray, angle: float) -> np.ndarray:
        """Pixels (K, 2) int32 of points (K, 3), drawn without perspective."""
        x, y, z = (points - self._middle).T
        across, depth = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
        up = z * np.cos(ELEVATION) + depth * np.sin(ELEVATION)
        scale = 0.42 * SIZE[0] / self._reach
        pixels = np.stack([SIZE[1] / 2 + scale * across, SIZE[0] / 2 - scale * up], axis=1)
        return np.round(pixels).astype(np.int32)
