# SPDX-License-Identifier: Apache-2.0
"""Labels of classes by name, from a latched ``vision_msgs/msg/LabelInfo``; used by its field names alone."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import MaskError

# The name that LabelInfo gives to pixels without a class.
UNLABELED = "UNLABELED"


def vision_message_type(name: str) -> Any:
    """The class vision_msgs/msg/<name>, or None where vision_msgs is not installed."""
    try:
        return getattr(importlib.import_module("vision_msgs.msg"), name)
    except (ImportError, AttributeError):
        return None


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
