# SPDX-License-Identifier: Apache-2.0
"""The masks of several objects from one message: a label image, or the instances of a detector."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import Image

from ..errors import DfipsError, MaskError, MissingDependencyError
from .image_conversions import labels_from_image, mask_of_labels
from .label_info import LabelTable
from .tracker_parameters import PoseTrackerParameters

Masks = dict[str, np.ndarray | DfipsError]

MAX_SIDE = 8192  # pixels


def masks_from_image(message: Image, objects: Sequence[PoseTrackerParameters], labels: LabelTable) -> Masks:
    """Masks (H, W) bool of objects by name, from one label image, which is read once.

    An object whose label is not known or cannot occur has its error instead of a mask.

    Args:
        message: see :func:`labels_from_image`.
        objects: parameters of one object each.
        labels: of class names.

    Raises:
        EncodingError: the image cannot be read.
    """
    image = labels_from_image(message)
    values: dict[str, int] = {}
    masks: Masks = {}
    for each in objects:
        try:
            value = labels.label_of(each.class_name) if each.mask_mode == "class" else each.label_value
            mode = "binary" if each.mask_mode == "binary" else "label"
            twin = next((name for name, other in values.items() if mode == "label" and other == value), None)
            if twin is not None:
                raise MaskError(f"{each.selection}: its label {value} is also that of '{twin}'.")
            if mode == "label":
                values[each.name] = value
            masks[each.name] = mask_of_labels(image, mode, value, message.encoding)
        except DfipsError as error:
            masks[each.name] = error
    return masks


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
