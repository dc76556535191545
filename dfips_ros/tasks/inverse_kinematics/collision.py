# SPDX-License-Identifier: Apache-2.0
"""Does the robot touch itself? Pinocchio and coal, with the pairs that an SRDF switches off."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np

from ...errors import ConfigError
from ...processes.kinematics import SerialChain
from ...processes.urdf import read_urdf

SAMPLES = 20  # configurations; a robot that touches itself in all of them has an SRDF that does not fit


class SelfCollision:
    """Checks configurations of a chain against the robot itself; joints outside of the chain are neutral.

    Args:
        chain: the arm.
        path_or_xml: the URDF, or its text; meshes are searched as ``package://`` in its folder, the folders above it,
            and those in ROS_PACKAGE_PATH and AMENT_PREFIX_PATH.
        srdf: file or text.

    Raises:
        ConfigError: the SRDF cannot be read, meshes are missing, or there is nothing to collide with.
    """

    def __init__(self, chain: SerialChain, path_or_xml: str | Path, srdf: str | Path) -> None:
        import pinocchio

        self.chain = chain
        xml, _ = read_urdf(path_or_xml)
        rules = str(srdf)
        if not rules.lstrip().startswith("<"):
            if not Path(srdf).is_file():
                raise ConfigError(f"srdf: no file '{srdf}'. Give a path, or the text of an SRDF itself.")
            rules = Path(srdf).read_text(encoding="utf-8", errors="replace")
        if "<robot" not in rules:
            raise ConfigError("srdf: expected a <robot> at the top.")
        try:
            self._geometry = pinocchio.buildGeomFromUrdfString(
                chain.model, xml, pinocchio.GeometryType.COLLISION, package_dirs=_mesh_folders(path_or_xml)
            )
            self._geometry.addAllCollisionPairs()
            pinocchio.removeCollisionPairsFromXML(chain.model, self._geometry, rules)
        except (ValueError, RuntimeError) as cause:
            message = f"self-collision: the URDF's collision geometry or the SRDF cannot be read ({cause})."
            raise ConfigError(message) from cause
        if len(self._geometry.collisionPairs) == 0:
            raise ConfigError("self-collision: no pair of links is left to check; the URDF needs <collision> geometry.")
        self._local = threading.local()
        rng = np.random.default_rng(0)
        if all(self(rng.uniform(chain.lower, chain.upper)) for _ in range(SAMPLES)):
            pairs = ", ".join(sorted(self._touching()))
            raise ConfigError(
                f"self-collision: the robot touches itself wherever it is ({pairs}). Disable these pairs in the SRDF."
            )

    def __call__(self, positions: np.ndarray) -> bool:
        """Whether the robot touches itself at joint positions (n,)."""
        import pinocchio

        if not hasattr(self._local, "data"):
            self._local.data = self.chain.model.createData(), pinocchio.GeometryData(self._geometry)
        data, geometry_data = self._local.data
        q = self.chain.full_configuration(positions)
        return bool(pinocchio.computeCollisions(self.chain.model, data, self._geometry, geometry_data, q, True))

    def _touching(self) -> list[str]:
        """The pairs that touch at the configuration that was checked last."""
        names = [geometry.name for geometry in self._geometry.geometryObjects]
        results = self._local.data[1].collisionResults
        return [
            f"{names[pair.first]} and {names[pair.second]}"
            for pair, result in zip(self._geometry.collisionPairs, results, strict=True)
            if result.isCollision()
        ]


def _mesh_folders(path_or_xml: str | Path) -> list[str]:
    folders = [p for p in os.environ.get("ROS_PACKAGE_PATH", "").split(":") if p]
    folders += [f"{p}/share" for p in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if p]
    if not str(path_or_xml).lstrip().startswith("<"):
        folders += [str(p) for p in Path(path_or_xml).resolve().parents]
    return folders
