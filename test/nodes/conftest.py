# SPDX-License-Identifier: Apache-2.0
"""A node under test in its own process, a client in this one, and the real middleware between."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from .node_processes import ArmProcess, NodeProcess
from .ros_client import Client, LifecycleProcess

HERE = Path(__file__).parent


@pytest.fixture(scope="session", autouse=True)
def ros_domain():
    """A domain of its own for each test run, on this machine only."""
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_DOMAIN_ID"] = str(os.getpid() % 100 + 1)
    return os.environ["ROS_DOMAIN_ID"]


@pytest.fixture(scope="session")
def box_mesh(tmp_path_factory):
    """A box of 10 x 6 x 3 cm as an STL file."""
    trimesh = pytest.importorskip("trimesh")
    path = tmp_path_factory.mktemp("mesh") / "box.stl"
    trimesh.creation.box((0.10, 0.06, 0.03)).export(path)
    return str(path)


@pytest.fixture(scope="session")
def client(ros_domain):
    """The test's own node, spinning in a thread."""
    pytest.importorskip("rclpy")
    client = Client()
    yield client
    client.close()


@pytest.fixture(scope="session")
def stand_in(client, box_mesh):
    """The node with the stand-in solver; left unconfigured between tests."""
    node = NodeProcess(client, [str(HERE / "tracker_process.py")], "/stand_in", {"autostart": False, "mesh": box_mesh})
    yield node
    assert node.stop() == 0, node.output()


@pytest.fixture
def tracker(stand_in, box_mesh):
    """The node with the stand-in solver, active, with default parameters."""
    stand_in.unconfigure()
    stand_in.set_parameters(mesh=box_mesh, **DEFAULTS)
    assert stand_in.change("configure") and stand_in.change("activate")
    stand_in.handshake()
    yield stand_in
    stand_in.unconfigure()


DEFAULTS = {
    "mask_mode": "binary",
    "label_value": 1,
    "distortion": "rectify",
    "publish_tf": True,
    "publish_markers": True,
    "lost_iou": 0.6,
    "lost_frames": 3,
    "init_iou": 0.8,
    "min_mask_pixels": 64,
    "diagnostics_period": 0.1,
    "camera_info_timeout": 0.5,
    "mesh_scale": 1.0,
    "object_name": "",
}


def starter(kind):
    """Starts nodes; what a failed test left running ends when the tests end."""
    nodes = []

    def start(*arguments):
        nodes.append(kind(*arguments))
        return nodes[-1]

    yield start
    for node in nodes:
        if node.process.poll() is None:
            node.process.kill()


@pytest.fixture(scope="session")
def node_process():
    """Starts a pose_tracker."""
    yield from starter(NodeProcess)


@pytest.fixture(scope="session")
def arm_process():
    """Starts an ik_solver."""
    yield from starter(ArmProcess)


@pytest.fixture(scope="session")
def lifecycle_process():
    """Starts any lifecycle node."""
    yield from starter(LifecycleProcess)


@pytest.fixture(scope="session")
def arm(arm_urdf):
    """Its estimator, without weights."""
    from dfips_ros.tasks.inverse_kinematics import InverseKinematicsEstimator

    estimator = InverseKinematicsEstimator.from_urdf(arm_urdf, "tool0", "base_link")
    estimator.solve(estimator.forward(np.zeros(6)), np.full(6, 0.1), 0.1)  # compiles, for the nodes too
    return estimator


IK_DEFAULTS = {
    "max_joint_speed": 2.0,
    "max_joint_step": 0.5,
    "target_timeout": 5.0,
    "joint_states_timeout": 3600.0,
    "hold_time": 0.3,
    "timeout": 0.2,
    "publish_trajectory": False,
    "publish_array": False,
    "return_approximate": False,
    "diagnostics_period": 0.1,
}


@pytest.fixture(scope="session")
def ik_process(client, arm_file, arm):
    """The node ik_solver for the arm; left unconfigured between tests."""
    parameters = {"autostart": False, "urdf": arm_file, "tip": "tool0", "base": "base_link", "diagnostics_period": 0.1}
    node = ArmProcess(client, ["-m", "dfips_ros.nodes.ik_solver"], "/arm", parameters)
    yield node
    assert node.stop() == 0, node.output()


@pytest.fixture
def solver(ik_process, arm):
    """The node ik_solver, active, the arm at REST."""
    ik_process.unconfigure()
    ik_process.set_parameters(**IK_DEFAULTS)
    assert ik_process.change("configure") and ik_process.change("activate"), ik_process.output()
    ik_process.handshake()
    ik_process.be_at(arm.joint_names, REST)
    ik_process.client.forget()
    yield ik_process
    ik_process.unconfigure()


REST = np.array([0.3, -0.6, 1.1, 0.4, -0.7, 0.8])


@pytest.fixture
def rest():
    """Where the arm of ``solver`` is."""
    return REST
