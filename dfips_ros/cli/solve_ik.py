# SPDX-License-Identifier: Apache-2.0
"""``dfips solve inverse_kinematics``: one target pose in, joint positions out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, PoseError

if TYPE_CHECKING:
    import numpy as np

    from ..tasks.inverse_kinematics import InverseKinematicsEstimator, JointSolution

DESCRIPTION = """\
Find joint positions that bring a link of an arm to a pose.

The target is the pose of --tip in the frame of --base: position in metres, then a unit quaternion (x, y, z, w). Without
--seed the search starts anywhere; with it, at these positions, in the order in which the answer lists the joints, and
--max-step keeps the solution near them. Exit status 1 when there is no solution.

examples:
  dfips solve inverse_kinematics --urdf panda.urdf --tip panda_hand_tcp --target 0.4 0.1 0.5 1 0 0 0
  dfips solve inverse_kinematics --urdf ur5.urdf --tip tool0 --target 0.3 0.2 0.4 0 1 0 0 --seed 0 -1 1 0 0 0 --json -
  dfips solve inverse_kinematics --urdf arm.urdf --base base_link --tip tool0 --target 0.5 0 0.2 0 0 0 1 --position-only
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_arm_arguments(parser)
    parser.add_argument("--target", type=float, nargs=7, required=True, metavar=("X", "Y", "Z", "QX", "QY", "QZ", "QW"),
                        help="pose of the tip in the base's frame, metres and a unit quaternion")  # fmt: skip
    parser.add_argument("--seed", type=float, nargs="+", metavar="Q", help="joint positions to start from")
    parser.add_argument("--srdf", type=Path, help="refuse solutions in which the robot touches itself")
    parser.add_argument("--timeout", type=float, default=0.05, metavar="S", help="seconds (0.05)")
    parser.add_argument("--position-tolerance", type=float, metavar="M", help="metres (1e-05)")
    parser.add_argument("--orientation-tolerance", type=float, metavar="RAD", help="radians (1e-05)")
    parser.add_argument("--max-step", type=float, metavar="RAD", help="no joint farther from the seed than this")
    parser.add_argument("--position-only", action="store_true", help="any orientation will do")
    parser.add_argument("--approximate", action="store_true", help="where out of reach, come as near as possible")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights file (those that ship for this arm)")
    parser.add_argument("--json", metavar="FILE", help="write the solution as JSON; - for stdout")


def add_arm_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which arm: ``--urdf``, ``--tip``, ``--base``."""
    parser.add_argument("--urdf", type=Path, required=True, help="URDF file of the robot")
    parser.add_argument("--tip", required=True, metavar="LINK", help="last link of the arm")
    parser.add_argument("--base", metavar="LINK", help="first link of the arm (the root of the robot)")


def run(options: argparse.Namespace) -> int:
    """Solve one target."""
    import sys
    from dataclasses import replace

    from ..tasks.inverse_kinematics import InverseKinematicsConfig, InverseKinematicsEstimator
    from .files import write_json

    target = target_pose(options.target)
    config = InverseKinematicsConfig(
        max_joint_step=options.max_step, position_only=options.position_only, return_approximate=options.approximate
    )
    for name in ("position_tolerance", "orientation_tolerance"):
        if getattr(options, name) is not None:
            config = replace(config, **{name: getattr(options, name)})
    if options.max_step is not None and options.seed is None:
        raise ConfigError("--max-step: expected --seed too, from which it is measured.")
    print("Getting ready (the first time on a machine: compiling, up to a minute) ...", file=sys.stderr)
    estimator = InverseKinematicsEstimator.from_urdf(
        options.urdf, options.tip, options.base, "cpu", options.weights, config, options.srdf
    )
    middle = 0.5 * (estimator.lower + estimator.upper)
    estimator.solve(estimator.forward(middle), middle, options.timeout)  # so that the solve time is not a compiler's
    solution = estimator.solve(target, options.seed, options.timeout)
    if options.json:
        write_json(options.json, solution_as_dict(options, estimator, solution))
    if options.json != "-":
        print(describe(estimator, solution))
    return 0 if solution.success else 1


def target_pose(numbers: list[float]) -> np.ndarray:
    """The pose (4, 4) of position and unit quaternion.

    Raises:
        PoseError: not finite, or a quaternion whose length is off 1 by more than 0.01.
    """
    import numpy as np

    from ..geometry import pose_from_position_quaternion

    position, quaternion = np.array(numbers[:3]), np.array(numbers[3:])
    length = float(np.linalg.norm(quaternion))
    if not np.isfinite(numbers).all() or abs(length - 1.0) > 0.01:
        raise PoseError(
            f"--target {' '.join(f'{n:g}' for n in numbers)}: expected three finite metres and a unit quaternion "
            f"(x, y, z, w), got one of length {length:.4g}. No rotation is 0 0 0 1."
        )
    return pose_from_position_quaternion(position, quaternion)


def solution_as_dict(
    options: argparse.Namespace, estimator: InverseKinematicsEstimator, solution: JointSolution
) -> dict:
    """Everything about a solution, ready for JSON."""
    from dataclasses import asdict

    from .machine import describe_machine

    return {
        "command": "dfips solve inverse_kinematics",
        "urdf": str(options.urdf),
        "base": estimator.base,
        "tip": estimator.tip,
        "target": options.target,
        "seed": options.seed,
        "weights": estimator.has_weights,
        "limits": {"lower": estimator.lower, "upper": estimator.upper, "wraps": estimator.wraps},
        "solution": {**asdict(solution), "T_base_tip": estimator.forward(solution.positions)},
        "machine": describe_machine(),
    }


def describe(estimator: InverseKinematicsEstimator, solution: JointSolution) -> str:
    """The solution in words, its positions as YAML."""
    import numpy as np

    width = max(map(len, solution.names))
    found = zip(solution.names, solution.positions, strict=True)
    lines = [f"# {estimator.base} to {estimator.tip}: {solution.reason or solution.status}"]
    lines += [f"{name + ':':{width + 1}} {position: .6f}" for name, position in found] if solution.success else []
    lines.append(
        f"# off by {1e3 * solution.position_error:.4f} mm and {np.degrees(solution.orientation_error):.4f} deg; "
        f"{solution.stages} stages, {solution.iterations} iterations, {solution.restarts} restarts, "
        f"{1e3 * solution.solve_time:.3f} ms"
    )
    return "\n".join(lines)
