# SPDX-License-Identifier: Apache-2.0
"""The virtual camera: a crop shows what a camera looking straight at the object would see."""

import numpy as np
import pytest
import torch

from dfips_ros.errors import MaskError
from dfips_ros.processes.silhouette import RasterRenderer
from dfips_ros.tasks.object_pose.crop import look_at_box, mask_bounds
from dfips_ros.tasks.object_pose.metrics import mask_iou

SIZES = {(480, 640): 1.0, (720, 1280): 2.0, (240, 320): 0.5}


def scaled(camera, factor):
    out = camera.copy()
    out[:2] *= factor
    return out


@pytest.mark.parametrize("size", SIZES)
def test_the_crop_is_the_view_of_the_virtual_camera(bracket, true_poses, camera_matrix, size):
    camera = scaled(camera_matrix, SIZES[size])
    renderer = RasterRenderer(bracket)
    overlaps = []
    for pose in true_poses:
        full = renderer.render(torch.from_numpy(pose).float()[None], torch.from_numpy(camera).float(), size)[0] > 0
        virtual = look_at_box(mask_bounds(full.numpy()), camera)
        crop, valid = virtual.warp(full.numpy(), camera)
        seen = torch.from_numpy(virtual.to_virtual(pose)).float()[None]
        direct = renderer.render(seen, torch.from_numpy(virtual.camera_matrix).float(), crop.shape)[0] > 0
        overlaps.append(mask_iou(crop * valid, direct.numpy() * valid))
        columns = np.flatnonzero(crop.any(0))
        assert 70 <= len(columns) <= 100 or 70 <= crop.any(1).sum() <= 100
    assert np.median(overlaps) > (0.97 if SIZES[size] >= 1 else 0.94)


def test_poses_go_there_and_back(true_poses, camera_matrix):
    virtual = look_at_box((10, 20, 200, 150), camera_matrix)
    assert np.allclose(virtual.to_real(virtual.to_virtual(true_poses)), true_poses)
    middle = virtual.homography(camera_matrix) @ (105.0, 85.0, 1.0)
    assert np.allclose(middle[:2] / middle[2], (63.5, 63.5))


def test_bounds():
    mask = np.zeros((40, 50), bool)
    mask[7:12, 3] = mask[9, 3:30] = True
    assert mask_bounds(mask) == (3, 7, 29, 11)
    with pytest.raises(MaskError, match="no pixel"):
        mask_bounds(np.zeros((5, 5), bool))


@pytest.mark.parametrize("size", [(480, 640), (719, 1281), (241, 322)])
@pytest.mark.parametrize("side", [128, 33])
def test_only_what_is_within_the_bounds_is_read(camera_matrix, size, side):
    """Also where the mask is shrunk in blocks, and at the borders of the image."""
    rng = np.random.default_rng(0)
    for top, left in [(0, 0), (size[0] - 90, size[1] - 131), (size[0] // 3, size[1] // 4)]:
        mask = np.zeros(size, bool)
        mask[top : top + 90, left : left + 131] = rng.random((90, 131)) > 0.3
        bounds = mask_bounds(mask)
        virtual = look_at_box(bounds, camera_matrix, side)
        whole, part = virtual.warp(mask, camera_matrix), virtual.warp(mask, camera_matrix, bounds)
        assert np.mean(whole[0] != part[0]) < 1e-3  # positions are rounded to 1/32 of a pixel
        assert np.array_equal(whole[1], part[1])
