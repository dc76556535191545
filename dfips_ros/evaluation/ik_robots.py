# SPDX-License-Identifier: Apache-2.0
"""Arms whose URDFs come with the package example-robot-data."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ..checks import check_choice
from ..errors import MissingDependencyError

PACKAGE = "example-robot-data"
FOLDER = Path("cmeel.prefix", "share", PACKAGE, "robots")


@dataclass(frozen=True)
class Robot:
    """An arm: its name, the URDF below the package's folder, first and last link."""

    name: str
    file: str
    base: str
    tip: str

    @property
    def urdf(self) -> Path:
        """The URDF file.

        Raises:
            MissingDependencyError: the package is not installed, or lacks the file.
        """
        try:
            path = Path(str(metadata.distribution(PACKAGE).locate_file(FOLDER / self.file)))
        except metadata.PackageNotFoundError:
            path = FOLDER / self.file
        if not path.is_file():
            raise MissingDependencyError(
                f"the URDF of '{self.name}' comes with the package '{PACKAGE}', which is not installed. Install it "
                f"with: pip install {PACKAGE}. Or give a URDF of your own."
            )
        return path


ROBOTS = {
    robot.name: robot
    for robot in (
        Robot("panda", "panda_description/urdf/panda.urdf", "panda_link0", "panda_hand_tcp"),
        Robot("ur5", "ur_description/urdf/ur5_robot.urdf", "base_link", "tool0"),
        Robot("xarm7", "xarm_description/urdf/xarm7.urdf", "link_base", "link_eef"),
        Robot("kinova", "kinova_description/robots/kinova.urdf", "j2s6s200_link_base", "j2s6s200_end_effector"),
        Robot("z1", "z1_description/urdf/z1.urdf", "link00", "gripperStator"),
        Robot("so101", "so_arm_description/urdf/so101.urdf", "base_link", "gripper_frame_link"),
    )
}


def find_robot(name: str) -> Robot:
    """An arm by its name.

    Raises:
        ConfigError: unknown name; the known ones are listed.
    """
    return ROBOTS[check_choice("robot", name, tuple(ROBOTS))]
