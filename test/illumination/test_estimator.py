# SPDX-License-Identifier: Apache-2.0
"""Image in, light out: accuracy, frames, units, every kind of bad input."""

import numpy as np
import pytest

from dfips_ros.errors import (
    CameraError,
    CheckpointError,
    ConfigError,
    InputError,
    MaskError,
    MeshError,
    PoseError,
    ShapeError,
)
from dfips_ros.processes.mesh import Mesh
from dfips_ros.tasks.illumination import KINDS, IlluminationEstimator, chrome_sphere

MATERIALS = {
    "matt": {"roughness": 0.9}, "glossy": {"roughness": 0.35}, "metallic": {"metallic": 0.9, "roughness": 0.4},
}  # fmt: skip


def degrees(a, b):
    return np.rad2deg(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))


@pytest.mark.parametrize("material", MATERIALS)
def test_directions_are_found(estimators, scene, camera, material):
    errors = []
    for seed in range(6):
        image, pose, light = scene(seed, **MATERIALS[material])
        before = image.copy()
        solution = estimators["directional"].estimate(image, camera, pose)
        assert np.array_equal(image, before)
        assert np.isclose(np.linalg.norm(solution.direction), 1.0) and solution.position is None
        assert len(solution.residual_norms) == len(solution.history) == 9
        assert min(solution.residual_norms) <= solution.residual_norms[0]
        assert solution.solve_time > 0 and solution.uncertain == bool(solution.reason)
        errors.append(degrees(solution.direction, light))
    assert np.median(errors) < 6.0


def test_positions_are_found_in_metres(estimators, scene, camera, vase):
    errors = []
    for seed in range(6):
        image, pose, light = scene(seed, "point", roughness=0.8)
        solution = estimators["point"].estimate(image, camera, pose)
        assert degrees(solution.position - solution.object_center, solution.direction) < 1e-3
        assert np.allclose(solution.history[-1] - solution.history[-1], 0) and solution.history.shape == (9, 3)
        errors.append(np.linalg.norm(solution.position - light) / vase.diameter)
    assert np.median(errors) < 0.3


def test_grey_and_coloured_images_tell_the_same(estimators, scene, camera):
    image, pose, light = scene(1, albedo=(0.6, 0.6, 0.6))
    found = [estimators["directional"].estimate(i, camera, pose) for i in (image, image[..., 0], image[..., :1])]
    for other in found[1:]:
        assert np.allclose(found[0].direction, other.direction) and np.allclose(found[0].albedo, other.albedo)
    assert degrees(found[0].direction, light) < 10.0


def test_larger_images_and_masks(estimators, scene, camera):
    """The same picture with twice the pixels gives the same light; a mask hides what does not belong."""
    image, pose, light = scene(2)
    large = np.repeat(np.repeat(image, 2, 0), 2, 1)
    double = camera * [[2.0], [2.0], [1.0]]
    double[:2, 2] += 0.5
    one = estimators["directional"].estimate(image, camera, pose)
    two = estimators["directional"].estimate(large, double, pose)
    assert degrees(one.direction, two.direction) < 5.0
    spoilt, mask = image.copy(), np.ones(image.shape[:2], np.uint8)
    u, v = (camera @ one.object_center)[:2] / one.object_center[2]
    spoilt[:, : int(u)], mask[:, : int(u)] = 255, 0
    half = estimators["directional"].estimate(spoilt, camera, pose, mask)
    assert half.pixels < 0.7 * one.pixels
    assert degrees(half.direction, light) < 25.0


def test_pyrender_as_forward_process_agrees(vase, estimators, scene, camera):
    image, pose, _ = scene(3)
    other = IlluminationEstimator.from_mesh(vase, "directional", device="cpu", process="pyrender", starts=2)
    found = other.estimate(image, camera, pose)
    assert degrees(found.direction, estimators["directional"].estimate(image, camera, pose).direction) < 5.0


def test_intensity_follows_the_exposure(estimators, scene, camera):
    dark, bright = (
        estimators["directional"].estimate(scene(4, intensity=i, ambient=0.02 * i)[0], camera, scene(4)[1])
        for i in (2.0, 4.0)
    )
    assert 1.6 < bright.intensity / dark.intensity < 2.5 and degrees(bright.direction, dark.direction) < 5.0


