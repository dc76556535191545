# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels give what the tensor operations give: on CUDA, or on CPU tensors in Triton's interpreter.

Without a GPU this takes ``pip install triton`` and patience: ``python -m pytest test/object_pose/test_gpu_kernels.py``.
"""

import os
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernels are imported
pytest.importorskip("triton", reason="triton is not installed; it comes with PyTorch's CUDA builds")

from dfips_ros.geometry import so3_exp  # noqa: E402
from dfips_ros.networks.contour_gauss_newton import (  # noqa: E402
    EPSILON,
    ROTATION_KNEE,
    ContourGaussNewtonStage,
)
from dfips_ros.processes import cuda_kernels, device_contour, device_meshes, device_observation  # noqa: E402
from dfips_ros.processes.contour import GLOBAL_FEATURES, ROW_FEATURES  # noqa: E402
from dfips_ros.processes.cuda_stages import Rule, Unrolling  # noqa: E402
from dfips_ros.processes.device_contour import compare, observed_moments  # noqa: E402
from dfips_ros.processes.device_meshes import DeviceMeshes  # noqa: E402
from dfips_ros.processes.device_observation import observe, signed_distance  # noqa: E402
from dfips_ros.processes.rasterizer import rasterize_numpy  # noqa: E402
from dfips_ros.processes.silhouette import RasterRenderer  # noqa: E402
from dfips_ros.solver import SolverConfig  # noqa: E402
from dfips_ros.tasks.object_pose import (  # noqa: E402
    EstimatorConfig,
    Symmetries,
    device_crop,
    device_polish,
    device_solver,
    device_stages,
)
from dfips_ros.tasks.object_pose.config import ObjectPoseConfig, PoseDataConfig  # noqa: E402
from dfips_ros.tasks.object_pose.data import pose_batches  # noqa: E402
from dfips_ros.tasks.object_pose.device_polish import DevicePolish  # noqa: E402
from dfips_ros.tasks.object_pose.device_stages import DeviceStages, on_device  # noqa: E402
from dfips_ros.tasks.object_pose.gauss_newton import GaussNewtonConfig  # noqa: E402
from dfips_ros.tasks.object_pose.problem import MeshSet, make_solver  # noqa: E402
from dfips_ros.tasks.object_pose.shapes import random_shape  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIZE = 40 if DEVICE.type == "cpu" else 128
CONFIG = ObjectPoseConfig(crop_size=SIZE, width=24, solver=SolverConfig(num_stages=2, max_scalings=0))
MODULES = (
    device_contour, device_crop, device_meshes, device_observation, device_polish, device_solver, device_stages,
)  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def meshes():
    return MeshSet([random_shape(1000), random_shape(1001)], 100 if DEVICE.type == "cpu" else 5000)


@pytest.fixture(scope="module")
def batch(meshes):
    """An observation, initial poses, and an offset; one of the poses is out of view."""
    data = PoseDataConfig(batch_size=3, degraded=0.4, seed=3, angles=(10.0,), angle_weights=(1.0,))
    seen, initial, _ = next(pose_batches(meshes, CONFIG, data))
    seen = observe(seen.mask, seen.valid, seen.camera, seen.mesh_index)
    initial[2, 0, 3] += 9.0
    return seen, initial, torch.tensor([0.5, 0.1, 0.9])


def use_kernels(monkeypatch, yes=True):
    """Whatever the device is; the results of one and the other are compared."""
    for module in MODULES:
        monkeypatch.setattr(module, "has_kernels", lambda device: yes)
    monkeypatch.setattr(cuda_kernels, "_SPLIT_WORK", 200 if DEVICE.type == "cpu" else 4096)


def test_rasteriser(meshes, batch, monkeypatch):
    """The pixels of the CPU's rasteriser."""
    seen, initial, _ = batch
    use_kernels(monkeypatch)
    drawn = DeviceMeshes(meshes.packed, meshes.surface, DEVICE).inverse_depth(
        seen.mesh_index.to(DEVICE), initial.to(DEVICE), seen.camera.to(DEVICE), SIZE,
        torch.tensor([True, True, False]).to(DEVICE),
    ).cpu()  # fmt: skip
    expected = torch.from_numpy(
        rasterize_numpy(meshes.packed, seen.mesh_index.numpy(), initial.numpy(), seen.camera.numpy(), (SIZE, SIZE))
    )
    assert drawn[2].eq(0).all() and (expected[:2] > 0).any()
    assert ((drawn[:2] > 0) != (expected[:2] > 0)).sum() <= 1
    both = (drawn[:2] > 0) & (expected[:2] > 0)
    assert torch.allclose(1.0 / drawn[:2][both], expected[:2][both], rtol=1e-4)


