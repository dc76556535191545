# SPDX-License-Identifier: Apache-2.0
"""The public API: poses from masks, and every kind of bad input."""

import numpy as np
import pytest
import torch

from dfips_ros.errors import CameraError, CheckpointError, ConfigError, MaskError, MeshError, PoseError
from dfips_ros.solver import SolverConfig
from dfips_ros.tasks.object_pose import (
    EstimatorConfig,
    ObjectPoseEstimator,
    Symmetries,
    mask_iou,
    rotation_error_deg,
    translation_error,
)
from dfips_ros.tasks.object_pose.estimator import DEFAULT_WEIGHTS

SIZE = (480, 640)


@pytest.fixture(scope="module")
def one(estimator, true_poses, near_poses, camera_matrix):
    mask = estimator.render_mask(true_poses[0], camera_matrix, SIZE)
    return mask, true_poses[0], near_poses[0]


def test_from_a_near_pose(estimator, true_poses, near_poses, camera_matrix):
    angles, shifts = [], []
    for true, near in zip(true_poses, near_poses, strict=True):
        solution = estimator.estimate(estimator.render_mask(true, camera_matrix, SIZE), camera_matrix, near)
        angles.append(rotation_error_deg(solution.T_camera_object, true))
        center = estimator.mesh.center
        shifts.append(translation_error(solution.T_camera_object, true, center=center) / estimator.mesh.diameter)
    assert np.median(angles) < 1.5 and np.mean(np.array(angles) < 5.0) >= 0.85
    assert np.median(shifts) < 0.02


def test_from_nothing(estimator, true_poses, camera_matrix):
    angles = []
    for true in true_poses[:10]:
        solution = estimator.estimate(estimator.render_mask(true, camera_matrix, SIZE), camera_matrix)
        poses = (solution.T_camera_object, *solution.alternatives)
        angles.append(min(rotation_error_deg(pose, true) for pose in poses))
    assert np.mean(np.array(angles) < 5.0) >= 0.8


def test_solution(estimator, one, camera_matrix):
    mask, true, near = one
    kept = mask.copy(), near.copy(), camera_matrix.copy()
    solution = estimator.estimate(mask, camera_matrix, near)
    assert solution.T_camera_object.shape == (4, 4) and solution.T_camera_object.dtype == np.float64
    rotation = solution.T_camera_object[:3, :3]
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
    assert len(solution.history) == estimator.num_stages + 1 == len(solution.residual_norms)
    assert np.allclose(solution.history[0], near, atol=1e-5)
    assert solution.iou == pytest.approx(1.0 - solution.residual_norms.min(), abs=0.02)
    assert rotation_error_deg(solution.T_camera_object, true) < rotation_error_deg(near, true)
    full = estimator.render_mask(solution.T_camera_object, camera_matrix, SIZE)
    assert mask_iou(full, mask) == pytest.approx(solution.iou, abs=0.03)
    assert solution.solve_time > 0
    for before, after in zip(kept, (mask, near, camera_matrix), strict=True):
        assert np.array_equal(before, after)


def test_covariance(estimator, true_poses, near_poses, camera_matrix):
    """Symmetric, positive, larger in depth than sideways, and large enough for the errors that occur."""
    ratios = []
    for true, near in zip(true_poses, near_poses, strict=True):
        solution = estimator.estimate(estimator.render_mask(true, camera_matrix, SIZE), camera_matrix, near)
        covariance = solution.covariance
        assert covariance.shape == (6, 6) and np.allclose(covariance, covariance.T)
        assert np.linalg.eigvalsh(covariance).min() > 0
        ray = true[:3, 3] / np.linalg.norm(true[:3, 3])
        along = ray @ covariance[:3, :3] @ ray
        assert along > (np.trace(covariance[:3, :3]) - along) / 2.0
        if solution.iou > 0.97 and rotation_error_deg(solution.T_camera_object, true) < 5.0:
            shift = solution.T_camera_object[:3, 3] - true[:3, 3]
            ratios.append(shift @ np.linalg.solve(covariance[:3, :3], shift))
    assert len(ratios) >= 10
    assert np.median(ratios) < 12.0  # a chi-square of 3 degrees of freedom; at most twice too confident


