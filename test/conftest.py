# SPDX-License-Identifier: Apache-2.0
"""Shared objects: small meshes with an unmistakable silhouette, a camera, and the data beside the checkout."""

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")


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
