# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/Image <-> numpy; what reads messages lives in :mod:`dfips_ros.messages`, which knows no ROS."""

from __future__ import annotations

import array

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from ..messages.image import (
    COLOUR_ENCODINGS,
    LABEL_ENCODINGS,
    MASK_MODES,
    YUV_ENCODINGS,
    colour_from_image,
    image_fields,
    labels_from_image,
    mask_from_image,
    mask_of_labels,
)

__all__ = [
    "COLOUR_ENCODINGS",
    "LABEL_ENCODINGS",
    "MASK_MODES",
    "YUV_ENCODINGS",
    "colour_from_image",
    "image_from_array",
    "labels_from_image",
    "mask_from_image",
    "mask_of_labels",
]


def image_from_array(image: np.ndarray, header: Header, encoding: str | None = None) -> Image:
    """Image message with a copy of an array.

    Args:
        image: (H, W) bool (becomes mono8, 0 and 255), uint8, uint16 or int32, or (H, W, 3) uint8.
        header: stamp and frame.
        encoding: for example ``rgb8``; None: mono8, mono16, 32SC1 or bgr8, by type.

    Raises:
        EncodingError: no encoding for this type and shape.
    """
    message = Image(header=header)
    for name, value in image_fields(image, encoding).items():
        if name != "data":
            setattr(message, name, value)
            continue
        data = array.array("B")
        data.frombytes(value.data)  # one memcpy; the setter takes array("B") unchecked
        message.data = data
    return message
