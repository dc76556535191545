# SPDX-License-Identifier: Apache-2.0
"""A curved object, and pictures of it under known lights."""

import numpy as np
import pytest
import torch
import trimesh

from dfips_ros.geometry import make_pose, random_rotations
from dfips_ros.processes.mesh import Mesh
from dfips_ros.processes.shading_geometry import shading_mesh
from dfips_ros.processes.shading_pyrender import PyrenderShading
from dfips_ros.tasks.illumination import KINDS, IlluminationEstimator

CAMERA = np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """On a busy machine, threads that wait for each other take longer than one alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def camera():
    return CAMERA.copy()


@pytest.fixture(scope="session")
def vase():
    """A vase, 0.2 m high, whose origin is far from its center."""
    profile = np.array([[0, 0], [0.04, 0], [0.07, 0.06], [0.05, 0.12], [0.025, 0.16], [0.045, 0.2], [0, 0.2]], float)
    smooth = np.stack([np.interp(np.linspace(0, 6, 49), np.arange(7), profile[:, i]) for i in (0, 1)], axis=1)
    solid = trimesh.creation.revolve(smooth, sections=48)
    solid.apply_translation([0.3, -0.1, 0.2])
    return Mesh("vase", solid.vertices, solid.faces)


@pytest.fixture(scope="session")
def estimators(vase):
    return {kind: IlluminationEstimator.from_mesh(vase, kind, device="cpu") for kind in KINDS}


@pytest.fixture(scope="session")
def scene(vase):
    """Make (image, T_camera_object, true light): a direction, or a position in metres; camera frame."""

    def make(seed, kind="directional", intensity=5.0, albedo=(0.7, 0.5, 0.3), metallic=0.0, roughness=0.5, ambient=0.1):
        rng = np.random.default_rng(seed)
        center = np.array([rng.uniform(-0.12, 0.12), rng.uniform(-0.06, 0.06), 0.6])
        rotation = random_rotations(1, rng)[0]
        light = rng.normal(size=3)
        light[2] = -abs(light[2]) - 0.3
        light /= np.linalg.norm(light)
        point = kind == "point"
        if point:
            light = light * 1.2
        drawn = PyrenderShading(
            shading_mesh(vase), make_pose(rotation, center / vase.diameter), CAMERA, (480, 640)
        )
        image = drawn.render(light, point, intensity, np.array(albedo), metallic, roughness, ambient)
        pose = make_pose(rotation, center - rotation @ vase.center)
        return image, pose, center + vase.diameter * light if point else light

    return make
