# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/Image <-> numpy: masks, labels and colour images, read straight from the message's buffer.

No message is ever changed. Arrays that are views of a message are read-only.
"""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np

from ..checks import check_choice
from ..errors import EncodingError

MASK_MODES = ("binary", "label")

# Encodings of one integer channel: numpy type without byte order.
LABEL_ENCODINGS = {"mono8": "u1", "8UC1": "u1", "mono16": "u2", "16UC1": "u2", "32SC1": "i4"}

# Encodings of 8-bit colour: number of channels, and where blue, green and red lie.
COLOUR_ENCODINGS = {
    "bgr8": (3, (0, 1, 2)),
    "8UC3": (3, (0, 1, 2)),
    "rgb8": (3, (2, 1, 0)),
    "bgra8": (4, (0, 1, 2)),
    "8UC4": (4, (0, 1, 2)),
    "rgba8": (4, (2, 1, 0)),
}

# Packed YUV 4:2:2, under their old and new names: code of cv2.cvtColor to BGR.
YUV_ENCODINGS = {
    "yuv422": cv2.COLOR_YUV2BGR_UYVY,
    "uyvy": cv2.COLOR_YUV2BGR_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2BGR_YUY2,
    "yuyv": cv2.COLOR_YUV2BGR_YUY2,
}

_NATIVE_IS_BIGENDIAN = sys.byteorder == "big"
_ENCODING_OF_TYPE = {
    ("u1", 2): "mono8",
    ("u2", 2): "mono16",
    ("i4", 2): "32SC1",
    ("u1", 3): "bgr8",
}


def labels_from_image(message: Any) -> np.ndarray:
    """View the label image of a message. -> (H, W) uint8, uint16 or int32, read-only, no copy.

    Raises:
        EncodingError: the encoding is not one of mono8, 8UC1, mono16, 16UC1, 32SC1; the size is zero; a row
            is longer than ``step``; the data are truncated.
    """
    kind = LABEL_ENCODINGS.get(message.encoding)
    if kind is None:
        raise EncodingError(_label_encoding_problem(message.encoding))
    return _view(message, np.dtype(kind), 1)[:, :, 0]


def mask_from_image(message: Any, mode: str = "binary", label_value: int = 1) -> np.ndarray:
    """Mask of the object. -> (H, W) bool, a new array.

    Args:
        message: image in one of the encodings of :func:`labels_from_image`.
        mode: ``binary``: every non-zero pixel is the object; ``label``: the pixels equal to ``label_value``.
        label_value: the object's label; only read in mode ``label``.

    Raises:
        EncodingError: as :func:`labels_from_image`, or ``label_value`` cannot occur in this encoding.
        ConfigError: unknown ``mode``.
    """
    return mask_of_labels(labels_from_image(message), mode, label_value, message.encoding)


def mask_of_labels(labels: np.ndarray, mode: str, label_value: int, encoding: str = "") -> np.ndarray:
    """Mask of one object in a label image that was read before. -> (H, W) bool, a new array.

    Args:
        labels: (H, W) integers.
        mode, label_value: as in :func:`mask_from_image`.
        encoding: of the message, for the error.

    Raises:
        EncodingError: ``label_value`` cannot occur in this type.
        ConfigError: unknown ``mode``.
    """
    check_choice("mask_mode", mode, MASK_MODES)
    if mode == "binary":
        return labels != 0
    limits = np.iinfo(labels.dtype)
    if not limits.min <= label_value <= limits.max:
        raise EncodingError(
            f"label_value={label_value} cannot occur in a mask of encoding '{encoding or labels.dtype}' "
            f"({limits.min} to {limits.max}). Set label_value to the object's label, or publish mono16 or "
            "32SC1."
        )
    return labels == label_value


def colour_from_image(message: Any, order: str = "bgr") -> np.ndarray:
    """Colour image of a message. -> (H, W, 3) uint8; a read-only view of the message where that is possible.

    Read directly: bgr8, rgb8, bgra8, rgba8, 8UC3 and 8UC4 (as OpenCV: blue first), mono8, 8UC1, mono16 and
    16UC1 (high byte), yuv422/uyvy, yuv422_yuy2/yuyv. Every other encoding goes through cv_bridge where it is
    installed.

    Raises:
        EncodingError: as :func:`labels_from_image`; or an encoding that nothing here can read.
        ConfigError: ``order`` is neither ``bgr`` nor ``rgb``.
    """
    check_choice("order", order, ("bgr", "rgb"))
    encoding = message.encoding
    if encoding in COLOUR_ENCODINGS:
        channels, (blue, green, red) = COLOUR_ENCODINGS[encoding]
        view = _view(message, np.dtype("u1"), channels)
        stored_as_bgr = (blue, green, red) == (0, 1, 2)
        return view[:, :, :3] if stored_as_bgr == (order == "bgr") else view[:, :, 2::-1]
    if LABEL_ENCODINGS.get(encoding) in ("u1", "u2"):
        grey = labels_from_image(message)
        if grey.dtype.itemsize == 2:
            grey = (grey >> 8).astype(np.uint8)
        return np.broadcast_to(grey[:, :, None], (*grey.shape, 3))
    if encoding in YUV_ENCODINGS:
        if message.width % 2:
            raise EncodingError(f"encoding '{encoding}' needs an even width, got {message.width}.")
        packed = np.ascontiguousarray(_view(message, np.dtype("u1"), 2))
        bgr = cv2.cvtColor(packed, YUV_ENCODINGS[encoding])
    else:
        bgr = _colour_through_cv_bridge(message)
    return bgr if order == "bgr" else bgr[:, :, ::-1]


def image_fields(image: np.ndarray, encoding: str | None = None) -> dict[str, Any]:
    """The fields of an Image message that shows an array, all but the header.

    Args:
        image: (H, W) bool (becomes mono8, 0 and 255), uint8, uint16 or int32, or (H, W, 3) uint8.
        encoding: for example ``rgb8``; None: mono8, mono16, 32SC1 or bgr8, by type.

    Returns:
        height, width, encoding, is_bigendian, step, and data (step * height,) uint8, which may be a view of ``image``.

    Raises:
        EncodingError: no encoding for this type and shape.
    """
    pixels = np.asarray(image)
    if pixels.dtype == np.bool_:
        pixels = pixels.view(np.uint8) * np.uint8(255)
    kind = f"{pixels.dtype.kind}{pixels.dtype.itemsize}"
    known = _ENCODING_OF_TYPE.get((kind, pixels.ndim))
    if known is None or pixels.size == 0 or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise EncodingError(
            f"image: expected (H, W) bool, uint8, uint16 or int32, or (H, W, 3) uint8, not empty; "
            f"got shape {pixels.shape}, type {pixels.dtype}."
        )
    pixels = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
    return {
        "height": int(pixels.shape[0]),
        "width": int(pixels.shape[1]),
        "encoding": known if encoding is None else encoding,
        "is_bigendian": int(_NATIVE_IS_BIGENDIAN),
        "step": int(pixels.strides[0]),
        "data": pixels.reshape(-1).view(np.uint8),
    }


def _view(message: Any, kind: np.dtype, channels: int) -> np.ndarray:
    """Read-only (H, W, channels) view of the message's data."""
    height, width, step, size = message.height, message.width, message.step, len(message.data)
    name = f"image of encoding '{message.encoding}'"
    if height == 0 or width == 0:
        raise EncodingError(f"{name}: expected a size above zero, got width {width} and height {height}.")
    pixel = channels * kind.itemsize
    if step < width * pixel:
        raise EncodingError(
            f"{name}: expected step of at least {width * pixel} bytes for width {width}, got {step}. "
            "Set step to the number of bytes in a row."
        )
    expected = step * (height - 1) + width * pixel
    if size < expected:
        raise EncodingError(
            f"{name}: expected {step * height} bytes of data (step {step} x height {height}), got {size}: "
            "the message is truncated. Check the publisher, or the transport's message size limit."
        )
    swapped = bool(message.is_bigendian) != _NATIVE_IS_BIGENDIAN
    view = np.ndarray(
        (height, width, channels),
        dtype=kind.newbyteorder("S") if swapped else kind,
        buffer=message.data,
        strides=(step, pixel, kind.itemsize),
    )
    view.flags.writeable = False
    return view