def test_observation(batch, monkeypatch):
    """Distances and contours; one mask is empty, and one is full."""
    seen, _, offset = batch
    mask = seen.mask.clone()
    mask[0] = 0
    parts = [part.to(DEVICE) for part in (mask, seen.valid, seen.camera, seen.mesh_index, offset)]
    use_kernels(monkeypatch, False)
    expected = observe(*parts), signed_distance(torch.ones_like(parts[0]) > 0), observed_moments(seen)
    use_kernels(monkeypatch)
    found = observe(*parts), signed_distance(torch.ones_like(parts[0]) > 0), observed_moments(seen)
    for mine, theirs in zip(found[1:], expected[1:], strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4)
    for name in ("signed_distance", "contour", "contour_valid"):
        assert torch.allclose(getattr(found[0], name), getattr(expected[0], name), atol=1e-4), name
    assert expected[0].contour_valid.sum() > 90


@pytest.mark.parametrize("turn, zoom", [(0.0, 3.0), (0.2, 0.9), (-0.1, 0.3)])
def test_crop(batch, monkeypatch, turn, zoom):
    """Enlarged, shrunk, and beyond the image."""
    masks = batch[0].mask[:2] > 0
    camera = torch.tensor([[40.0, 0, 19], [0, 41.0, 20], [0, 0, 1]], dtype=torch.float64).expand(2, 3, 3)
    bounds = torch.tensor([[5.0, 6.0, 30.0, 28.0], [0.0, 0.0, 39.0, 39.0]], dtype=torch.float64)
    rotation, matrix = device_crop.look_at_boxes(bounds, camera, 24)
    matrix[:, :2, :2] *= zoom
    matrix[:, 0, 2] += 24.0 * turn
    arguments = (device_crop.area_table(masks), camera, rotation, matrix)
    use_kernels(monkeypatch, False)
    expected = device_crop.warp(*arguments, 24)
    use_kernels(monkeypatch)
    found = device_crop.warp(*(part.to(DEVICE) for part in arguments), 24)
    assert expected[0].any()
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine.cpu() != theirs).sum() <= 1


def test_comparison(meshes, batch, monkeypatch):
    seen, initial, offset = batch
    on = DeviceMeshes(meshes.packed, meshes.surface, DEVICE)
    arguments = (on, on_device(seen, DEVICE), initial.to(DEVICE))
    use_kernels(monkeypatch, False)
    expected = compare(*arguments, offset=offset.to(DEVICE))
    use_kernels(monkeypatch)
    found = compare(*arguments, offset=offset.to(DEVICE))
    assert expected["weight"][:2].sum() > 200
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-4), name


@pytest.mark.parametrize("width", [16, 24, 64])
def test_one_stage(width):
    """On random features, some of the rows unknown."""
    torch.manual_seed(width)
    stage = ContourGaussNewtonStage(ROW_FEATURES, GLOBAL_FEATURES, width)
    for part in stage.parameters():
        torch.nn.init.normal_(part, std=0.15)
    features = {
        "rows": torch.randn(2, 40, ROW_FEATURES), "jacobian": torch.randn(2, 40, 6), "residual": torch.randn(2, 40),
        "weight": (torch.rand(2, 40) < 0.8).float(), "context": torch.randn(2, GLOBAL_FEATURES),
    }  # fmt: skip
    features = {name: part.to(DEVICE) for name, part in features.items()}
    weights = {name: part.detach().to(DEVICE) for name, part in stage.state_dict().items()}
    pose = torch.eye(4, device=DEVICE).repeat(2, 1, 1)
    pose[:, 2, 3] = 3.0
    update = device_stages.stage_update(weights, features)
    rule = Rule(2, 0.5, 1.0, -1.0, 1e6, True, True, EPSILON, ROTATION_KNEE)
    made = Unrolling(pose, 8, 1, rule)
    made.images.fill_(1.0)  # what was drawn before
    made.features = {name: torch.cat([part] * 3) for name, part in features.items()}
    made.step(weights, 0)
    assert update.abs().min(0).values.max() > 0.05 and not made.images.any()
    for trial, scale in zip(made.trials[0].unflatten(0, (2, 2)), (1.0, 0.5), strict=True):
        assert torch.allclose(trial, device_stages.moved(pose, update * scale), atol=1e-5)


@pytest.mark.parametrize("change", [
    {}, {"max_scalings": 1, "scaling": 0.5, "tolerance": 0.05}, {"adaptive": False, "keep_best": False},
    {"enough": 0.3, "num_stages": 1},
])  # fmt: skip
def test_stages(meshes, batch, monkeypatch, change):
    seen, initial, _ = batch
    torch.manual_seed(0)
    config = replace(CONFIG, solver=replace(CONFIG.solver, **change))
    solver = make_solver(config, meshes)
    for part in solver.parameters():  # untrained, some of them say nothing
        torch.nn.init.normal_(part, std=0.1)
    check(monkeypatch, DeviceStages(solver, DEVICE), seen, initial)


