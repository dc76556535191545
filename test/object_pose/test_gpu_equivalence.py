# SPDX-License-Identifier: Apache-2.0
"""What runs on a GPU gives what the CPU gives: the same operations on CPU tensors, and on CUDA where there is one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dfips_ros.processes import contour, observation
from dfips_ros.processes.device_contour import compare
from dfips_ros.processes.device_meshes import DeviceMeshes, has_kernels
from dfips_ros.processes.device_observation import observe
from dfips_ros.processes.rasterizer import rasterize_numpy
from dfips_ros.solver import SolverConfig, StageTrainer, TrainingConfig
from dfips_ros.tasks.object_pose import crop
from dfips_ros.tasks.object_pose.config import ObjectPoseConfig, PoseDataConfig
from dfips_ros.tasks.object_pose.data import pose_batches
from dfips_ros.tasks.object_pose.device_crop import area_table, look_at_boxes, mask_bounds, resized, warp
from dfips_ros.tasks.object_pose.device_polish import DevicePolish
from dfips_ros.tasks.object_pose.device_stages import (
    DeviceFeedback,
    DeviceImageFeedback,
    DeviceStages,
    on_device,
    solve_positive,
)
from dfips_ros.tasks.object_pose.estimator import DEFAULT_WEIGHTS
from dfips_ros.tasks.object_pose.gauss_newton import ContourGaussNewton, GaussNewtonConfig
from dfips_ros.tasks.object_pose.problem import ImageFeedback, MeshSet, load_solver, make_solver, pose_loss
from dfips_ros.tasks.object_pose.shapes import random_shape

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=NO_CUDA)]
CONFIGS = {
    "defaults": SolverConfig(),
    "rejects": SolverConfig(max_scalings=0),
    "scales twice": SolverConfig(max_scalings=2, scaling=0.5, tolerance=0.05),
    "not adaptive": SolverConfig(adaptive=False, keep_best=False),
    "stops early": SolverConfig(enough=0.1),
}
COUNT, STAGES = 6, 3


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def problem():
    solver, config, _ = load_solver(DEFAULT_WEIGHTS, [random_shape(1000 + i) for i in range(3)])
    data = PoseDataConfig(batch_size=COUNT, degraded=0.4, seed=3)
    seen, initial, truth = next(pose_batches(solver.feedback.meshes, config, data))
    return solver, seen, initial, truth


@pytest.mark.parametrize("device", DEVICES)
def test_observations(problem, device):
    """Contours are the same; the distance is exact, and OpenCV's is within 2 % of it."""
    _, seen, _, _ = problem
    masks = seen.mask.numpy()
    cpu = observation.observe(masks, seen.camera.numpy(), seen.valid.numpy(), seen.mesh_index.numpy())
    found = observe(*(part.to(device) for part in (seen.mask, seen.valid, seen.camera, seen.mesh_index)))
    assert torch.allclose(found.contour.cpu(), cpu.contour, atol=1e-6)
    assert torch.equal(found.contour_valid.cpu(), cpu.contour_valid)
    distance = found.signed_distance.cpu()
    assert ((distance - cpu.signed_distance).abs() < 0.02 * distance.abs() + 0.08).all()
    pixels = np.argwhere(masks[0] > 0)
    for y, x in np.argwhere(masks[0] == 0)[::997]:
        assert distance[0, y, x] == pytest.approx(np.hypot(*(pixels - (y, x)).T).min() - 0.5, abs=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_comparisons(problem, device):
    solver, seen, initial, _ = problem
    meshes = solver.feedback.meshes
    shifted = initial.clone()
    shifted[0, 0, 3] += 9.0  # nothing is seen of it
    shifted[1, 2, 3] = 0.3  # parts of it are behind the camera
    offset = np.linspace(0.0, 0.9, COUNT).astype(np.float32)
    expected = contour.compare(meshes.packed, meshes.surface, seen, shifted, offset)
    on = DeviceMeshes(meshes.packed, meshes.surface, torch.device(device))
    there = on_device(seen, torch.device(device))
    found = compare(on, there, shifted.to(device), offset=torch.from_numpy(offset).to(device))
    for name in ("rows", "jacobian", "residual", "weight", "context", "norm"):
        difference = (found[name].cpu() - expected[name]).abs().reshape(COUNT, -1).amax(1)
        scale = 1.0 + expected[name].abs().reshape(COUNT, -1).amax(1)
        # Rounding may tip a pixel of the contour on another device, and with it one element.
        assert ((difference / scale) < 1e-4).float().mean() >= (1.0 if device == "cpu" else 0.8), name
    assert ((found["inverse_depth"].cpu() > 0) == (expected["depth"] > 0)).float().mean() > 0.9999


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size, margin", [(128, 1.5), (224, 1.3), (33, 1.1)])
def test_crops(problem, camera_matrix, device, size, margin):
    """Also of masks that fill the image (shrunk first) and that leave it."""
    solver, _, _, _ = problem
    mesh = solver.feedback.meshes.meshes[0]
    from dfips_ros.processes.silhouette import RasterRenderer

    poses = torch.eye(4).repeat(4, 1, 1)
    depth = torch.tensor([1.1, 2.0, 3.0, 9.0]) * mesh.diameter
    poses[:, :3, 3] = torch.stack([torch.tensor([0.1, -0.5, 0.4, 0.3]) * depth, 0.1 * depth, depth], dim=1)
    poses[:, :3, 3] -= torch.from_numpy(mesh.center).float()
    masks = RasterRenderer(mesh).render(poses, torch.from_numpy(camera_matrix).float(), (480, 640)) > 0
    cameras = torch.from_numpy(camera_matrix).expand(4, 3, 3).to(device)
    bounds, pixels = mask_bounds(masks.to(device))
    rotation, matrix = look_at_boxes(bounds, cameras, size, margin)
    found, valid = (part.cpu().numpy() for part in warp(area_table(masks.to(device)), cameras, rotation, matrix, size))
    for b, mask in enumerate(masks.numpy()):
        assert tuple(bounds[b].tolist()) == crop.mask_bounds(mask) and pixels[b] == mask.sum()
        camera = crop.look_at_box(crop.mask_bounds(mask), camera_matrix, size, margin)
        assert np.allclose(rotation[b].cpu(), camera.R_virtual_camera, atol=1e-12)
        assert np.allclose(matrix[b].cpu(), camera.camera_matrix, rtol=1e-12)
        other = crop.look_at_box(crop.mask_bounds(mask), camera_matrix, 97, 1.7).camera_matrix
        assert np.allclose(resized(matrix, size, margin, 97, 1.7)[b].cpu(), other, rtol=1e-12)
        expected, known = camera.warp(mask, camera_matrix)
        assert (found[b] != expected).sum() <= 4  # OpenCV interpolates in steps of 1/32 pixel
        assert (valid[b] != known).sum() <= 4


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CONFIGS)
def test_stages(problem, device, name):
    solver, seen, initial, _ = problem
    trained = solver.config
    solver.config = replace(CONFIGS[name], num_stages=trained.num_stages)
    before = initial.clone()
    try:
        expected = solver.estimate(seen, initial, STAGES)
        found = DeviceStages(solver, torch.device(device)).estimate(seen, initial, STAGES)
    finally:
        solver.config = trained
    assert torch.equal(initial, before)
    for mine, theirs in zip(found.history, expected.history, strict=True):
        difference = (mine.cpu() - theirs).abs().amax((1, 2))
        assert difference.quantile(0.75) < 1e-4 and difference.max() < 0.1
    assert (found.residual_norms.cpu() - expected.residual_norms).abs().max() < 0.01
    assert ((found.estimate.cpu() - expected.estimate).abs().amax((1, 2)) < 1e-4).float().mean() > 0.7


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("config", [
    GaussNewtonConfig(iterations=4, attempts=2, damping=1e-3, robust_pixels=1.0, least_gain=1e-4),
    GaussNewtonConfig(iterations=2, attempts=3, enough=0.9),
])  # fmt: skip
def test_polish(problem, device, config):
    solver, seen, initial, _ = problem
    start = DeviceStages(solver, torch.device("cpu")).estimate(seen, initial, 1).estimate
    expected = ContourGaussNewton(solver.feedback.meshes, config).estimate(seen, start)
    found = DevicePolish(solver.feedback.meshes, config, torch.device(device)).estimate(seen, start)
    before, after = found.residual_norms[:, 0].cpu(), found.residual_norms[:, -1].cpu()
    assert (after <= before).all() and (after < before).any()
    assert ((found.estimate.cpu() - expected.estimate).abs().amax((1, 2)) < 1e-4).double().mean() >= 0.7
    assert (after - expected.residual_norms[:, -1]).abs().max() < 0.02


