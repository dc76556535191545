# SPDX-License-Identifier: Apache-2.0
"""CameraInfo to a pinhole camera: scaling, binning, region of interest, distortion, refusals."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs.msg")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from sensor_msgs.msg import CameraInfo, RegionOfInterest  # noqa: E402

from dfips_ros.errors import CameraError, ConfigError  # noqa: E402
from dfips_ros.nodes.conversions import CameraModel, camera_key  # noqa: E402

K = [600.0, 0.0, 330.0, 0.0, 610.0, 250.0, 0.0, 0.0, 1.0]


def make_info(**fields) -> CameraInfo:
    message = CameraInfo(width=640, height=480, distortion_model="plumb_bob", d=[0.0] * 5, k=K)
    message.p = [500.0, 0.0, 320.0, 0.0, 0.0, 505.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    message.header.frame_id = "camera"
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def test_full_size_uses_k_as_it_is():
    view = CameraModel(make_info()).view((480, 640))
    assert view.camera_matrix.ravel().tolist() == K
    mask = np.ones((480, 640), bool)
    assert view.rectify_mask(mask) is mask


@settings(max_examples=50, deadline=None)
@given(scale=st.sampled_from([1, 2, 4, 5, 8]), x=st.floats(-1, 1), y=st.floats(-1, 1), grow=st.booleans())
def test_a_resized_mask_shows_the_same_ray_at_the_same_place(scale, x, y, grow):
    factor = float(scale) if grow else 1.0 / scale
    model = CameraModel(make_info())
    view = model.view((round(480 * factor), round(640 * factor)))
    full = model.camera_matrix @ np.array([x, y, 1.0])
    resized = view.camera_matrix @ np.array([x, y, 1.0])
    # Pixel centres at whole numbers: cv2.resize maps u to (u + 0.5) * factor - 0.5.
    np.testing.assert_allclose(resized[:2], (full[:2] + 0.5) * factor - 0.5, atol=1e-9)


def test_sizes_that_differ_by_rounding_agree():
    model = CameraModel(make_info(width=1280, height=720))
    assert model.view((240, 427)).size == (240, 427)
    assert model.view((120, 213)).size == (120, 213)


@pytest.mark.parametrize("size", [(480, 480), (640, 480), (1, 640), (481, 600), (720, 1280)])
def test_another_aspect_ratio_is_refused(size):
    with pytest.raises(CameraError, match=rf"mask is {size[1]}x{size[0]}, but camera_info describes 640x480"):
        CameraModel(make_info()).view(size)


def test_binning_and_region_of_interest():
    roi = RegionOfInterest(x_offset=100, y_offset=50, width=400, height=300)
    model = CameraModel(make_info(roi=roi, binning_x=2, binning_y=2))
    assert model.size == (150, 200)
    # The ray of full-resolution pixel (u, v) arrives at ((u - 100 + 0.5) / 2 - 0.5, (v - 50 + 0.5) / 2 - 0.5).
    ray = np.linalg.inv(np.array(K).reshape(3, 3)) @ np.array([301.0, 201.0, 1.0])
    np.testing.assert_allclose((model.camera_matrix @ ray)[:2], [100.25, 75.25])
    assert CameraModel(make_info(binning_x=1, binning_y=1)).camera_matrix.ravel().tolist() == K


def distorted_points(points, matrix, d, model):
    if model == "equidistant":
        pixels, _ = cv2.fisheye.projectPoints(points.reshape(1, -1, 3), np.zeros(3), np.zeros(3), matrix, np.array(d))
    else:
        pixels, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(d))
    return pixels.reshape(-1, 2)


@pytest.mark.parametrize(
    ("model", "d"),
    [
        ("plumb_bob", [-0.25, 0.08, 0.001, -0.002, 0.0]),
        ("plumb_bob", [0.2, -0.05, 0.0, 0.0]),
        ("rational_polynomial", [0.1, 0.02, 0.0, 0.0, 0.0, 0.3, 0.05, 0.0]),
        ("equidistant", [0.05, -0.01, 0.002, 0.0]),
    ],
)
def test_rectified_mask_is_what_a_pinhole_sees(model, d):
    """A square in space, drawn where the distorting lens shows it, comes out where a pinhole shows it."""
    matrix = np.array(K).reshape(3, 3)
    edge = np.linspace(-0.2, 0.2, 200)
    corners = [(edge, 0 * edge - 0.2), (0 * edge + 0.2, edge), (-edge, 0 * edge + 0.2), (0 * edge - 0.2, -edge)]
    square = np.concatenate([np.stack([x, y, 0 * x + 1.0], axis=1) for x, y in corners])
    masks = []
    for pixels in (distorted_points(square, matrix, d, model), (square @ matrix.T)[:, :2]):
        mask = np.zeros((480, 640), np.uint8)
        cv2.fillPoly(mask, [pixels.round().astype(np.int32)], 1)
        masks.append(mask.astype(bool))
    view = CameraModel(make_info(distortion_model=model, d=d)).view((480, 640))
    before = masks[0].copy()
    rectified = view.rectify_mask(masks[0])
    assert rectified.dtype == np.bool_
    assert (masks[0] == before).all()
    iou = (rectified & masks[1]).sum() / (rectified | masks[1]).sum()
    assert iou > 0.98
    assert (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum() < iou
    colour = np.repeat(masks[0].view(np.uint8)[:, :, None] * np.uint8(200), 3, axis=2)
    assert view.rectify_image(colour).shape == (480, 640, 3)


def test_modes_of_distortion():
    distorted = make_info(d=[0.1, 0.0, 0.0, 0.0, 0.0])
    with pytest.raises(CameraError, match="distorts .* 'refuse'. Set distortion to 'rectify'"):
        CameraModel(distorted, "refuse")
    assert CameraModel(distorted, "ignore").view((480, 640)).maps is None
    rectified = CameraModel(distorted, "rectified").view((480, 640))
    assert rectified.maps is None and rectified.camera_matrix[0, 0] == 500.0
    assert CameraModel(make_info(), "refuse").view((480, 640)).maps is None
    with pytest.raises(ConfigError, match="distortion='maybe'"):
        CameraModel(distorted, "maybe")
    stereo = make_info()
    stereo.p[3] = -40.0
    with pytest.raises(CameraError, match="second camera of a stereo pair"):
        CameraModel(stereo, "rectified")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"k": [0.0] * 9}, "camera_info.k.*focal"),
        ({"k": [math.nan, *K[1:]]}, "camera_info.k.*finite"),
        ({"k": [-600.0, *K[1:]]}, "positive"),
        ({"k": [*K[:8], 2.0]}, "rows"),
        ({"width": 0}, "width 0"),
        ({"height": 0}, "height 0"),
        ({"d": [0.1]}, "expected 4 or 5 coefficients for 'plumb_bob', got 1"),
        ({"d": [math.nan] * 5}, "camera_info.d.*finite"),
        ({"d": [0.1] * 4, "distortion_model": "thin_prism"}, "distortion_model='thin_prism'.*plumb_bob"),
        ({"roi": RegionOfInterest(x_offset=600, width=100, height=10)}, "does not lie inside"),
        ({"roi": RegionOfInterest(x_offset=700)}, "does not lie inside"),
        ({"binning_x": 1000}, "binning"),
    ],
)
def test_unusable_calibrations_are_refused(fields, expected):
    with pytest.raises(CameraError, match=expected):
        CameraModel(make_info(**fields))


def test_views_are_cached_and_the_cache_stays_small():
    model = CameraModel(make_info())
    assert model.view((480, 640)) is model.view((480, 640))
    for scale in range(1, 40):
        model.view((12 * scale, 16 * scale))
    assert len(model._views) <= 8


def test_key_tells_calibrations_apart_but_not_stamps():
    first, second = make_info(), make_info()
    second.header.stamp.sec = 5
    assert camera_key(first) == camera_key(second)
    for change in ({"k": [*K[:2], 331.0, *K[3:]]}, {"d": [0.1] * 5}, {"width": 641}, {"binning_x": 2}):
        assert camera_key(make_info(**change)) != camera_key(first)
    assert isinstance(hash(camera_key(first)), int)
