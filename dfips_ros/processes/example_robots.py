# SPDX-License-Identifier: Apache-2.0
"""Arms of the ``example-robot-data`` package: those that weights ship for, and that tests and benchmarks use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..checks import check_choice
from ..errors import MissingDependencyError, require

PACKAGE = "example-robot-data"


@dataclass(frozen=True)
class ExampleRobot:
    """One arm.

    Attributes:
        name: short name.
        file: URDF, below the package's folder of robots.
        base: first link.
        tip: last link.
    """

    name: str
    file: str
    base: str
    tip: str

    @property
    def urdf(self) -> Path:
        """The URDF file.

        Raises:
            MissingDependencyError: ``example-robot-data`` is not installed, or lacks the file.
        """
        path = robots_folder() / self.file
        if not path.is_file():
            raise _missing()
        return path


EXAMPLE_ROBOTS = {
    robot.name: robot
    for robot in (
        ExampleRobot("panda", "panda_description/urdf/panda.urdf", "panda_link0", "panda_hand_tcp"),
        ExampleRobot("ur5", "ur_description/urdf/ur5_robot.urdf", "base_link", "tool0"),
        ExampleRobot("xarm7", "xarm_description/urdf/xarm7.urdf", "link_base", "link_eef"),
        ExampleRobot("kinova", "kinova_description/robots/kinova.urdf", "j2s6s200_link_base", "j2s6s200_end_effector"),
        ExampleRobot("z1", "z1_description/urdf/z1.urdf", "link00", "gripperStator"),
        ExampleRobot("so101", "so_arm_description/urdf/so101.urdf", "base_link", "gripper_frame_link"),
    )
}


def robots_folder() -> Path:
    """Where ``example-robot-data`` keeps its robots.

    Raises:
        MissingDependencyError: it is not installed.
    """
    require("pinocchio", "Finding example robots", f"pip install pin {PACKAGE}")
    import pinocchio

    for parent in Path(pinocchio.__file__).resolve().parents:
        folder = parent / "share" / PACKAGE / "robots"
        if folder.is_dir():
            return folder
    raise _missing()


def _missing() -> MissingDependencyError:
    return MissingDependencyError(
        f"The URDFs of the example robots come with the package '{PACKAGE}', which is not installed. Install it with: "
        f"pip install {PACKAGE}. Or give a URDF of your own."
    )


def example_robot(name: str) -> ExampleRobot:
    """The arm of that name.

    Raises:
        ConfigError: there is none; the names are listed.
    """
    return EXAMPLE_ROBOTS[check_choice("robot", name, tuple(EXAMPLE_ROBOTS))]