def test_polish(meshes, batch, monkeypatch):
    seen, initial, _ = batch
    config = GaussNewtonConfig(iterations=2, attempts=2, damping=1e-3, robust_pixels=1.0, least_gain=1e-4)
    found = check(monkeypatch, DevicePolish(meshes, config, DEVICE), seen, initial)
    assert (found.residual_norms[:, -1] < found.residual_norms[:, 0]).any()


def looking_at(mesh, turn, shift):
    """A pose whose object's center is at ``shift``, in diameters."""
    pose = np.eye(4)
    pose[:3, :3] = so3_exp(torch.tensor([turn], dtype=torch.float64))[0].numpy()
    pose[:3, 3] = np.array(shift) * mesh.diameter - pose[:3, :3] @ mesh.center
    return pose


@pytest.mark.parametrize("polish, axes", [(True, 1), (False, 0)])
def test_solve(meshes, monkeypatch, polish, axes):
    """From masks to poses: one that leaves the image, an empty one, and a pose that is of no use."""
    mesh = meshes.meshes[0]
    size = (60, 72) if DEVICE.type == "cpu" else (240, 288)
    scale = size[0] / 60.0
    camera = np.array([[64.0 * scale, 0, 37 * scale], [0, 63.0 * scale, 29 * scale], [0, 0, 1]])
    true = [looking_at(mesh, (0.3, 0.2, 0.1), (0.1, 0.05, 2.0)), looking_at(mesh, (-0.3, 0.5, 0.1), (0.6, 0.3, 1.6))]
    near = [looking_at(mesh, (0.35, 0.25, 0.0), (0.12, 0.05, 2.1)), looking_at(mesh, (-0.3, 0.5, 0.2), (0.6, 0.3, 1.5))]
    initial, counts = np.stack([*near, near[0], near[0]]), len(near) + 2
    initial[3, 2, 3] = np.nan
    masks = np.zeros((counts, *size), bool)
    tensors = torch.from_numpy(np.stack(true)).float(), torch.from_numpy(camera).float()
    masks[:2] = RasterRenderer(mesh).render(*tensors, size).numpy() > 0
    masks[3] = masks[0]
    axis = np.array([[0.6, 0.0, 0.8]])[:axes]
    config = EstimatorConfig(
        refine=GaussNewtonConfig(iterations=2, attempts=2, damping=1e-3, robust_pixels=1.0) if polish else None,
        refine_size=SIZE + 8, refine_faces=100, min_mask_pixels=30,
    )  # fmt: skip
    torch.manual_seed(1)
    rule = {} if polish else {"adaptive": False, "keep_best": False}
    stages = make_solver(replace(CONFIG, solver=replace(CONFIG.solver, **rule)), MeshSet([mesh], 100))
    for part in stages.parameters():
        torch.nn.init.normal_(part, std=0.1)
    solver = device_solver.DevicePoseSolver(
        mesh, stages, config, DEVICE, Symmetries(np.eye(4)[None], axis, 0.01 * axis), 1 if polish else 2, SIZE
    )
    inputs = solver._inputs(masks.astype(np.uint8) * 255, camera, torch.from_numpy(initial))
    use_kernels(monkeypatch, False)
    expected = solver.forward(*inputs)
    use_kernels(monkeypatch)
    found = solver.forward(*inputs)
    assert expected.solved.tolist() == [True, True, False, False] and expected.truncated[1]
    assert (expected.iou[:2] > 0.3).all() and not torch.allclose(expected.history[0, 0], expected.T_camera_object[0])
    for copy in (found, found.clone()):
        for part in fields(expected):
            mine, theirs = getattr(copy, part.name), getattr(expected, part.name)
            if theirs is None:  # the kernels have one piece of memory
                continue
            assert mine.dtype == theirs.dtype, part.name
            assert torch.allclose(mine.double(), theirs.double(), rtol=1e-3, atol=1e-4, equal_nan=True), part.name
    assert torch.allclose(found.covariance, expected.covariance, rtol=1e-3, atol=1e-8)


def check(monkeypatch, estimator, seen, initial):
    """The solution with kernels, after it was compared with the one without."""
    use_kernels(monkeypatch, False)
    expected = estimator.estimate(seen, initial)
    use_kernels(monkeypatch)
    found = estimator.estimate(seen, initial)
    assert (expected.history[0] != expected.history[-1]).any()
    assert torch.allclose(found.residual_norms, expected.residual_norms, atol=1e-3)
    assert torch.allclose(found.estimate, expected.estimate, atol=1e-3)
    for mine, theirs in zip(found.history, expected.history, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-3)
    return found