def test_is_deterministic(estimator, one, camera_matrix):
    mask, _, near = one
    a, b = (estimator.estimate(mask, camera_matrix, near).T_camera_object for _ in range(2))
    assert np.array_equal(a, b)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.bool_])
def test_mask_types(estimator, one, camera_matrix, kind):
    mask, _, near = one
    expected = estimator.estimate(mask, camera_matrix, near).T_camera_object
    value = 255 if kind is np.uint8 else 1
    typed = (mask.astype(np.int64) * value).astype(kind)
    assert np.allclose(estimator.estimate(typed, camera_matrix, near).T_camera_object, expected)


def test_the_best_of_several_starts_is_taken(estimator, one, camera_matrix):
    mask, true, near = one
    far = near.copy()
    far[:3, :3] = far[:3, :3] @ np.diag([1.0, -1.0, -1.0])
    solution = estimator.estimate(mask, camera_matrix, np.stack([far, near]))
    assert np.allclose(solution.history[0], near, atol=1e-5)


def test_truncation_is_reported_and_survived(estimator, bracket, camera_matrix):
    pose = np.eye(4)
    depth = 3.0 * bracket.diameter
    pose[:3, 3] = np.array([-0.46 * depth, 0.02, depth]) - bracket.center
    mask = estimator.render_mask(pose, camera_matrix, SIZE)
    assert mask[:, 0].any()  # it leaves the image
    near = pose.copy()
    near[2, 3] *= 1.05
    solution = estimator.estimate(mask, camera_matrix, near)
    assert solution.truncated
    assert rotation_error_deg(solution.T_camera_object, pose) < 6.0


def test_an_object_that_fills_the_image(estimator, bracket, camera_matrix):
    pose = np.eye(4)
    pose[:3, 3] = np.array([0.0, 0.0, 0.9 * bracket.diameter]) - bracket.center
    mask = estimator.render_mask(pose, camera_matrix, SIZE)
    solution = estimator.estimate(mask, camera_matrix, pose)
    assert solution.truncated and solution.iou > 0.9


@pytest.mark.parametrize(
    "mask, message",
    [
        (np.zeros((480, 640), bool), "no pixel is set"),
        (np.pad(np.ones((3, 3), np.uint8), 40), "9 pixels are set, at least 64"),
        (np.zeros((480, 640, 3), np.uint8), "one channel"),
        (np.zeros((0, 0), np.uint8), "non-empty"),
        (np.full((480, 640), 0.7), "Threshold"),
        (np.zeros(10, np.uint8), r"shape \(10,\)"),
        (np.ones((1, 3000), bool), "too thin"),
    ],
)
def test_bad_masks(estimator, camera_matrix, mask, message):
    with pytest.raises(MaskError, match=message):
        estimator.estimate(mask, camera_matrix)


@pytest.mark.parametrize(
    "change, message",
    [
        ({(0, 0): np.nan}, "finite"), ({(0, 0): 0.0}, "positive focal"), ({(1, 1): -600.0}, "positive focal"),
        ({(2, 2): 0.0}, "rows"), ({(1, 0): 3.0}, "rows"), ({(0, 1): 9.0}, "skew"),
    ],
)  # fmt: skip
def test_bad_cameras(estimator, one, camera_matrix, change, message):
    bad = camera_matrix.copy()
    for place, value in change.items():
        bad[place] = value
    with pytest.raises(CameraError, match=message):
        estimator.estimate(one[0], bad)


