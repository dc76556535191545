# SPDX-License-Identifier: Apache-2.0
"""What an import costs: nothing heavy comes in before it is needed, and tracking on a processor needs no torch."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "numba", "cv2", "pinocchio", "pyrender", "scipy", "trimesh", "matplotlib", "OpenGL", "rclpy"}
NUMERIC = {"scipy", "numba", "cv2"}
FORBIDDEN = {
    "dfips_ros": {*HEAVY, "numpy"},
    "dfips_ros.errors": {*HEAVY, "numpy"},
    "dfips_ros.checks": HEAVY,
    "dfips_ros.cli.main": HEAVY,
    "dfips_ros.geometry": HEAVY - {"scipy"},
    "dfips_ros.solver": HEAVY,
    "dfips_ros.processes.contour": HEAVY - NUMERIC,
    "dfips_ros.tasks.object_pose": HEAVY - NUMERIC,
    "dfips_ros.nodes.pose_tracker": HEAVY - {*NUMERIC, "rclpy"},
}

IMPORT = """
import json, sys, time
begin = time.process_time()
__import__(sys.argv[1])
print(json.dumps([time.process_time() - begin, sorted({name.split(".")[0] for name in sys.modules})]))
"""
# The first pose of a process, as the node gets it: import, mesh, weights, compiled code from its cache, one mask.
FIRST_POSE = """
import json, sys, time
begin = time.process_time()
import numpy as np
from dfips_ros.tasks.object_pose import ObjectPoseEstimator, TrackerConfig, tracking_estimator_config
from dfips_ros.tasks.object_pose.demo_data import demo_mesh_path
config = tracking_estimator_config(TrackerConfig())
estimator = ObjectPoseEstimator.from_mesh(demo_mesh_path("drill"), config=config, device="cpu")
pose, camera = np.eye(4), np.array([[600.0, 0, 319.5], [0, 600.0, 239.5], [0, 0, 1.0]])
pose[:3, 3] = -estimator.mesh.center + [0, 0, 3.0 * estimator.mesh.diameter]
found = estimator.estimate(estimator.render_mask(pose, camera, (480, 640)), camera)
seconds = time.process_time() - begin
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([seconds, found.iou, int(status["VmRSS"].split()[0]) / 1000, "torch" in sys.modules]))
"""


def run(code, *arguments):
    done = subprocess.run([sys.executable, "-P", "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("module", FORBIDDEN)
def test_nothing_heavy_comes_in(module):
    if module.startswith("dfips_ros.nodes"):
        pytest.importorskip("rclpy")
    _, loaded = run(IMPORT, module)
    assert not FORBIDDEN[module] & set(loaded)


def test_the_package_itself_is_there_at_once():
    """In processor time, which a busy machine does not stretch; once in three, as caches may be cold."""
    assert min(run(IMPORT, "dfips_ros")[0] for _ in range(3)) < 0.02


def test_the_first_pose_takes_little_time_and_memory_and_no_torch():
    run(FIRST_POSE)  # compiles what is in no cache yet
    seconds, iou, megabytes, torch = run(FIRST_POSE)
    assert iou > 0.9 and not torch
    assert seconds < 5.0
    assert megabytes < 350.0  # the node adds about 40: ROS 2 and its middleware
