# SPDX-License-Identifier: Apache-2.0
"""Draws an estimate over the camera's image: contour of the simulated mask and the axes of the object."""

from __future__ import annotations

import cv2
import numpy as np

CONTOUR_COLOUR = (60, 220, 60)
MASK_COLOUR = (90, 60, 20)
TEXT_COLOUR = (255, 255, 255)
AXIS_COLOURS = ((40, 40, 230), (40, 200, 40), (230, 120, 30))  # x red, y green, z blue, in BGR


def overlay_background(mask: np.ndarray, colour: np.ndarray | None = None) -> np.ndarray:
    """What the overlay is drawn on, as a new (H, W, 3) uint8 BGR array.

    Args:
        mask: (H, W) bool, the observation.
        colour: BGR image of any size, resized to the mask; None: the mask itself in grey.
    """
    height, width = mask.shape
    if colour is None:
        return np.repeat((mask.view(np.uint8) * np.uint8(110))[:, :, None], 3, axis=2)
    image = np.ascontiguousarray(colour)
    if image.shape[:2] != (height, width):
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return image.copy()


def draw_estimate(
    image: np.ndarray,
    simulated_mask: np.ndarray,
    T_camera_object: np.ndarray,
    camera_matrix: np.ndarray,
    axis_length: float,
) -> None:
    """Draw the contour of a simulated mask (H, W) bool and the object's axes [m] into a BGR image."""
    contours, _ = cv2.findContours(simulated_mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(image, contours, -1, CONTOUR_COLOUR, 1, cv2.LINE_AA)
    ends = np.concatenate([np.zeros((1, 3)), np.eye(3) * axis_length])
    points = ends @ T_camera_object[:3, :3].T + T_camera_object[:3, 3]
    if (points[:, 2] <= 1e-6).any():
        return
    pixels = points @ camera_matrix.T
    pixels = np.clip(pixels[:, :2] / pixels[:, 2:], -1e4, 1e4).round().astype(int)
    origin = tuple(int(v) for v in pixels[0])
    for end, colour in zip(pixels[1:], AXIS_COLOURS, strict=True):
        cv2.line(image, origin, tuple(int(v) for v in end), colour, 2, cv2.LINE_AA)


def draw_text(image: np.ndarray, text: str, line: int = 0) -> None:
    """Write a line into the upper left corner of a BGR image, in place; ``line`` counts from the top."""
    scale = max(0.4, image.shape[1] / 1280)
    place = (8, int(28 * scale * (line + 1)) + 4)
    for colour, thickness in (((0, 0, 0), 3), (TEXT_COLOUR, 1)):
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