@pytest.mark.parametrize("bad", [np.eye(3), "K", np.zeros((4, 4))])
def test_camera_of_another_shape(estimator, one, bad):
    with pytest.raises(CameraError):
        estimator.estimate(one[0], np.asarray(bad)[:2] if isinstance(bad, np.ndarray) else bad)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t[:3], "shape"), (lambda t: t * np.nan, "finite"),
        (lambda t: np.diag([2, 2, 2, 1.0]) @ t, "orthonormal"),
        (lambda t: np.diag([1, 1, -1, 1.0]) @ t, "determinant"), (lambda t: t - np.diag([0, 0, 0, 0.5]), "last row"),
        (lambda t: np.vstack([t[:2], [*t[2, :3], -1.0], t[3]]), "in front of the camera"),
    ],
)  # fmt: skip
def test_bad_initial_poses(estimator, one, camera_matrix, change, message):
    with pytest.raises(PoseError, match=message):
        estimator.estimate(one[0], camera_matrix, change(one[2].copy()))


def test_an_initial_pose_far_away_is_given_up_for_a_search(estimator, one, camera_matrix):
    mask, true, near = one
    far = near.copy()
    far[:3, 3] = (5.0, 5.0, 0.5)
    found = estimator.estimate(mask, camera_matrix, far)
    assert found.iou > 0.97 and rotation_error_deg(found.T_camera_object, true) < 5.0


def test_without_a_search_a_far_initial_pose_ends_in_a_low_iou(bracket, one, camera_matrix):
    config = EstimatorConfig(search_pixels=0.0, retry_angle_deg=0.0)
    estimator = ObjectPoseEstimator.from_mesh(bracket, device="cpu", config=config)
    far = one[2].copy()
    far[:3, 3] = (5.0, 5.0, 0.5)
    solution = estimator.estimate(one[0], camera_matrix, far)
    assert np.isfinite(solution.T_camera_object).all() and solution.iou < 0.5


def test_weights_are_read_once(bracket, tmp_path):
    """Also where tensors are made of them later."""
    file = tmp_path / "weights.safetensors"
    file.write_bytes(DEFAULT_WEIGHTS.read_bytes())
    one = ObjectPoseEstimator(bracket, file, device="cpu", symmetries=Symmetries.none())
    file.unlink()
    assert one.on_device().num_stages == one.num_stages


def test_bad_files(bracket, tmp_path):
    with pytest.raises(MeshError, match="no file"):
        ObjectPoseEstimator.from_mesh(tmp_path / "none.stl")
    (tmp_path / "w.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="not a readable"):
        ObjectPoseEstimator.from_mesh(bracket, weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize("device", ["tpu", "cuda:99", ""])
def test_bad_device(bracket, device):
    with pytest.raises(ConfigError, match="device="):
        ObjectPoseEstimator.from_mesh(bracket, device=device)


def test_number_of_stages(bracket, one, camera_matrix):
    short = ObjectPoseEstimator(bracket, device="cpu", num_stages=2, config=EstimatorConfig(retry_angle_deg=0.0))
    assert len(short.estimate(one[0], camera_matrix, one[2]).history) == 3
    with pytest.raises(ConfigError, match="num_stages=0"):
        ObjectPoseEstimator(bracket, device="cpu", num_stages=0)


def test_the_iou_is_that_of_the_reported_pose_without_keep_best_too(bracket, one, camera_matrix):
    """Whatever the history holds, the confidence belongs to the pose that is returned."""
    solver = SolverConfig(adaptive=False, keep_best=False)
    config = EstimatorConfig(solver=solver, refine=None, retry_angle_deg=0.0)
    estimator = ObjectPoseEstimator(bracket, device="cpu", config=config)
    solution = estimator.estimate(one[0], camera_matrix, one[2])
    assert solution.iou == pytest.approx(1.0 - solution.residual_norms[-1], abs=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_cuda_gives_the_same_pose(bracket, one, camera_matrix):
    config = EstimatorConfig(solver=SolverConfig())
    poses = [
        ObjectPoseEstimator(bracket, device=device, config=config).estimate(one[0], camera_matrix, one[2])
        for device in ("cpu", "cuda")
    ]
    assert rotation_error_deg(poses[0].T_camera_object, poses[1].T_camera_object) < 0.5


@pytest.mark.parametrize("bad", [{"hypotheses": 0}, {"survivors": 99}, {"views": 1}, {"ambiguity_iou": 2.0}])
def test_config_rejects(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        EstimatorConfig(**bad)
