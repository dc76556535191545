# SPDX-License-Identifier: Apache-2.0
"""Two renderers, one silhouette; and what every forward process owes its callers."""

from pathlib import Path

import numpy as np
import pytest
import torch

import dfips_ros
from dfips_ros.errors import ConfigError, ShapeError
from dfips_ros.geometry import make_pose, random_rotations
from dfips_ros.processes.mesh import Mesh, load_mesh
from dfips_ros.processes.rasterizer import rasterize_torch
from dfips_ros.processes.silhouette import RasterRenderer, SilhouetteProcess, make_renderer

SIZE = (128, 128)
CROP_CAMERA = torch.tensor([[300.0, 0.0, 63.5], [0.0, 300.0, 63.5], [0.0, 0.0, 1.0]])
SHIPPED = sorted(
    f for f in (Path(dfips_ros.__path__[0]) / "data").rglob("*") if f.suffix in (".obj", ".stl", ".ply", ".glb", ".dae")
)


def poses_of(mesh, count, seed=0):
    rng = np.random.default_rng(seed)
    rotation = random_rotations(count, rng)
    shift = rng.uniform((-0.1, -0.1, 2.6), (0.1, 0.1, 4.0), (count, 3)) * mesh.diameter
    shift -= rotation @ mesh.center
    return torch.from_numpy(make_pose(rotation, shift)).float()


def iou(a, b):
    return (((a > 0) & (b > 0)).sum((1, 2)) / ((a > 0) | (b > 0)).sum((1, 2))).min().item()


@pytest.fixture(scope="module")
def pyrender_or_skip(bracket):
    """A machine without EGL is told so; the project's own set-up installs it."""
    renderer = make_renderer("pyrender", bracket)
    renderer.render(poses_of(bracket, 1), CROP_CAMERA, SIZE)


def test_meshes_ship():
    assert len(SHIPPED) >= 3


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.stem)
def test_renderers_agree_on_every_shipped_mesh(file, pyrender_or_skip):
    mesh = load_mesh(file)
    poses = poses_of(mesh, 12)
    ours = RasterRenderer(mesh).render(poses, CROP_CAMERA, SIZE)
    reference = make_renderer("pyrender", mesh)
    theirs = reference.render(poses, CROP_CAMERA, SIZE)
    assert (ours > 0).sum() > 12 * 500
    assert iou(ours, theirs) >= 0.995
    both = (ours > 0) & (theirs > 0)
    assert (ours - theirs)[both].abs().median() < 1e-3 * mesh.diameter


def test_renderers_agree_off_axis_and_at_another_size(bracket, camera_matrix, pyrender_or_skip):
    poses = poses_of(bracket, 4)
    poses[:, 0, 3] += 0.15
    camera = torch.from_numpy(camera_matrix).float()
    reference = make_renderer("pyrender", bracket)
    theirs = reference.render(poses, camera, (480, 640))
    assert iou(RasterRenderer(bracket).render(poses, camera, (480, 640)), theirs) >= 0.998


def test_renderers_agree_on_real_meshes(shared_data, pyrender_or_skip):
    files = sorted((shared_data / "meshes" / "eval" / "ycb_video").rglob("*.obj"))
    assert files
    for file in files:
        mesh = load_mesh(file)
        poses = poses_of(mesh, 4)
        reference = make_renderer("pyrender", mesh)
        theirs = reference.render(poses, CROP_CAMERA, SIZE)
        assert iou(RasterRenderer(mesh).render(poses, CROP_CAMERA, SIZE), theirs) >= 0.995, file


def test_depth_of_a_plate_is_exact():
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0.0]])
    plate = Mesh("plate", corners, np.array([[0, 1, 2], [0, 2, 3]]))
    pose = torch.eye(4)[None].clone()
    pose[0, 2, 3] = 4.0
    depth = RasterRenderer(plate).render(pose, CROP_CAMERA, SIZE)[0]
    # A square of side 2 at depth 4 is 150 px wide: it fills the image.
    assert torch.allclose(depth, torch.full(SIZE, 4.0), atol=1e-5)
    pose[0, 2, 3] = 12.0
    rows, columns = torch.nonzero(RasterRenderer(plate).render(pose, CROP_CAMERA, SIZE)[0] > 0).unbind(1)
    # Now it is 50 px wide, centered at 63.5: pixels 39 to 88.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (39, 88, 39, 88)


def test_renderers_agree_where_the_origin_is_far_from_the_object(bracket, pyrender_or_skip):
    far = Mesh("far", bracket.vertices + (1.0, 0.5, -2.0), bracket.faces)
    poses = poses_of(far, 6)
    reference = make_renderer("pyrender", far)
    theirs = reference.render(poses, CROP_CAMERA, SIZE)
    assert iou(RasterRenderer(far).render(poses, CROP_CAMERA, SIZE), theirs) >= 0.995


@pytest.mark.parametrize("name", ["raster", "pyrender"])
def test_process_contract(name, bracket, pyrender_or_skip):
    process = SilhouetteProcess(make_renderer(name, bracket), CROP_CAMERA, SIZE)
    poses = poses_of(bracket, 5)
    kept = poses.clone()
    together = process(poses)
    assert together.shape == (5, *SIZE) and set(together.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(poses, kept)
    assert torch.equal(together, process(poses))
    assert torch.equal(together, torch.cat([process(p[None]) for p in poses]))


def test_torch_rasteriser_gives_the_same_pixels(bracket):
    poses = poses_of(bracket, 6)
    vertices, faces = torch.from_numpy(bracket.vertices), torch.from_numpy(bracket.faces).long()
    other = rasterize_torch(vertices, faces, poses, CROP_CAMERA.expand(6, 3, 3), SIZE)
    ours = RasterRenderer(bracket).render(poses, CROP_CAMERA, SIZE)
    assert iou(ours, other) > 0.999
    both = (ours > 0) & (other > 0)
    assert (ours - other)[both].abs().max() < 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_rasteriser_on_cuda(bracket):
    poses = poses_of(bracket, 6)
    ours = RasterRenderer(bracket).render(poses, CROP_CAMERA, SIZE)
    assert iou(ours, RasterRenderer(bracket).render(poses.cuda(), CROP_CAMERA.cuda(), SIZE).cpu()) > 0.998


def test_a_batch_may_mix_meshes(bracket):
    plate = Mesh("plate", bracket.vertices * (1.0, 1.0, 0.1), bracket.faces)
    poses = poses_of(bracket, 4)
    index = torch.tensor([0, 1, 1, 0])
    mixed = RasterRenderer([bracket, plate]).render(poses, CROP_CAMERA, SIZE, index)
    for b, m in enumerate(index):
        alone = RasterRenderer([bracket, plate][m]).render(poses[b : b + 1], CROP_CAMERA, SIZE)
        assert torch.equal(mixed[b], alone[0])


def test_behind_the_camera_nothing_is_seen(bracket):
    pose = torch.eye(4)[None].clone()
    pose[0, 2, 3] = -1.0
    assert RasterRenderer(bracket).render(pose, CROP_CAMERA, SIZE).sum() == 0


def test_bad_arguments(bracket):
    renderer = RasterRenderer(bracket)
    with pytest.raises(ShapeError, match="T_camera_object"):
        renderer.render(torch.eye(4), CROP_CAMERA, SIZE)
    with pytest.raises(ShapeError, match="camera_matrix"):
        renderer.render(torch.eye(4)[None], torch.eye(4), SIZE)
    with pytest.raises(ConfigError, match="raster, pyrender"):
        make_renderer("vulkan", bracket)
    with pytest.raises(ConfigError, match="at least one"):
        RasterRenderer([])
