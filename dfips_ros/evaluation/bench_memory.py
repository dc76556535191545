# SPDX-License-Identifier: Apache-2.0
"""Memory and time of a task's first steps, measured in a process of their own: ``python -m`` this module, and a task.

Each step is a line of JSON on stdout: what was done, the seconds it took and the resident memory after it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = ("python and the bare package", "import the task", "make the estimator", "first solve", "second solve")


def resident_mb() -> float | None:
    """Resident memory of this process in MB (1e6 bytes); None where it is unknown."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
    except (OSError, ValueError):
        pass
    return None


def _pose() -> tuple[Callable[[], object], ...]:
    from ..tasks.object_pose import ObjectPoseEstimator
    from ..tasks.object_pose.demo_data import demo_mesh_path, ycb_camera_matrix, ycb_frames

    made = []
    frame = ycb_frames("foam_brick")[0]
    return (
        lambda: made.append(ObjectPoseEstimator.from_mesh(demo_mesh_path("foam_brick"), device="cpu")),
        lambda: made[0].estimate(frame.mask, ycb_camera_matrix()),
    )


def _kinematics() -> tuple[Callable[[], object], ...]:
    import numpy as np

    from ..processes.example_robots import example_robot
    from ..tasks.inverse_kinematics import InverseKinematicsEstimator

    robot, made = example_robot("panda"), []

    def make() -> None:
        made.append(InverseKinematicsEstimator.from_urdf(robot.urdf, robot.tip, robot.base, device="cpu"))

    def solve() -> None:
        middle = 0.5 * (made[0].lower + made[0].upper)
        made[0].solve(made[0].forward(np.where(np.isfinite(middle), middle, 0.0)), timeout=1.0)

    return make, solve


def _light() -> tuple[Callable[[], object], ...]:
    import numpy as np

    from ..tasks.illumination import IlluminationEstimator
    from ..tasks.object_pose.demo_data import demo_mesh

    mesh, made = demo_mesh("drill"), []
    image = np.tile(np.linspace(40, 200, 640).astype(np.uint8), (480, 1))
    pose = np.eye(4)
    pose[:3, 3] = np.array([0.0, 0.0, 2.5 * mesh.diameter]) - mesh.center
    camera = np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]])
    return (
        lambda: made.append(IlluminationEstimator.from_mesh(mesh, device="cpu")),
        lambda: made[0].estimate(image, camera, pose),
    )


def _jpeg() -> tuple[Callable[[], object], ...]:
    import cv2

    from ..tasks.deblocking import JpegRestorer
    from ..tasks.object_pose.demo_data import ycb_frames

    data = cv2.imencode(".jpg", ycb_frames("foam_brick")[0].image, [cv2.IMWRITE_JPEG_QUALITY, 30])[1].tobytes()
    made: list[JpegRestorer] = []
    return lambda: made.append(JpegRestorer(device="cpu")), lambda: made[0].restore(data)


TASKS = {
    "object_pose": _pose, "inverse_kinematics": _kinematics, "illumination": _light, "deblocking": _jpeg,
}  # fmt: skip


def main(task: str) -> int:
    """Do the steps of one task."""

    def step(name: str, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = work()
        line = {"step": name, "seconds": time.perf_counter() - begin, "mb": resident_mb()}
        print(json.dumps(line), flush=True)
        return result

    step(STEPS[0], lambda: None)
    make, solve = step(STEPS[1], TASKS[task])
    for name, work in zip(STEPS[2:], (make, solve, solve), strict=True):
        step(name, work)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
