# SPDX-License-Identifier: Apache-2.0
"""Shared objects: small meshes with an unmistakable silhouette, a camera, and the data beside the checkout."""

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")


def pytest_collection_modifyitems(items):
    """Discovery between processes takes as long as the network likes: such a test may fail once, which is reported."""
    for item in items:
        if item.get_closest_marker("ros"):
            item.add_marker(pytest.mark.flaky(reruns=1))


def _merge(*boxes):
    import trimesh

    solids = []
    for extents, offset in boxes:
        solid = trimesh.creation.box(extents=extents)
        solid.apply_translation(offset)
        solids.append(solid)
    return trimesh.util.concatenate(solids)


@pytest.fixture(scope="session")
def bracket_solid():
    """An asymmetric bracket, 0.2 m long, as a trimesh."""
    return _merge(
        ((0.20, 0.04, 0.03), (0.0, 0.0, 0.0)), ((0.04, 0.12, 0.03), (0.08, 0.06, 0.0)),
        ((0.03, 0.03, 0.10), (-0.07, 0.0, 0.05)), ((0.05, 0.02, 0.02), (-0.02, -0.03, 0.0)),
    )  # fmt: skip


@pytest.fixture(scope="session")
def bracket(bracket_solid):
    """The bracket as a Mesh."""
    from dfips_ros.processes.mesh import Mesh

    return Mesh("bracket", bracket_solid.vertices, bracket_solid.faces)


@pytest.fixture(scope="module")
def one_torch_thread():
    """Small tensors on several threads only wait for each other, most of all on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def camera_matrix():
    """A 640x480 pinhole camera."""
    return np.array([[610.0, 0.0, 322.5], [0.0, 608.0, 236.0], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="session")
def shared_data():
    """Real data beside the checkout; tests that need it are skipped where it is not."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder shared/data beside the checkout")
    return folder


ARM_ORIGINS = [
    # joint, xyz, rpy, axis
    ("shoulder_pan", "0 0 0.09", "0 0 0", "0 0 1"),
    ("shoulder_lift", "0 0.136 0", "0 1.5708 0", "0 1 0"),
    ("elbow", "0 -0.12 0.425", "0 0 0", "0 1 0"),
    ("wrist_1", "0 0 0.392", "0 1.5708 0", "0 1 0"),
    ("wrist_2", "0 0.093 0", "0 0 0", "0 0 1"),
    ("wrist_3", "0 0 0.095", "0 0 0", "0 1 0"),
]


@pytest.fixture(scope="session")
def arm_urdf():
    """Text of the URDF of a six-axis arm on a table, with a camera beside it and a gripper that opens."""
    parts = ['<robot name="arm">']
    links = ["table", "camera", "base_link", *(f"{name}_link" for name, *_ in ARM_ORIGINS), "tool0", "flange", "finger"]
    parts += [f'<link name="{link}"/>' for link in links]

    def fixed(name, parent, child, xyz, rpy="0 0 0"):
        parts.append(
            f'<joint name="{name}" type="fixed"><parent link="{parent}"/><child link="{child}"/>'
            f'<origin xyz="{xyz}" rpy="{rpy}"/></joint>'
        )

    fixed("stand", "table", "base_link", "0 0 0.7")
    fixed("eye", "table", "camera", "1 0 1.2", "0 0 3.14159265358979")
    parent = "base_link"
    for name, xyz, rpy, axis in ARM_ORIGINS:
        parts.append(
            f'<joint name="{name}" type="revolute"><parent link="{parent}"/><child link="{name}_link"/>'
            f'<origin xyz="{xyz}" rpy="{rpy}"/><axis xyz="{axis}"/>'
            '<limit lower="-3.1" upper="3.1" effort="1" velocity="2.0"/></joint>'
        )
        parent = f"{name}_link"
    fixed("mount", parent, "flange", "0 0.08 0")
    fixed("tool", "flange", "tool0", "0 0 0.1")
    parts.append(
        '<joint name="finger_joint" type="prismatic"><parent link="flange"/><child link="finger"/>'
        '<axis xyz="1 0 0"/><limit lower="0" upper="0.04" effort="1" velocity="0.1"/></joint></robot>'
    )
    return "".join(parts)


@pytest.fixture(scope="session")
def arm_file(arm_urdf, tmp_path_factory):
    """The arm's URDF as a file."""
    path = tmp_path_factory.mktemp("arm") / "arm.urdf"
    path.write_text(arm_urdf)
    return str(path)