def test_one_observation_may_have_several_initial_poses(problem):
    solver, seen, initial, _ = problem
    one, starts = seen[torch.tensor([2])], initial[[2, 2]]
    starts[1, 0, 3] += 0.05
    for estimator in (
        DeviceStages(solver, torch.device("cpu")),
        DevicePolish(solver.feedback.meshes, GaussNewtonConfig(iterations=2), torch.device("cpu")),
    ):
        together = estimator.estimate(one, starts).estimate
        for k in range(2):
            assert torch.allclose(estimator.estimate(one, starts[k : k + 1]).estimate[0], together[k], atol=1e-5)


@pytest.mark.parametrize("size, wanted", [(6, 1), (6, 6), (3, 2)])
def test_positive_systems(size, wanted):
    generator = torch.Generator().manual_seed(0)
    root = torch.randn((20, size, size), generator=generator, dtype=torch.float64)
    matrix = root @ root.transpose(1, 2) + 0.1 * torch.eye(size, dtype=torch.float64)
    right = torch.randn((20, size, wanted), generator=generator, dtype=torch.float64)
    assert torch.allclose(solve_positive(matrix, right), torch.linalg.solve(matrix, right), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("device", DEVICES)
def test_training_learns_the_same(problem, device):
    """A batch's losses with the feedback of the device are those with the feedback of the CPU."""
    config = ObjectPoseConfig(width=16, solver=SolverConfig(num_stages=2))
    meshes = MeshSet([random_shape(7)], 300)
    losses = []
    for on in ("cpu path", device):
        torch.manual_seed(0)
        solver = make_solver(config, meshes)
        if on != "cpu path":
            solver.feedback = DeviceFeedback(meshes, torch.device(device))
            solver.to(device)
        place = torch.device("cpu" if on == "cpu path" else device)
        trainer = StageTrainer(solver, pose_loss, TrainingConfig(max_batches=3, minutes=None, bfloat16=False))
        trainer.run(
            (
                (seen, initial.to(place), {name: part.to(place) for name, part in truth.items()})
                for seen, initial, truth in pose_batches(meshes, config, PoseDataConfig(batch_size=8, degraded=0.0))
            ), quiet=True,
        )  # fmt: skip
        losses.append(trainer.losses)
    assert len(losses[0]) == 3
    assert np.allclose(losses[0], losses[1], rtol=1e-3 if device == "cpu" else 0.02)


@pytest.mark.parametrize("device", DEVICES)
def test_image_feedback(problem, device):
    solver, seen, initial, _ = problem
    meshes = solver.feedback.meshes
    expected = ImageFeedback(meshes)(seen, initial)
    found = DeviceImageFeedback(meshes, torch.device(device))(seen, initial.to(device))
    assert (found.residual_norm.cpu() - expected.residual_norm).abs().max() < 1e-3
    assert torch.allclose(found.inputs["scale"].cpu(), expected.inputs["scale"])
    difference = (found.inputs["images"].cpu() - expected.inputs["images"]).abs()
    assert (difference > 1e-3).float().mean() < 1e-4 and expected.inputs["images"][:, 3].any()


@pytest.mark.parametrize("device", DEVICES)
def test_without_triton_torch_draws(problem, device):
    solver, seen, initial, _ = problem
    meshes = solver.feedback.meshes
    on = DeviceMeshes(meshes.packed, meshes.surface, torch.device(device))
    drawn = on._with_torch(*(part.to(device) for part in (seen.mesh_index, initial, seen.camera)), 128).cpu()
    arrays = (seen.mesh_index.numpy(), initial.numpy(), seen.camera.numpy())
    expected = torch.from_numpy(rasterize_numpy(meshes.packed, *arrays, (128, 128)))
    assert ((drawn > 0) != (expected > 0)).float().mean() < 1e-4
    both = (drawn > 0) & (expected > 0)
    assert both.any() and (drawn - expected).abs()[both].max() < 0.01


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_gpu_without_triton_is_reported(caplog):
    assert not has_kernels.__wrapped__(torch.device("cuda"))
    assert "Triton does not run on cuda" in caplog.text and "Install" in caplog.text
    assert not has_kernels(torch.device("cpu"))
