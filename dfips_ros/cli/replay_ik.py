# SPDX-License-Identifier: Apache-2.0
"""``dfips replay inverse_kinematics``: the target poses of a bag, solved for an arm."""

from __future__ import annotations

import argparse
import functools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from ..bags.reader import Bag
    from ..tasks.inverse_kinematics import InverseKinematicsEstimator, JointSolution
    from .replay_run import Output
    from .view_report import Report

DESCRIPTION = """\
Solve the target poses of a recording for an arm: a rosbag2 file or folder in, another one out, without ROS.

Each PoseStamped of IN gets one JointSolution in OUT as the node ik_solver gives it, and where there is a solution a
JointState with its positions, with the stamps of IN. Each search starts at the solution before; the first one at the
joint states of IN, at --seed, or anywhere. So that two runs write the same messages, the effort is limited by
--restarts and not by time, and the fields solve_time and target_age are 0. Motion between targets is not simulated.
--view writes report.html.

Exit status 1 when the bag is damaged in the middle; what was read until then is written.

examples:
  dfips replay inverse_kinematics in.mcap out.mcap --urdf panda.urdf --tip panda_hand_tcp
  dfips replay inverse_kinematics in.db3 out.mcap --urdf ur5.urdf --tip tool0 --target-topic /target --view out/view
"""

POSE_STAMPED = "geometry_msgs/msg/PoseStamped"
JOINT_STATE = "sensor_msgs/msg/JointState"
JOINT_SOLUTION = "dfips_ros/msg/JointSolution"
KINDS = {"SOLVED": "good", "APPROXIMATE": "poor", "FAILED": "bad", "REFUSED": "bad"}
MAX_JOINT_STEP = 0.5  # of these and the next two: defaults of the node ik_solver
POSITION_TOLERANCE = 1e-4
ORIENTATION_TOLERANCE = 1e-3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from .replay_run import add_arguments as add_common
    from .solve_ik import add_arm_arguments

    add_common(parser, "/ik_solver")
    add_arm_arguments(parser)
    parser.add_argument("--target-topic", metavar="TOPIC", help="target poses (the only PoseStamped)")
    parser.add_argument("--joint-states-topic", metavar="TOPIC", help="where the arm is at first (the only JointState)")
    parser.add_argument("--seed", type=float, nargs="+", metavar="Q", help="joint positions for the first search")
    parser.add_argument("--srdf", type=Path, help="refuse solutions in which the robot touches itself")
    parser.add_argument("--max-step", type=float, default=MAX_JOINT_STEP, metavar="RAD",
                        help=f"no joint farther from the solution before; 0: no limit ({MAX_JOINT_STEP})")  # fmt: skip
    parser.add_argument("--restarts", type=int, default=320, metavar="N", help="of the search, at most (320)")
    parser.add_argument("--position-only", action="store_true", help="any orientation will do")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights file (those that ship for this arm)")


def run(options: argparse.Namespace) -> int:
    """Replay one bag."""
    import sys

    from ..bags.reader import Bag
    from .replay_run import check_arguments, conclude, pass_through

    check_arguments(options)
    with Bag(options.bag) as bag:
        target = bag.choose(POSE_STAMPED, options.target_topic, "--target-topic")
        bag.check_definition(target)
        joints = _joint_states(bag, options)
        print("Getting ready (the first time on a machine: compiling, up to a minute) ...", file=sys.stderr)
        follower = make_estimator(options, near=True)
        pipeline = IkReplay(
            target.name, joints, options.namespace, follower, lambda: make_estimator(options, near=False), options.seed
        )
        passage = pass_through(bag, pipeline, options)
        content = pipeline.summary()
        rows = [f"{label}: {value}" for label, value in facts(content)]
        report = pipeline.report(options, content)
        return conclude(options, "inverse_kinematics", bag, passage, content, rows, report)


def _joint_states(bag: Bag, options: argparse.Namespace) -> str | None:
    """The topic with the first positions; None where it is not clear which."""
    if options.joint_states_topic is not None:
        return bag.choose(JOINT_STATE, options.joint_states_topic, "--joint-states-topic").name
    found = [topic.name for topic in bag.topics if topic.type == JOINT_STATE]
    return found[0] if len(found) == 1 else None


def make_estimator(options: argparse.Namespace, near: bool) -> InverseKinematicsEstimator:
    """One that stays near its seed, as the node's does, or one that searches anywhere."""
    from ..tasks.inverse_kinematics import InverseKinematicsConfig, InverseKinematicsEstimator

    if options.max_step < 0:
        raise ConfigError(f"--max-step {options.max_step:g}: expected at least 0.")
    config = InverseKinematicsConfig(
        position_tolerance=POSITION_TOLERANCE, orientation_tolerance=ORIENTATION_TOLERANCE,
        position_only=options.position_only, max_joint_step=(options.max_step or None) if near else None,
        max_restarts=options.restarts,
    )  # fmt: skip
    return InverseKinematicsEstimator.from_urdf(
        options.urdf, options.tip, options.base, "cpu", options.weights, config, options.srdf
    )