def _label_encoding_problem(encoding: str) -> str:
    text = f"mask encoding '{encoding}' is not supported: expected one of {', '.join(LABEL_ENCODINGS)}."
    if encoding in COLOUR_ENCODINGS or encoding in YUV_ENCODINGS:
        return (
            f"{text} Coloured masks are not label images: subscribe to the segmentation's raw mask or label "
            "topic, where a pixel's value is 0/255 or the object's label."
        )
    if "FC" in encoding:
        return f"{text} Threshold the probability map first and publish it as mono8."
    return f"{text} Publish the mask as mono8 (0 and 255) or the labels as mono16."


def _colour_through_cv_bridge(message: Any) -> np.ndarray:
    supported = ", ".join([*COLOUR_ENCODINGS, "mono8", "8UC1", "mono16", "16UC1", *YUV_ENCODINGS])
    try:
        cv_bridge: Any = __import__("cv_bridge")
        bridge = cv_bridge.CvBridge()
    except Exception as cause:  # its binaries may not match the installed numpy: any error can come out
        raise EncodingError(
            f"colour encoding '{message.encoding}' is not supported without cv_bridge ({cause}). "
            f"Supported: {supported}. Convert the image, or install cv_bridge."
        ) from cause
    try:
        return np.asarray(bridge.imgmsg_to_cv2(message, "bgr8"))
    except Exception as cause:
        raise EncodingError(
            f"cv_bridge cannot read the colour encoding '{message.encoding}': {cause}. Supported: {supported}."
        ) from cause
