# SPDX-License-Identifier: Apache-2.0
"""The node ``ik_solver``: target poses and joint states in, joint commands out.

The solver is the plain class :class:`dfips_ros.tasks.inverse_kinematics.InverseKinematicsEstimator`; how commands
follow a goal is in :mod:`.ik_commander`. docs/ros_api.md lists every topic, service and parameter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Pose, PoseStamped, Quaternion
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.wait_for_message import wait_for_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from visualization_msgs.msg import InteractiveMarkerFeedback

from dfips_ros.msg import JointSolution

from ..errors import ConfigError, PoseError
from ..tasks import inverse_kinematics as ik
from . import conversions
from .ik_commander import JointCommander, JointMemory
from .ik_endpoints import IK_ENDPOINTS
from .ik_factory import IkSolvers, make_solvers
from .ik_health import IkHealth
from .ik_parameters import IkSolverParameters
from .ik_service import FAILURE, service_type, set_code
from .managed_node import ManagedNode, run_node
from .mask_stream import Arrival, sequence_number

SERVICE = "solve_ik"
OUTPUTS = ("joint_command", "solution", "joint_trajectory", "commands")
STATUSES = {ik.SOLVED: JointSolution.SOLVED, ik.APPROXIMATE: JointSolution.APPROXIMATE}

SolverFactory = Callable[[IkSolverParameters, str], IkSolvers]


class IkSolverNode(ManagedNode[IkSolverParameters]):
    """Lifecycle node: loads the robot on configure, subscribes on activate, frees on cleanup.

    Args:
        solver_factory: makes the solvers from the parameters and the URDF.
        parameter_overrides: initial parameters, for tests and composition.
        context: rclpy context; None: the default one.
    """

    def __init__(
        self,
        solver_factory: SolverFactory = make_solvers,
        parameter_overrides: list[Parameter] | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__("ik_solver", IkSolverParameters, parameter_overrides, context)
        self._solver_factory = solver_factory
        self._solvers: IkSolvers | None = None
        self._commander: JointCommander | None = None
        self._joints = JointMemory(())
        self._health = IkHealth()
        self._reached_since: float | None = None
        self._period = 0.01
        self._publishers_by_name: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._service: Any = None
        self._timers_by_name: dict[str, Any] = {}
        self._diagnostics = IK_ENDPOINTS["diagnostics"].publisher(self)
        self._start_timer("diagnostics", 1.0, self._publish_diagnostics)

    # --- lifecycle

    def configure(self, parameters: IkSolverParameters) -> None:
        """Load the robot, run the solver once, create publishers and service."""
        started = time.perf_counter()
        urdf = str(parameters.urdf_path) if parameters.urdf_path else self._robot_description(parameters)
        solvers = self._solver_factory(parameters, urdf)
        names = solvers.follower.joint_names
        self._solvers, self._joints = solvers, JointMemory(names)
        self._commander = JointCommander(_speeds(solvers, parameters), solvers.follower.wraps)
        for name in OUTPUTS:
            self._publishers_by_name[name] = IK_ENDPOINTS[name].publisher(self)
        kind = service_type()
        notes = {**solvers.notes, "service solve_ik": "on" if kind else "off: moveit_msgs is not installed"}
        if kind is not None:
            self._service = self.create_service(kind, SERVICE, self._on_request)
        self._health.notes = notes
        self._start_timer("diagnostics", parameters.diagnostics_period, self._publish_diagnostics)
        if not solvers.follower.has_weights:
            self.get_logger().warning(f"weights: {notes['weights']}. `dfips train inverse_kinematics` makes some.")
        if "URDF" in notes:
            self.get_logger().warning(notes["URDF"])
        self.get_logger().info(f"{notes['arm']}, loaded in {time.perf_counter() - started:.1f} s: {', '.join(names)}")

    def activate(self) -> None:
        """Subscribe, and begin with no target."""
        assert self.parameters is not None
        self._health = IkHealth(active_since=time.monotonic(), notes=self._health.notes)
        self._inputs = [
            IK_ENDPOINTS["joint_states"].subscription(self, self._on_joint_states),
            IK_ENDPOINTS["target_pose"].subscription(self, self._on_target_pose),
            IK_ENDPOINTS["marker_feedback"].subscription(self, self._on_marker_feedback),
        ]
        self._period = 1.0 / self.parameters.rate
        self._start_timer("command", self._period, self._publish_command)

    def deactivate(self) -> None:
        """Unsubscribe and stop commanding; the robot stays loaded."""
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        self._stop_timer("command")
        if self._commander is not None:
            self._commander.stop()
        self._health.active_since = None

    def release(self) -> None:
        """Free robot, publishers and service."""
        self._solvers = self._commander = None
        self._joints = JointMemory(())
        self._health = IkHealth()
        if self._service is not None:
            self.destroy_service(self._service)
            self._service = None
        for publisher in self._publishers_by_name.values():
            self.destroy_lifecycle_publisher(publisher)
        self._publishers_by_name = {}

    def parameters_changed(self, parameters: IkSolverParameters) -> None:
        """Take over what may change while configured."""
        if self._commander is not None and self._solvers is not None:
            self._commander.speeds = _speeds(self._solvers, parameters)

    def note_failure(self, site: str, text: str) -> None:
        """Count an error of a callback for /diagnostics."""
        self._health.note_error(site, text, time.monotonic())

    def _robot_description(self, parameters: IkSolverParameters) -> str:
        endpoint, seconds = IK_ENDPOINTS["robot_description"], parameters.robot_description_timeout
        topic = self.resolve_topic_name(endpoint.topic)
        self.get_logger().info(f"waiting for the robot on {topic}, up to {seconds:g} s")
        came, message = wait_for_message(
            endpoint.message_type, self, endpoint.topic, qos_profile=endpoint.qos, time_to_wait=seconds
        )
        if not came:
            raise ConfigError(
                f"parameter urdf='': no robot came on {topic} within {seconds:g} s (robot_description_timeout). Start "
                "robot_state_publisher, or name a file: urdf:=/path/to/robot.urdf."
            )
        return str(message.data)

    # --- inputs

    def _on_joint_states(self, message: JointState) -> None:
        self._joints.note(message.name, message.position, time.monotonic())

    def _on_target_pose(self, message: PoseStamped, info: dict[str, Any]) -> None:
        self._on_target(message.header, message.pose, info)

    def _on_marker_feedback(self, message: InteractiveMarkerFeedback, info: dict[str, Any]) -> None:
        if message.event_type == InteractiveMarkerFeedback.POSE_UPDATE:
            self._on_target(message.header, message.pose, {})

    def _on_target(self, header: Header, pose: Pose, info: dict[str, Any]) -> None:
        """Solve for a target, or say why not; one answer for each, except for those that come late."""
        now = self.get_clock().now()
        stamped = bool(header.stamp.sec or header.stamp.nanosec)
        seconds = conversions.seconds_from_stamp(header.stamp if stamped else now.to_msg())
        age = 1e-9 * now.nanoseconds - seconds if stamped else 0.0
        sequence = sequence_number(info)
        if self._health.targets.receive(seconds if stamped else None, time.monotonic(), sequence) is Arrival.LATE:
            self.log_throttled(
                "warning", "targets are left out: their stamps are not newer than the one before", "late"
            )
            return
        answer = JointSolution(status=JointSolution.REFUSED, target_age=age)
        answer.header.stamp = header.stamp if stamped else now.to_msg()
        answer.target.orientation = Quaternion(x=0.0, y=0.0, z=0.0, w=0.0)
        problem = self.guarded("target", self._solve, header.frame_id, pose, age, answer)
        if problem:
            answer.status, answer.reason = JointSolution.REFUSED, problem
        self.guarded("solution", self._publish_solution, answer)

    def _solve(self, frame_id: str, pose: Pose, age: float, answer: JointSolution) -> None:
        """Convert, call, convert; what is refused raises."""
        parameters, solvers, commander = self.parameters, self._solvers, self._commander
        assert parameters is not None and solvers is not None and commander is not None
        answer.header.frame_id, answer.tip = solvers.follower.base, solvers.follower.tip
        if abs(age) > parameters.target_timeout:
            when = f"is {age:.2f} s old" if age > 0 else f"lies {-age:.2f} s in the future"
            raise PoseError(
                f"the target {when}, target_timeout is {parameters.target_timeout:g} s. Stamp targets with the time "
                "at which they are made."
            )
        target = solvers.frames.pose(frame_id) @ conversions.matrix_from_pose(pose, "target_pose.pose")
        present = self._present()
        seed = present if commander.goal is None else commander.goal
        solution = solvers.follower.solve(target, seed, parameters.timeout)
        self._health.solve_times.append(solution.solve_time)
        behind = ""
        if solution.success:
            if commander.goal is None:  # a motion begins where the joints are
                commander.start(present)
            behind = self._behind(solution.positions, present)
        if behind:  # the seed instead
            still = solvers.follower.solve(target, seed, 0.0)
            solution = replace(
                solution, success=False, status=ik.NO_SOLUTION, reason=behind, positions=still.positions,
                position_error=still.position_error, orientation_error=still.orientation_error,
                jump_from_seed=still.jump_from_seed,
            )  # fmt: skip
        answer.status = STATUSES.get(solution.status, JointSolution.FAILED)
        answer.reason = "" if solution.status == ik.SOLVED else solution.reason
        answer.target = conversions.pose_from_matrix(target)
        answer.names, answer.positions = list(solution.names), solution.positions.tolist()
        answer.position_error, answer.orientation_error = solution.position_error, solution.orientation_error
        answer.jump = float(solution.jump_from_seed)
        answer.stages, answer.iterations, answer.restarts = solution.stages, solution.iterations, solution.restarts
        answer.solve_time = solution.solve_time
        if not solution.success:
            return
        commander.head_for(solution.positions)
        self._reached_since = None

    def _behind(self, goal: np.ndarray, present: np.ndarray) -> str:
        """Why a goal is too far from the command, or from the joints' present positions; '' when it is not."""
        parameters, commander = self.parameters, self._commander
        assert parameters is not None and commander is not None and commander.command is not None
        limit = parameters.max_joint_step
        cures = (
            (commander.command, "the targets move faster than the arm may. Slow them down, or raise max_joint_speed."),
            (present, "the arm does not follow its commands. Is its controller at work?"),
        )
        for start, cure in cures if limit else ():
            way = np.abs(commander.way(start, goal))
            if way.max() > limit + 1e-9:
                name = self._joints.names[int(way.argmax())]
                return f"joint '{name}' is {way.max():.2f} behind, max_joint_step is {limit:g}: {cure}"
        return ""

    def _present(self) -> np.ndarray:
        """Where the joints are now."""
        problem = self._joint_problem()
        if problem:
            raise PoseError(problem)
        known = self._joints.known()
        return np.array([known[name] for name in self._joints.names])

    def _joint_problem(self) -> str:
        assert self.parameters is not None
        timeout = self.parameters.joint_states_timeout
        missing = self._joints.missing(time.monotonic(), timeout)
        if not missing:
            return ""
        topic = self.resolve_topic_name(IK_ENDPOINTS["joint_states"].topic)
        return f"no position of {', '.join(missing)} on {topic} in the last {timeout:g} s: the arm is not moved."

    # --- outputs

    def _publish_solution(self, answer: JointSolution) -> None:
        health = self._health
        health.status, health.reason = _status_name(answer.status), answer.reason
        health.counts[health.status] += 1
        if answer.status != JointSolution.REFUSED:
            health.position_error, health.orientation_error = answer.position_error, answer.orientation_error
            health.jump = answer.jump
        self._send("solution", answer)

    def _publish_command(self) -> None:
        parameters, commander = self.parameters, self._commander
        if parameters is None or commander is None or commander.goal is None:
            return
        if problem := self._joint_problem():
            commander.stop()
            self.log_throttled("error", problem, "joint_states")
            return
        now = time.monotonic()
        if not commander.moving:
            self._reached_since = now if self._reached_since is None else self._reached_since
            if now - self._reached_since > parameters.hold_time:
                commander.stop()
                return
        positions, velocities = commander.step(self._period)
        message = JointState(name=list(self._joints.names), position=positions.tolist(), velocity=velocities.tolist())
        message.header.stamp = self.get_clock().now().to_msg()
        self._send("joint_command", message)
        if parameters.publish_trajectory:
            due = Duration(sec=int(2 * self._period), nanosec=int(2e9 * self._period) % 1_000_000_000)
            point = JointTrajectoryPoint(positions=positions.tolist(), time_from_start=due)
            self._send("joint_trajectory", JointTrajectory(joint_names=list(self._joints.names), points=[point]))
        if parameters.publish_array:
            self._send("commands", Float64MultiArray(data=positions.tolist()))

    def _send(self, name: str, message: Any) -> None:
        self._publishers_by_name[name].publish(message)

    # --- service

    def _on_request(self, request: Any, response: Any) -> Any:
        parameters, solvers = self.parameters, self._solvers
        if self.lifecycle != "active" or parameters is None or solvers is None:
            return set_code(response, FAILURE, f"the node is {self.lifecycle}: activate it first")
        present = self._joints.known()
        return solvers.service.answer(request, response, present, parameters.group, parameters.service_timeout)

    # --- timers and diagnostics

    def _start_timer(self, name: str, period: float, callback: Callable[[], None]) -> None:
        self._stop_timer(name)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
        self._timers_by_name[name] = self.create_timer(period, lambda: self.guarded(name, callback), clock=steady)

    def _stop_timer(self, name: str) -> None:
        timer = self._timers_by_name.pop(name, None)
        if timer is not None:
            self.destroy_timer(timer)

    def _publish_diagnostics(self) -> None:
        health, parameters, now = self._health, self.parameters, time.monotonic()
        health.lifecycle, health.problem = self.lifecycle, self.problem
        problem = "" if parameters is None else self._joint_problem()
        hardware_id = parameters.tip if parameters is not None else ""
        status = health.message(self.get_fully_qualified_name(), hardware_id, now, problem, self._joints.age(now))
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def _speeds(solvers: IkSolvers, parameters: IkSolverParameters) -> np.ndarray:
    return np.minimum(solvers.speed_limits, parameters.max_joint_speed)


def _status_name(status: int) -> str:
    names = {getattr(JointSolution, name): name for name in ("FAILED", "SOLVED", "APPROXIMATE", "REFUSED")}
    return names[status]


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    return run_node(IkSolverNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
