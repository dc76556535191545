# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels give what the tensor operations give: on CUDA, or on CPU tensors in Triton's interpreter.

Without a GPU this takes ``pip install triton`` and patience: ``python -m pytest test/object_pose/test_gpu_kernels.py``.
"""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernels are imported
pytest.importorskip("triton", reason="triton is not installed; it comes with PyTorch's CUDA builds")

from dfips_ros.processes import cuda_kernels, device_contour, device_meshes, device_observation  # noqa: E402
from dfips_ros.processes.device_contour import compare  # noqa: E402
from dfips_ros.processes.device_meshes import DeviceMeshes  # noqa: E402
from dfips_ros.processes.device_observation import observe, signed_distance  # noqa: E402
from dfips_ros.processes.rasterizer import rasterize_numpy  # noqa: E402
from dfips_ros.solver import SolverConfig  # noqa: E402
from dfips_ros.tasks.object_pose import device_crop, device_polish, device_stages  # noqa: E402
from dfips_ros.tasks.object_pose.config import ObjectPoseConfig, PoseDataConfig  # noqa: E402
from dfips_ros.tasks.object_pose.data import pose_batches  # noqa: E402
from dfips_ros.tasks.object_pose.device_polish import DevicePolish  # noqa: E402
from dfips_ros.tasks.object_pose.device_stages import DeviceStages, on_device  # noqa: E402
from dfips_ros.tasks.object_pose.gauss_newton import GaussNewtonConfig  # noqa: E402
from dfips_ros.tasks.object_pose.problem import MeshSet, make_solver  # noqa: E402
from dfips_ros.tasks.object_pose.shapes import random_shape  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIZE = 40 if DEVICE.type == "cpu" else 128
CONFIG = ObjectPoseConfig(crop_size=SIZE, width=16, solver=SolverConfig(num_stages=1))
MODULES = (device_contour, device_crop, device_meshes, device_observation, device_polish, device_stages)
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


def test_distance(batch, monkeypatch):
    mask = batch[0].mask > 0
    use_kernels(monkeypatch, False)
    expected = signed_distance(mask)
    use_kernels(monkeypatch)
    assert torch.allclose(signed_distance(mask.to(DEVICE)).cpu(), expected, atol=1e-4)


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


def test_stages_and_polish(meshes, batch, monkeypatch):
    seen, initial, _ = batch
    torch.manual_seed(0)
    solver = make_solver(CONFIG, meshes)
    config = GaussNewtonConfig(iterations=2, attempts=2, damping=1e-3, robust_pixels=1.0, least_gain=1e-4)
    for estimator in (DeviceStages(solver, DEVICE), DevicePolish(meshes, config, DEVICE)):
        use_kernels(monkeypatch, False)
        expected = estimator.estimate(seen, initial)
        use_kernels(monkeypatch)
        found = estimator.estimate(seen, initial)
        assert (expected.residual_norms[:, -1] < expected.residual_norms[:, 0]).any()
        assert torch.allclose(found.residual_norms, expected.residual_norms, atol=1e-3)
        for mine, theirs in zip(found.history, expected.history, strict=True):
            assert torch.allclose(mine, theirs, atol=1e-3)
