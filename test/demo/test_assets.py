# SPDX-License-Identifier: Apache-2.0
"""The data that ship with the demo agree with each other."""

import json

import numpy as np
import pytest
import torch

from dfips_ros.errors import ConfigError
from dfips_ros.processes.silhouette import RasterRenderer
from dfips_ros.tasks.object_pose import mask_iou
from dfips_ros.tasks.object_pose.demo_data import (
    DEMO_FOLDER,
    demo_mesh,
    demo_mesh_names,
    demo_mesh_path,
    demo_symmetries,
    ycb_camera_matrix,
    ycb_frames,
    ycb_object_names,
)

LOWEST_IOU = {"foam_brick": 0.97, "gelatin_box": 0.98}  # of the box at the true pose and the label of the scan
BOX_SIZES_MM = {"foam_brick": (50, 50, 75), "gelatin_box": (28, 73, 85)}
SYMMETRIES = {"foam_brick": 8, "gelatin_box": 4, "drill": 1}


def silhouette(mesh, pose, camera_matrix, size=(480, 640)):
    depth = RasterRenderer(mesh).render(
        torch.from_numpy(np.asarray(pose, np.float32)[None]),
        torch.from_numpy(camera_matrix.astype(np.float32)),
        size,
    )
    return depth[0].numpy() > 0


@pytest.mark.parametrize("name", sorted(LOWEST_IOU))
def test_box_at_the_true_pose_covers_the_label(name):
    mesh, camera_matrix = demo_mesh(name), ycb_camera_matrix()
    ious = [mask_iou(silhouette(mesh, frame.T_camera_object, camera_matrix), frame.mask) for frame in ycb_frames(name)]
    assert len(ious) == 10
    assert min(ious) > LOWEST_IOU[name]


def test_real_frames():
    assert ycb_object_names() == ["foam_brick", "gelatin_box"]
    assert ycb_camera_matrix()[0, 0] == pytest.approx(1066.778)
    for frame in ycb_frames("gelatin_box"):
        assert frame.image.shape == (480, 640, 3)
        assert frame.image.dtype == np.uint8
        assert set(np.unique(frame.mask)) == {0, 255}
        assert 0.4 < frame.T_camera_object[2, 3] < 1.0
        assert np.allclose(frame.T_camera_object[:3, :3] @ frame.T_camera_object[:3, :3].T, np.eye(3), atol=1e-5)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ConfigError, match="drill, foam_brick, gelatin_box"):
        demo_mesh_path("banana")
    with pytest.raises(ConfigError, match="foam_brick, gelatin_box"):
        ycb_frames("drill")


@pytest.mark.parametrize("name", sorted(SYMMETRIES))
def test_symmetries_leave_the_silhouette_as_it_is(name):
    symmetries = demo_symmetries(name)
    assert len(symmetries) == SYMMETRIES[name]
    assert np.allclose(symmetries[0], np.eye(4))
    mesh = demo_mesh(name)
    pose = ycb_frames("foam_brick")[0].T_camera_object
    plain = silhouette(mesh, pose, ycb_camera_matrix())
    for symmetry in symmetries:
        assert np.allclose(symmetry[:3, :3] @ symmetry[:3, :3].T, np.eye(3), atol=1e-6)
        assert np.linalg.det(symmetry[:3, :3]) == pytest.approx(1.0)
        assert mask_iou(silhouette(mesh, pose @ symmetry, ycb_camera_matrix()), plain) > 0.995


@pytest.mark.parametrize("name", sorted(SYMMETRIES))
def test_models_info_says_what_the_mesh_is(name):
    info = json.loads((DEMO_FOLDER / "meshes" / "models_info.json").read_text())[name]
    mesh = demo_mesh(name)
    assert info["diameter"] == pytest.approx(mesh.diameter, rel=1e-3)
    for axis, letter in enumerate("xyz"):
        assert info[f"min_{letter}"] == pytest.approx(mesh.vertices[:, axis].min(), abs=2e-6)
        assert info[f"size_{letter}"] == pytest.approx(np.ptp(mesh.vertices[:, axis]), abs=2e-6)


@pytest.mark.parametrize("name", sorted(BOX_SIZES_MM))
def test_boxes_have_their_published_size(name):
    vertices = demo_mesh(name).vertices.astype(float)
    # The axes of the box are those of its half-turns.
    half_turns = [s for s in demo_symmetries(name)[1:] if np.trace(s[:3, :3]) == pytest.approx(-1.0, abs=1e-6)]
    axes = [np.linalg.svd(s[:3, :3] - np.eye(3))[2][-1] for s in half_turns]
    extents = sorted(float(np.ptp(vertices @ axis)) * 1e3 for axis in axes)
    for size in BOX_SIZES_MM[name]:
        assert min(abs(extent - size) for extent in extents) < 0.02


def test_drill_is_closed_and_has_no_mirror_plane():
    import trimesh

    mesh = demo_mesh("drill")
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces)
    assert solid.is_watertight
    assert mesh.vertices[:, 1].max() > 1.5 * -mesh.vertices[:, 1].min()


def test_every_file_is_in_the_readme_and_the_folder_is_small():
    files = [f for f in DEMO_FOLDER.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 2_500_000
    text = (DEMO_FOLDER / "README.md").read_text()
    for file in files:
        listed = f"-{file.stem.split('-')[-1]}{file.suffix}" if "-" in file.stem else file.name
        assert listed in text or file.name == "README.md", file
    assert "The University of Washington" in (DEMO_FOLDER / "ycb_video" / "LICENSE").read_text()
    assert sorted(f.stem for f in (DEMO_FOLDER / "meshes").glob("*.obj")) == demo_mesh_names()
