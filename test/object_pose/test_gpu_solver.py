# SPDX-License-Identifier: Apache-2.0
"""From masks to poses on a device: the estimator's answers in batches, nothing that waits, and bad input."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dfips_ros.errors import CameraError, ConfigError, MaskError, PoseError
from dfips_ros.tasks.object_pose import (
    EstimatorConfig,
    ObjectPoseEstimator,
    Symmetries,
    device_stages,
    mask_solve,
    rotation_error_deg,
    translation_error,
)
from dfips_ros.tasks.object_pose.device_covariance import FREE_VARIANCE, ROBUST_SCALE
from dfips_ros.tasks.object_pose.device_solver import POLISH_MARGIN, DevicePoseSolver
from dfips_ros.tasks.object_pose.gauss_newton import GaussNewtonConfig

SIZE, COUNT = (240, 320), 5
NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=NO_CUDA)]
CAMERA = np.array([[305.0, 0.0, 161.0], [0.0, 304.0, 118.0], [0.0, 0.0, 1.0]])
REFINE = GaussNewtonConfig(iterations=4, attempts=2, damping=1e-3, robust_pixels=1.0, least_gain=1e-4)
CONFIG = EstimatorConfig(retry_angle_deg=0.0, refine=REFINE, refine_size=96)


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def one_by_one(bracket):
    return ObjectPoseEstimator(bracket, device="cpu", config=CONFIG, symmetries=Symmetries.none())


@pytest.fixture(scope="module")
def batch(one_by_one, true_poses, near_poses):
    """Masks, initial poses, and the poses that are true."""
    true, near = true_poses[:COUNT], near_poses[:COUNT]
    return np.stack([one_by_one.render_mask(pose, CAMERA, SIZE) for pose in true]), near, true


def make_solver(like, device, config=CONFIG):
    return DevicePoseSolver(like.mesh, like._solver, config, torch.device(device), Symmetries.none())


def test_constants_are_those_of_the_estimator():
    assert POLISH_MARGIN == mask_solve.REFINE_MARGIN
    assert (ROBUST_SCALE, FREE_VARIANCE) == (mask_solve.ROBUST_SCALE, mask_solve.FREE_VARIANCE)


@pytest.mark.parametrize("device", DEVICES)
def test_gives_the_poses_of_the_estimator(one_by_one, batch, device):
    """Within what the exact distance transform and the fixed size of the polish's crop change."""
    masks, near, true = batch
    kept = masks.copy(), near.copy()
    found = make_solver(one_by_one, device).solve(masks, CAMERA, near)
    assert all(np.array_equal(a, b) for a, b in zip(kept, (masks, near), strict=True))
    turns, shifts, diameter = [], [], one_by_one.mesh.diameter
    for b in range(COUNT):
        expected = one_by_one.estimate(masks[b], CAMERA, near[b])
        pose = found.T_camera_object[b].cpu().numpy()
        turns.append(rotation_error_deg(pose, expected.T_camera_object))
        shifts.append(translation_error(pose, expected.T_camera_object, center=one_by_one.mesh.center) / diameter)
        assert found.iou[b].item() == pytest.approx(expected.iou, abs=0.02)
        assert np.allclose(found.history[b, 0].cpu(), near[b], atol=1e-6)
        assert np.abs(found.residual_norms[b].cpu().numpy() - expected.residual_norms).max() < 0.05
        assert bool(found.truncated[b]) == expected.truncated
        ratio = np.diag(found.covariance[b].cpu().numpy()) / np.diag(expected.covariance)
        assert (0.2 < ratio).all() and (ratio < 5.0).all()
    assert np.median(turns) < 0.5 and np.median(shifts) < 0.01
    assert found.solved.all() and found.mask_pixels.tolist() == masks.sum((1, 2)).tolist()


@pytest.mark.parametrize("device", DEVICES)
def test_an_element_does_not_see_the_others(one_by_one, batch, device):
    masks, near, _ = batch
    solver = make_solver(one_by_one, device)
    together = solver.solve(masks, CAMERA, near)
    spoilt, starts = masks.copy(), near.copy()
    spoilt[1] = False
    spoilt[2, :-4] = False
    spoilt[3] = True
    starts[4, 2, 3] = -9.0
    found = solver.solve(spoilt, CAMERA, torch.from_numpy(starts))
    starts[4] = np.nan  # in a tensor nobody looks
    lost = solver.solve(spoilt, CAMERA, torch.from_numpy(starts))
    assert not lost.solved[4] and torch.equal(lost.T_camera_object[:4], found.T_camera_object[:4])
    starts[4] = near[4]
    starts[4, 2, 3] = -9.0
    assert torch.allclose(found.T_camera_object[0], together.T_camera_object[0], atol=1e-6)
    assert found.solved.tolist() == [True, False, bool(spoilt[2].sum() >= CONFIG.min_mask_pixels), True, False]
    for b in np.flatnonzero(~found.solved.cpu().numpy()):
        assert found.iou[b] == 0.0 and np.array_equal(found.T_camera_object[b].cpu().numpy(), starts[b])
    assert torch.isfinite(found.T_camera_object).all()


def test_without_polish_and_for_one_camera_each(one_by_one, batch):
    masks, near, _ = batch
    solver = make_solver(one_by_one, "cpu", EstimatorConfig(refine=None))
    one = solver.solve(masks[:2], CAMERA, near[:2])
    each = solver.solve(torch.from_numpy(masks[:2]), np.stack([CAMERA, CAMERA]), torch.from_numpy(near[:2]))
    assert torch.equal(one.T_camera_object, each.T_camera_object)
    assert torch.allclose(one.iou, 1.0 - one.residual_norms.amin(1))