BAD = {
    "16 bit": (lambda i: i.astype(np.uint16) * 257, ShapeError, "16|uint16"),
    "float": (lambda i: i / 255.0, ShapeError, "uint8"),
    "alpha": (lambda i: np.dstack([i, i[..., 0]]), ShapeError, "alpha"),
    "flat": (lambda i: i.reshape(-1), ShapeError, "shape"),
    "black": (lambda i: i // 255, InputError, "under-exposed"),
    "white": (lambda i: np.full_like(i, 255), InputError, "saturated"),
    "small": (lambda i: i[:120, :160], CameraError, "principal point"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_refused(estimators, scene, camera, name):
    spoil, error, words = BAD[name]
    image, pose, _ = scene(0)
    with pytest.raises(error, match=words):
        estimators["directional"].estimate(spoil(image), camera, pose)


def test_bad_poses_cameras_and_masks_are_refused(estimators, scene, camera):
    image, pose, _ = scene(0)
    estimator = estimators["directional"]
    behind, aside, near, skewed = (pose.copy() for _ in range(4))
    behind[2, 3] -= 2.0
    aside[0, 3] += 2.0
    center = pose[:3, :3] @ estimator.mesh.center + pose[:3, 3]
    near[:3, 3] -= 0.9 * center
    skewed[0, 0] += 0.3
    for bad, words in ((behind, "front"), (aside, "out of view"), (near, "diameters"), (skewed, "rotation")):
        with pytest.raises(PoseError, match=words):
            estimator.estimate(image, camera, bad)
    with pytest.raises(CameraError):
        estimator.estimate(image, np.zeros((3, 3)), pose)
    with pytest.raises(MaskError, match="size"):
        estimator.estimate(image, camera, pose, np.ones((10, 10), bool))
    with pytest.raises(PoseError, match="hidden"):
        estimator.estimate(image, camera, pose, np.zeros(image.shape[:2], bool))


def test_doubtful_pictures_are_said_to_be_so(estimators, scene, camera):
    estimator = estimators["directional"]
    bright, pose, _ = scene(0, intensity=40.0)
    assert "saturated" in estimator.estimate(bright, camera, pose).reason
    image, pose, _ = scene(0)
    assert "dark" in estimator.estimate(image // 10, camera, pose).reason
    chequered = np.kron(np.random.default_rng(0).integers(0, 2, (60, 80)), np.full((8, 8), 200)).astype(np.uint8)
    assert "no light explains" in estimator.estimate(chequered, camera, pose).reason


def test_a_flat_object_does_not_tell_the_light(camera):
    corners = np.array([[-0.1, -0.1, 0], [0.1, -0.1, 0], [0.1, 0.1, 0], [-0.1, 0.1, 0]])
    plate = Mesh("plate", corners, np.array([[0, 1, 2], [0, 2, 3]]))
    pose = np.eye(4)
    pose[2, 3] = 0.5
    solution = IlluminationEstimator.from_mesh(plate).estimate(np.full((480, 640, 3), 120, np.uint8), camera, pose)
    assert solution.uncertain and solution.direction_std_deg > 5.0


def test_bad_estimators_are_refused(vase, tmp_path):
    for arguments, error in (
        ({"kind": "spot"}, ConfigError), ({"process": "blender"}, ConfigError), ({"device": "abacus"}, ConfigError),
        ({"weights": tmp_path / "none.safetensors"}, CheckpointError),
    ):  # fmt: skip
        with pytest.raises(error):
            IlluminationEstimator.from_mesh(vase, **arguments)
    with pytest.raises(MeshError):
        IlluminationEstimator.from_mesh(tmp_path / "none.obj")
    other = IlluminationEstimator.from_mesh(vase, "point")
    from dfips_ros.solver import save_checkpoint

    save_checkpoint(tmp_path / "point.safetensors", other.checkpoint)
    with pytest.raises(CheckpointError, match="point light"):
        IlluminationEstimator.from_mesh(vase, "directional", weights=tmp_path / "point.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_the_sphere_is_brightest_where_the_highlight_must_be(estimators, scene, camera, kind):
    for seed in range(4):
        image, pose, _ = scene(seed, kind)
        solution = estimators[kind].estimate(image, camera, pose)
        picture = chrome_sphere(solution, 200)
        assert picture.shape == (200, 200, 3) and picture.dtype == np.uint8 and not picture[0, 0].any()
        v, u = np.unravel_index(picture[..., 0].argmax(), (200, 200))
        normal = np.array([(u - 99.5) / 100, (v - 99.5) / 100, 0.0])
        normal[2] = -np.sqrt(1 - normal @ normal)
        half = solution.direction + [0.0, 0.0, -1.0]
        assert degrees(normal, half) < 20.0
        assert not np.array_equal(picture, chrome_sphere(solution, 200, stage=0)) or seed > 0
    for arguments in ({"size": 8}, {"stage": 9}, {"stage": -10}):
        with pytest.raises(ConfigError):
            chrome_sphere(solution, **arguments)


def test_it_is_fast_enough(estimators, scene, camera):
    image, pose, _ = scene(5)
    estimator = estimators["directional"]
    times = [estimator.estimate(image, camera, pose).solve_time for _ in range(5)]
    assert min(times) < 0.2  # 5 Hz
