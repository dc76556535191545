# SPDX-License-Identifier: Apache-2.0
"""Masks, labels and colour images: every encoding, byte order and row padding; broken messages."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from dfips_ros.errors import ConfigError, EncodingError  # noqa: E402
from dfips_ros.nodes.conversions import (  # noqa: E402
    colour_from_image,
    image_from_array,
    labels_from_image,
    mask_from_image,
)
from dfips_ros.nodes.image_conversions import COLOUR_ENCODINGS, LABEL_ENCODINGS  # noqa: E402


def make_image(pixels: np.ndarray, encoding: str, padding: int = 0, bigendian: bool = False) -> Image:
    """A message as any publisher may send it: rows padded with 0xAB, either byte order."""
    order = ">" if bigendian else "<"
    rows = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(order)))
    raw = rows.view(np.uint8).reshape(rows.shape[0], -1)
    padded = np.pad(raw, ((0, 0), (0, padding)), constant_values=0xAB)
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=padded.shape[1])
    message.is_bigendian = int(bigendian)
    message.data = padded.tobytes()
    return message


@settings(max_examples=60, deadline=None)
@given(
    encoding=st.sampled_from(sorted(LABEL_ENCODINGS)),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 7),
    bigendian=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_labels_are_read_exactly_and_the_message_stays_as_it_is(encoding, height, width, padding, bigendian, seed):
    kind = np.dtype(LABEL_ENCODINGS[encoding])
    limits = np.iinfo(kind)
    pixels = np.random.default_rng(seed).integers(limits.min, limits.max, (height, width), dtype=kind, endpoint=True)
    pixels[0, 0] = 0
    message = make_image(pixels, encoding, padding, bigendian)
    before = bytes(message.data)
    labels = labels_from_image(message)
    assert (labels == pixels).all() and labels.shape == pixels.shape
    assert not labels.flags.writeable
    mask = mask_from_image(message)
    assert mask.dtype == np.bool_ and (mask == (pixels != 0)).all()
    value = int(pixels[-1, -1])
    assert (mask_from_image(message, "label", value) == (pixels == value)).all()
    mask[:] = True
    assert bytes(message.data) == before


def test_last_row_may_lack_its_padding():
    message = make_image(np.eye(3, dtype=np.uint8), "mono8", padding=5)
    message.data = message.data[:-5]
    assert (labels_from_image(message) == np.eye(3)).all()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"encoding": "rgb8"}, "Coloured masks are not label images"),
        ({"encoding": "bgra8"}, "Coloured masks are not label images"),
        ({"encoding": "yuv422_yuy2"}, "Coloured masks are not label images"),
        ({"encoding": "32FC1"}, "Threshold"),
        ({"encoding": "8UC7"}, "mono8, 8UC1, mono16, 16UC1, 32SC1"),
        ({"encoding": ""}, "''"),
        ({"height": 0}, "height 0"),
        ({"width": 0}, "width 0"),
        ({"step": 3}, "step of at least 4 bytes for width 4, got 3"),
        ({"step": 0}, "step"),
        ({"height": 5}, "expected 20 bytes of data (step 4 x height 5), got 16: the message is truncated"),
        ({"height": 2**32 - 1, "width": 2**32 - 1, "step": 2**32 - 1}, "truncated"),
        ({"data": b""}, "truncated"),
    ],
)
def test_broken_masks_are_refused_with_what_was_expected_and_what_came(change, expected):
    message = make_image(np.ones((4, 4), np.uint8), "mono8")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(EncodingError) as caught:
        mask_from_image(message)
    assert expected in str(caught.value)


def test_label_value_that_cannot_occur_is_refused():
    message = make_image(np.ones((4, 4), np.uint8), "mono8")
    with pytest.raises(EncodingError, match=r"label_value=300 cannot occur .* \(0 to 255\)"):
        mask_from_image(message, "label", 300)
    with pytest.raises(ConfigError, match="mask_mode='colour': expected one of binary, label"):
        mask_from_image(message, "colour")


@pytest.mark.parametrize("encoding", sorted(COLOUR_ENCODINGS))
@pytest.mark.parametrize("padding", [0, 3])
def test_colour_channels_end_up_where_they_belong(encoding, padding):
    channels, (blue, green, red) = COLOUR_ENCODINGS[encoding]
    pixels = np.zeros((5, 4, channels), np.uint8)
    pixels[..., blue], pixels[..., green], pixels[..., red] = 10, 20, 30
    pixels[2, 3, red] = 99
    message = make_image(pixels.reshape(5, -1).reshape(5, 4, channels), encoding, padding)
    bgr, rgb = colour_from_image(message), colour_from_image(message, "rgb")
    assert bgr.shape == rgb.shape == (5, 4, 3)
    assert bgr[0, 0].tolist() == [10, 20, 30] and rgb[0, 0].tolist() == [30, 20, 10]
    assert bgr[2, 3, 2] == rgb[2, 3, 0] == 99
    assert np.shares_memory(bgr, np.frombuffer(message.data, np.uint8))
    assert not bgr.flags.writeable


def test_grey_images_become_colour():
    assert colour_from_image(make_image(np.full((2, 2), 7, np.uint8), "mono8")).tolist() == [[[7] * 3] * 2] * 2
    deep = make_image(np.full((2, 2), 0x1234, np.uint16), "mono16", bigendian=True)
    assert (colour_from_image(deep) == 0x12).all()


@pytest.mark.parametrize(
    ("encoding", "pixel"),
    [("yuv422", [128, 150]), ("uyvy", [128, 150]), ("yuv422_yuy2", [150, 128]), ("yuyv", [150, 128])],
)
def test_yuv_grey_stays_grey(encoding, pixel):
    packed = np.tile(np.array(pixel, np.uint8), (2, 4, 1))
    bgr = colour_from_image(make_image(packed, encoding))
    assert bgr.shape == (2, 4, 3)
    assert np.ptp(bgr) <= 1
    odd = make_image(packed[:, :3], encoding)
    with pytest.raises(EncodingError, match="even width"):
        colour_from_image(odd)


def test_other_encodings_go_through_cv_bridge_or_one_clear_error(monkeypatch):
    message = make_image(np.ones((4, 4), np.uint8), "bayer_rggb8")
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    with pytest.raises(EncodingError, match="bayer_rggb8.*cv_bridge.*Supported: bgr8, 8UC3, rgb8"):
        colour_from_image(message)

    class Bridge:
        def imgmsg_to_cv2(self, message, encoding):
            assert encoding == "bgr8"
            return np.full((4, 4, 3), (1, 2, 3), np.uint8)

    monkeypatch.setitem(sys.modules, "cv_bridge", type(sys)("cv_bridge"))
    sys.modules["cv_bridge"].CvBridge = Bridge
    assert colour_from_image(message, "rgb")[0, 0].tolist() == [3, 2, 1]
    Bridge.imgmsg_to_cv2 = lambda *_: 1 / 0
    with pytest.raises(EncodingError, match="cv_bridge cannot read"):
        colour_from_image(message)


@pytest.mark.parametrize(
    ("pixels", "encoding"),
    [
        (np.arange(12, dtype=np.uint8).reshape(3, 4), "mono8"),
        (np.arange(12, dtype=np.uint16).reshape(3, 4) * 1000, "mono16"),
        (np.arange(12, dtype=np.int32).reshape(3, 4) - 5, "32SC1"),
        (np.arange(12, dtype=">u2").reshape(3, 4), "mono16"),
        (np.arange(24, dtype=np.uint8).reshape(4, 6)[::2, ::-2], "mono8"),
    ],
)
def test_image_from_array_round_trip(pixels, encoding):
    message = image_from_array(pixels, Header(frame_id="camera"))
    assert (message.encoding, message.header.frame_id) == (encoding, "camera")
    assert (labels_from_image(message) == pixels).all()


def test_image_from_array_of_masks_and_colour():
    mask = np.eye(3, dtype=bool)
    assert labels_from_image(image_from_array(mask, Header())).tolist() == (np.eye(3) * 255).tolist()
    colour = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    assert (colour_from_image(image_from_array(colour, Header())) == colour).all()
    as_rgb = image_from_array(colour, Header(), "rgb8")
    assert (colour_from_image(as_rgb, "rgb") == colour).all()


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(3, np.uint8), np.zeros((0, 2), np.uint8)]
)
def test_image_from_array_refuses_what_has_no_encoding(bad):
    with pytest.raises(EncodingError, match="shape"):
        image_from_array(bad, Header())
