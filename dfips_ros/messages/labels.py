# SPDX-License-Identifier: Apache-2.0
"""The masks of several objects from one label image, and labels of classes by name.

``vision_msgs/msg/LabelInfo`` is used by its field names alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..errors import DfipsError, MaskError
from .image import labels_from_image, mask_of_labels

Masks = dict[str, np.ndarray | DfipsError]

# The name that LabelInfo gives to pixels without a class.
UNLABELED = "UNLABELED"


class LabelTable:
    """Which value the pixels of a class have.

    Args:
        topic: where the table comes from, for errors; empty: vision_msgs is not installed, so none can come.
    """

    def __init__(self, topic: str = "") -> None:
        self._topic = topic
        self._labels: dict[str, int] = {}

    def take(self, message: Any) -> None:
        """Replace the table by that of a LabelInfo.

        Raises:
            MaskError: a class is listed with two labels; the table before stays.
        """
        labels: dict[str, int] = {}
        for each in message.class_map:
            name, label = str(each.class_name), int(each.class_id)
            if labels.get(name, label) != label:
                raise MaskError(f"label_info: class '{name}' has the labels {labels[name]} and {label}; expected one.")
            if name and name.upper() != UNLABELED:
                labels[name] = label
        self._labels = labels

    def label_of(self, class_name: str) -> int:
        """Label of a class.

        Raises:
            MaskError: it is not known; the message says what is, or what is missing.
        """
        if class_name in self._labels:
            return self._labels[class_name]
        if self._labels:
            known = ", ".join(repr(name) for name in list(self._labels)[:20])
            raise MaskError(f"class_name='{class_name}': {self._topic} does not list it; it lists {known}.")
        if not self._topic:
            raise MaskError(
                f"class_name='{class_name}' cannot be resolved without vision_msgs/LabelInfo: install vision_msgs "
                "(apt-get install ros-jazzy-vision-msgs), or give label_value."
            )
        raise MaskError(f"class_name='{class_name}': waiting for its label on {self._topic}; or give label_value.")


class Selected(Protocol):
    """An object, and which pixels are its: ``mask_mode`` is binary, label or class; ``selection`` says it in words."""

    @property
    def name(self) -> str: ...
    @property
    def mask_mode(self) -> str: ...
    @property
    def label_value(self) -> int: ...
    @property
    def class_name(self) -> str: ...
    @property
    def selection(self) -> str: ...


def masks_from_image(message: Any, objects: Sequence[Selected], labels: LabelTable) -> Masks:
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


def selection_in_words(mask_mode: str, label_value: int, class_name: str) -> str:
    """Which pixels of a label image are an object's; two objects with equal words cannot be told apart."""
    if mask_mode == "label":
        return f"label_value={label_value}"
    return f"class_name='{class_name}'" if mask_mode == "class" else "every non-zero pixel"