@pytest.mark.parametrize("change, error, message", [
    ({"masks": np.zeros((4, 5), bool)}, MaskError, r"\(B, H, W\)"),
    ({"masks": np.zeros((2, 0, 5), bool)}, MaskError, "empty side"),
    ({"masks": np.zeros((2, 4, 5), np.float32)}, MaskError, "float32"),
    ({"camera_matrix": np.zeros((3, 3))}, CameraError, "positive focal"),
    ({"camera_matrix": torch.eye(4)}, CameraError, r"\(3, 3\) or \(2, 3, 3\)"),
    ({"camera_matrix": np.stack([CAMERA] * 3)}, CameraError, r"got \(3, 3, 3\)"),
    ({"initial": np.eye(4)}, PoseError, "one for each mask"),
    ({"initial": np.full((2, 4, 4), np.nan)}, PoseError, "NaN"),
])  # fmt: skip
def test_bad_input(one_by_one, change, error, message):
    arguments = {
        "masks": np.ones((2, 4, 5), bool), "camera_matrix": CAMERA, "initial": np.stack([np.eye(4)] * 2),
    }  # fmt: skip
    with pytest.raises(error, match=message):
        make_solver(one_by_one, "cpu").solve(**{**arguments, **change})


def test_bad_config(one_by_one):
    with pytest.raises(ConfigError, match="polish_size"):
        DevicePoseSolver(one_by_one.mesh, one_by_one._solver, CONFIG, torch.device("cpu"), polish_size=8)


class _Record(TorchDispatchMode):
    """Names of the operations that ran."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, kinds, arguments=(), named=None):
        self.names.add(str(function))
        return function(*arguments, **(named or {}))


# What reads a value back, or has an outcome whose shape depends on values: each waits for a GPU.
WAITS = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "is_nonzero", "equal.default")


def test_nothing_waits(one_by_one, batch):
    masks, near, _ = batch
    solver = make_solver(one_by_one, "cpu")
    inputs = solver._inputs(masks[:1], CAMERA, near[:1])
    with _Record() as record:
        solver.forward(*inputs)
    assert len(record.names) > 50
    assert not {name for name in record.names if any(wait in name for wait in WAITS)}


@NO_CUDA
@pytest.mark.parametrize("count", [1, COUNT])
def test_a_recorded_solve_waits_for_nothing(one_by_one, batch, count):
    """On CUDA: replayed, with an error for whatever waits; and the next solve leaves the answer alone."""
    masks, near, _ = batch
    solver = make_solver(one_by_one, "cuda")
    assert solver.records
    inputs = [torch.as_tensor(a).cuda() for a in (masks[:count], CAMERA, near[:count])]
    first = solver.solve(*inputs)  # records
    expected = first.T_camera_object.clone()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.set_sync_debug_mode("error")
    try:
        second = solver.solve(*inputs)
        eager = solver.forward(inputs[0].view(torch.uint8), inputs[1].expand(count, 3, 3), inputs[2])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    solver.solve(inputs[0].flip(1), *inputs[1:])
    torch.cuda.synchronize()
    assert torch.allclose(first.T_camera_object, expected, atol=0.0)
    assert torch.allclose(second.T_camera_object, expected, atol=1e-6)
    assert torch.allclose(eager.T_camera_object, expected, atol=1e-6)
    assert torch.cuda.memory_allocated() - before < 64 << 20


@pytest.mark.parametrize("device", DEVICES)
def test_the_estimator_takes_it_where_it_explains_the_mask(bracket, batch, device):
    """What ``estimate`` does on a GPU, here on both: an answer of the same kind, or none where more is to be tried."""
    masks, near, true = batch
    one = ObjectPoseEstimator(bracket, device=device, config=CONFIG, symmetries=Symmetries.none())
    found = one._estimate_at_once(masks[0], CAMERA, near[:1], None)
    expected = one.estimate(masks[0], CAMERA, near[0])
    assert rotation_error_deg(found.T_camera_object, expected.T_camera_object) < 1.0
    assert found.T_camera_object.dtype == np.float64 and found.iou == pytest.approx(expected.iou, abs=0.02)
    assert len(found.history) == len(expected.history) and found.alternatives == ()
    assert found.covariance.shape == (6, 6) and found.solve_time > 0
    assert one._estimate_at_once(np.zeros_like(masks[0]), CAMERA, near[:1], None) is None
    assert one._estimate_at_once(masks[0], CAMERA, near[:2], None) is None
    config = EstimatorConfig(refine=None)
    careful = ObjectPoseEstimator(bracket, device=device, config=config, symmetries=Symmetries.none())
    assert careful._estimate_at_once(masks[0], CAMERA, near[:1], 1.0) is None


@pytest.mark.parametrize("device", DEVICES)
def test_hypotheses_are_unrolled_on_the_device(bracket, batch, device, monkeypatch):
    """The search and the retries of an estimator on a GPU; on the CPU its compiled stages are put aside."""
    masks, near, _ = batch
    one = ObjectPoseEstimator(bracket, device=device, config=CONFIG, symmetries=Symmetries.none())
    expected = ObjectPoseEstimator(bracket, device="cpu", config=CONFIG, symmetries=Symmetries.none())
    on_device = device_stages.DeviceStages(one._solver, torch.device(device))
    monkeypatch.setattr(one._hypotheses, "solver", one._solver)
    monkeypatch.setattr(one._hypotheses, "_on_device", on_device)
    found = one.estimate(masks[0], CAMERA, np.stack([near[1], near[0]]))
    pose = expected.estimate(masks[0], CAMERA, np.stack([near[1], near[0]])).T_camera_object
    assert rotation_error_deg(found.T_camera_object, pose) < 0.5
