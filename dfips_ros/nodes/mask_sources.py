# SPDX-License-Identifier: Apache-2.0
"""The masks of several objects from one message with the instances of a detector."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ..errors import DfipsError, MaskError, MissingDependencyError
from ..messages.labels import Masks
from .tracker_parameters import PoseTrackerParameters

MAX_SIDE = 8192  # pixels


def detections_type() -> Any:
    """The class yolo_msgs/msg/DetectionArray.

    Raises:
        MissingDependencyError: yolo_msgs is not installed; the message says what to do.
    """
    try:
        return importlib.import_module("yolo_msgs.msg").DetectionArray
    except ImportError as cause:
        raise MissingDependencyError(
            "mask_source='detections' needs the package yolo_msgs, which cannot be imported. Build it (it comes with "
            "yolo_ros), or set mask_source to 'image'."
        ) from cause


class InstanceMasks:
    """Masks from ``yolo_msgs/msg/DetectionArray``, used by its field names alone.

    Of the detections of an object's class the one is taken that the detector tracks as it did before (``id``), else the
    one with the highest score.
    """

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def forget(self, name: str | None = None) -> None:
        """Choose by score again, for one object or for all."""
        self._ids = {} if name is None else {each: i for each, i in self._ids.items() if each != name}

    def masks(self, message: Any, objects: Sequence[PoseTrackerParameters], size: tuple[int, int]) -> Masks:
        """Masks (H, W) bool of objects by name; empty where an object is not detected.

        Args:
            message: the DetectionArray.
            objects: parameters of one object each.
            size: (height, width) where no detection tells.

        Raises:
            MaskError: the detections tell different sizes, or impossible ones.
        """
        size = _size_of(message.detections) or size
        found: Masks = {}
        for each in objects:
            fitting = [one for one in message.detections if one.class_name == each.detected_class]
            known = [one for one in fitting if one.id and one.id == self._ids.get(each.name)]
            chosen = max(known or fitting, key=lambda one: one.score, default=None)
            try:
                found[each.name] = np.zeros(size, bool) if chosen is None else _filled(chosen, size)
                if chosen is not None:
                    self._ids[each.name] = chosen.id
            except MaskError as error:
                found[each.name] = error
        return found


def size_of_masks(masks: Mapping[str, np.ndarray | DfipsError]) -> tuple[int, int] | None:
    """(height, width) of masks of one image; None where there is none."""
    for mask in masks.values():
        if isinstance(mask, np.ndarray):
            return mask.shape[0], mask.shape[1]
    return None


def _size_of(detections: Sequence[Any]) -> tuple[int, int] | None:
    sizes = {(int(one.mask.height), int(one.mask.width)) for one in detections if len(one.mask.data)}
    if len(sizes) > 1:
        raise MaskError(f"detections: expected masks of one size, got (height, width) {sorted(sizes)}.")
    for height, width in sizes:
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
            raise MaskError(f"detections: expected a mask's sides to be 1 to {MAX_SIDE}, got {width}x{height}.")
        return height, width
    return None


def _filled(detection: Any, size: tuple[int, int]) -> np.ndarray:
    """The area inside the border that a detection's mask holds; holes are not told."""
    what = f"detection of '{detection.class_name}'"
    if not len(detection.mask.data):
        raise MaskError(f"{what}: it has no mask. Use a segmentation model (in yolo_ros: its name ends in -seg).")
    border = np.array([(point.x, point.y) for point in detection.mask.data], dtype=np.float64)
    if len(border) < 3 or not np.isfinite(border).all():
        raise MaskError(f"{what}: expected a border of three finite points or more, got {len(border)} points.")
    canvas = np.zeros(size, np.uint8)
    limited = np.clip(np.rint(border), -MAX_SIDE, 2 * MAX_SIDE).astype(np.int32)
    cv2.fillPoly(canvas, [limited], 1)
    return canvas.view(np.bool_)