@dataclass(frozen=True)
class Target:
    """What became of one target: time [ns], status, reason, and the solution where it was worked on."""

    time: int
    status: str
    reason: str
    solution: JointSolution | None


class IkReplay:
    """Answers each target as the node ``ik_solver`` does, without its clock and its commands between targets.

    Args:
        targets: topic to read.
        joint_states: topic that tells where the arm is at first, or None.
        namespace: before the topics that are written.
        follower: solves near a seed.
        anywhere: makes an estimator that solves the first target where no seed is known.
        seed: (n,) for the first target, before the bag tells one; None: none is known.
    """

    def __init__(
        self,
        targets: str,
        joint_states: str | None,
        namespace: str,
        follower: InverseKinematicsEstimator,
        anywhere: Callable[[], InverseKinematicsEstimator],
        seed: list[float] | None,
    ) -> None:
        import numpy as np

        from ..messages.stream import MaskStream
        from ..tasks.inverse_kinematics.fixed_frames import FixedFrames

        self._targets, self._joint_states, self._namespace = targets, joint_states, namespace
        self._follower, self._make_anywhere = follower, functools.cache(anywhere)
        self._frames = FixedFrames(follower.chain.model, follower.base)
        if seed is not None and len(seed) != len(follower.joint_names):
            names = ", ".join(follower.joint_names)
            raise ConfigError(f"--seed: expected {len(follower.joint_names)} positions ({names}), got {len(seed)}.")
        self._goal: np.ndarray | None = None
        self._seed = None if seed is None else np.array(seed, dtype=np.float64)
        self._known: dict[str, float] = {}
        self._stream = MaskStream()
        self.answers: list[Target] = []
        self.late = 0

    @property
    def inputs(self) -> set[str]:
        """Topics to read."""
        return {topic for topic in (self._targets, self._joint_states) if topic is not None}

    @property
    def outputs(self) -> set[str]:
        """Topics to write."""
        return {f"{self._namespace}/{name}" for name in ("solution", "joint_command")}

    def take(self, topic: str, message: Any, time: int) -> Iterable[Output]:
        """Work on one message. Raises as :class:`~.replay_run.Pipeline` says."""
        if topic == self._targets:
            return self._take_target(message, time)
        positions = zip(message.name, message.position, strict=False)
        self._known.update({name: float(value) for name, value in positions})
        return ()

    def finish(self) -> Iterable[Output]:
        """Nothing is left over."""
        return ()

    def _take_target(self, message: Any, time: int) -> Iterable[Output]:
        from ..bags.types import make, make_header, nanoseconds_from_stamp, pose_message
        from ..errors import InputError
        from ..messages.pose import matrix_from_pose
        from ..messages.stream import Arrival
        from .replay_run import Output

        own = nanoseconds_from_stamp(message.header.stamp)
        stamp = own or time
        if self._stream.receive(1e-9 * own if own else None, 1e-9 * time) is Arrival.LATE:
            self.late += 1
            return
        pose = make("geometry_msgs/msg/Pose", position=make("geometry_msgs/msg/Point", x=0.0, y=0.0, z=0.0),
                    orientation=make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=0.0))  # fmt: skip
        try:
            target = self._frames.pose(message.header.frame_id) @ matrix_from_pose(message.pose, "target pose")
            solution = self._solve(target)
            pose = pose_message(target)
        except InputError as error:
            answer = Target(stamp, "REFUSED", str(error), None)
        else:
            status = {"solved": "SOLVED", "approximate": "APPROXIMATE"}.get(solution.status, "FAILED")
            answer = Target(stamp, status, "" if status == "SOLVED" else solution.reason, solution)
        self.answers.append(answer)
        header = make_header(stamp, self._follower.base)
        yield Output(f"{self._namespace}/solution", self._message(answer, header, pose), time)
        if answer.solution is not None and answer.solution.success:
            import numpy as np

            self._goal = answer.solution.positions
            none = np.zeros(0)
            state = make(JOINT_STATE, header=header, name=list(answer.solution.names), position=self._goal,
                         velocity=none, effort=none)  # fmt: skip
            yield Output(f"{self._namespace}/joint_command", state, time)

    def _solve(self, target: np.ndarray) -> JointSolution:
        """From the solution before, from where the arm is, or from anywhere; as long as it takes."""
        import math

        import numpy as np

        names = self._follower.joint_names
        if self._goal is not None:
            return self._follower.solve(target, self._goal, math.inf)
        if all(name in self._known for name in names):
            return self._follower.solve(target, np.array([self._known[name] for name in names]), math.inf)
        if self._seed is not None:
            return self._follower.solve(target, self._seed, math.inf)
        return self._make_anywhere().solve(target, None, math.inf)

    def _message(self, answer: Target, header: Any, pose: Any) -> Any:
        import math

        import numpy as np

        from ..bags.types import make, typestore

        found = answer.solution
        jump = 0.0 if found is None or not math.isfinite(found.jump_from_seed) else found.jump_from_seed
        return make(
            JOINT_SOLUTION, header=header, status=int(getattr(typestore().types[JOINT_SOLUTION], answer.status)),
            reason=answer.reason, tip=self._follower.tip, target=pose, names=[] if found is None else list(found.names),
            positions=np.zeros(0) if found is None else found.positions,
            position_error=0.0 if found is None else found.position_error,
            orientation_error=0.0 if found is None else found.orientation_error, jump=jump,
            stages=0 if found is None else found.stages, iterations=0 if found is None else found.iterations,
            restarts=0 if found is None else found.restarts, solve_time=0.0, target_age=0.0,
        )  # fmt: skip

    def summary(self) -> dict:
        """The figures, ready for JSON."""
        from .demo_report import statistics
        from .replay_run import Reasons

        solved = [a.solution for a in self.answers if a.solution is not None and a.solution.success]
        counts = Counter(answer.status for answer in self.answers)
        reasons = Reasons(answer.reason for answer in self.answers if answer.status in ("FAILED", "REFUSED"))
        return {
            "arm": {"base": self._follower.base, "tip": self._follower.tip, "joints": list(self._follower.joint_names),
                    "weights": self._follower.has_weights},
            "topics": {"target": self._targets, "joint_states": self._joint_states},
            "targets": len(self.answers),
            "late_targets": self.late,
            **{status.lower(): counts[status] for status in KINDS},
            "reasons": reasons.counts(),
            "position_error_mm": statistics([1e3 * s.position_error for s in solved], (50, 99)),
            "jump": statistics([s.jump_from_seed for s in solved], (50, 99)),
            "solve_ms": statistics([1e3 * a.solution.solve_time for a in self.answers if a.solution], (50, 99)),
        }  # fmt: skip

    def report(self, options: argparse.Namespace, content: dict) -> Report:
        """What ``--view`` shows."""
        import numpy as np

        from .view_plots import Plot
        from .view_report import Report

        nan = float("nan")
        found = [a.solution for a in self.answers]
        kept = [s if s is not None and s.success else None for s in found]
        first = self.answers[0].time if self.answers else 0
        names = self._follower.joint_names
        joints = np.array([np.full(len(names), nan) if s is None else s.positions for s in kept])
        joints = joints.reshape(-1, len(names))
        position = np.array([nan if s is None else 1e3 * s.position_error for s in kept])
        turn = np.array([nan if s is None else np.degrees(s.orientation_error) for s in kept])
        jump = np.array([nan if s is None else s.jump_from_seed for s in kept])
        times = np.array([nan if s is None else 1e3 * s.solve_time for s in found])
        return Report(
            title=f"Joints for {self._follower.tip}",
            subtitle=f"{options.bag}, replayed into {options.out}",
            facts=facts(content),
            time=np.array([1e-9 * (answer.time - first) for answer in self.answers]),
            states=[answer.status for answer in self.answers],
            kinds=KINDS,
            plots=(
                Plot("Joint positions [rad or m]", tuple((n, joints[:, k]) for k, n in enumerate(names))),
                Plot("Largest joint step from the solution before [rad or m]", (("step", jump),), low=0.0),
                Plot("Distance of the tip from the target [mm]", (("distance", position),), low=0.0),
                Plot("Angle between tip and target [deg]", (("angle", turn),), low=0.0),
                Plot("Solve time [ms]", (("solve time", times),), low=0.0),
            ),
        )


def facts(content: dict) -> list[tuple[str, str]]:
    """Label and value of each figure."""
    from .replay_run import pair

    counts = ", ".join(f"{content[status.lower()]} {status.lower()}" for status in KINDS if content[status.lower()])
    found = [
        ("targets", f"{content['targets']} from {content['topics']['target']}"),
        ("answers", counts or "none"),
        ("position error median / p99", f"{pair(content['position_error_mm'], ('median', 'p99'), '.4f')} mm"),
        ("largest joint step median / p99", pair(content["jump"], ("median", "p99"), ".4f")),
        ("solve time median / p99", f"{pair(content['solve_ms'], ('median', 'p99'), '.3f')} ms"),
    ]
    found += [(f"not solved ({count})", reason) for reason, count in content["reasons"].items()]
    if content["late_targets"]:
        found.append(("left out", f"{content['late_targets']} targets whose stamp is not newer than the one before"))
    return found
