# SPDX-License-Identifier: Apache-2.0
"""The node ``grasp_target``: the tracked object's pose in, the arm's target before and at the grasp out.

    T_base_tip = T_base_camera @ T_camera_object @ T_object_grasp @ (back along the approach axis by the standoff)

docs/ros_api.md lists every topic and parameter, docs/grasping.md shows the way from a CAD file to a moving arm.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.parameter import Parameter
from std_msgs.msg import Header

from dfips_ros.msg import TrackedObject

from ..errors import MissingDependencyError, PoseError, ShapeError
from ..processes.mesh import load_mesh
from . import conversions
from .grasp_endpoints import GRASP_ENDPOINTS
from .grasp_health import GraspHealth
from .grasp_parameters import GraspTargetParameters
from .grasp_scene import SceneObject, SceneTypes, scene_types
from .managed_node import ManagedNode, run_node
from .mask_stream import Arrival
from .output_frame import OutputFrame

MAX_STEP_SECONDS = 0.2  # after a gap, the standoff moves no farther at once than in this time
MAX_NAMES = 100


class GraspTargetNode(ManagedNode[GraspTargetParameters]):
    """Lifecycle node: reads mesh and transforms on configure, subscribes on activate, frees on cleanup.

    Args:
        parameter_overrides: initial parameters, for tests and composition.
        context: rclpy context; None: the default one.
    """

    def __init__(self, parameter_overrides: list[Parameter] | None = None, context: Context | None = None) -> None:
        super().__init__("grasp_target", GraspTargetParameters, parameter_overrides, context)
        self._health = GraspHealth()
        self._frame: OutputFrame | None = None  # None: the camera is where the parameters say
        self._scene: SceneObject | None = None
        self._scene_time: float | None = None
        self._scene_header: Header | None = None  # of what stands in the scene
        self._target_time: float | None = None
        self._names: set[str] = set()
        self._publishers_by_name: dict[str, Any] = {}
        self._input: Any = None
        self._timer: Any = None
        self._diagnostics = GRASP_ENDPOINTS["diagnostics"].publisher(self)
        self._start_timer(1.0)

    # --- lifecycle

    def configure(self, parameters: GraspTargetParameters) -> None:
        """Find the camera, load the mesh, create the publishers."""
        types = scene_types()
        for name in ("target_pose", "grasp_pose"):
            self._publishers_by_name[name] = GRASP_ENDPOINTS[name].publisher(self)
        note = self._make_scene(parameters, types)
        if parameters.T_base_camera is None:
            self._frame = self._listen_to_tf(parameters.base_frame)
        self._health.notes = {
            "camera": "fixed by camera_xyz and camera_rotation" if self._frame is None else "from /tf",
            "planning scene": note,
        }
        self._start_timer(parameters.diagnostics_period)
        log = self.get_logger()
        log.info(f"targets in '{parameters.base_frame}', camera {self._health.notes['camera']}, planning scene {note}")

    def _listen_to_tf(self, base_frame: str) -> OutputFrame:
        try:
            return OutputFrame(self, base_frame)
        except MissingDependencyError as cause:
            raise MissingDependencyError(
                "parameter camera_xyz='': a look-up in /tf needs the package tf2_ros, which cannot be imported. "
                "Install it (apt-get install ros-jazzy-tf2-ros-py), or give camera_xyz and camera_rotation."
            ) from cause

    def _make_scene(self, parameters: GraspTargetParameters, types: SceneTypes | None) -> str:
        """Prepare the collision object. -> what became of it, in words."""
        path = parameters.mesh_path
        if path is None:
            return "off: no mesh is given"
        mesh = load_mesh(path, parameters.mesh_scale)
        if types is None:
            return "off: moveit_msgs is not installed"
        name = parameters.object_name or mesh.name
        self._scene = SceneObject(types, mesh, name, parameters.collision_shape)
        endpoint = GRASP_ENDPOINTS["planning_scene"]
        self._publishers_by_name["planning_scene"] = endpoint.publisher(self, types.PlanningScene)
        return f"gets '{name}' as a {parameters.collision_shape}"

    def activate(self) -> None:
        """Subscribe."""
        assert self.parameters is not None
        self._health = GraspHealth(
            active_since=time.monotonic(), notes=self._health.notes, offset=self.parameters.standoff,
            standoff=self.parameters.standoff,
        )  # fmt: skip
        self._names, self._target_time = set(), None
        self._input = GRASP_ENDPOINTS["tracked_object"].subscription(self, self._on_object)

    def deactivate(self) -> None:
        """Unsubscribe, and take the object out of the planning scene while the publishers still speak."""
        if self._input is not None:
            self.destroy_subscription(self._input)
            self._input = None
        self.guarded("planning_scene", self._clear_scene)
        self._health.active_since = None

    def release(self) -> None:
        """Free mesh, publishers and the listener to /tf."""
        if self._frame is not None:
            self._frame.close()
        self._frame = self._scene = self._scene_header = self._scene_time = None
        self._health = GraspHealth()
        for publisher in self._publishers_by_name.values():
            self.destroy_lifecycle_publisher(publisher)
        self._publishers_by_name = {}

    def note_failure(self, site: str, text: str) -> None:
        """Keep an error of a callback for /diagnostics; a refused pose has its reason there already."""
        if site != "pose":
            self._health.note_error(site, text, time.monotonic())

    # --- poses

    def _on_object(self, message: TrackedObject) -> None:
        parameters, health = self.parameters, self._health
        assert parameters is not None
        if parameters.object_name and message.object_name != parameters.object_name:
            return
        stamp, now = message.header.stamp, time.monotonic()
        arrival = health.poses.receive(conversions.seconds_from_stamp(stamp), now)
        if arrival is Arrival.LATE and self._one_object(message.object_name):
            return
        health.reason = self.guarded("pose", self._follow, message)
        health.refused += bool(health.reason)

    def _one_object(self, name: str) -> bool:
        """Note a name; False when there have been others."""
        if len(self._names) < MAX_NAMES:
            self._names.add(name)
        return len(self._names) == 1

    def _follow(self, message: TrackedObject) -> None:
        """Judge, convert, publish; a pose that is not fit to be followed raises."""
        parameters = self.parameters
        assert parameters is not None
        if not self._one_object(message.object_name):
            raise PoseError(
                f"the tracker has several objects ({', '.join(sorted(self._names))}): set the parameter object_name."
            )
        self._judge(message, parameters)
        header = message.header
        T_camera_object = conversions.matrix_from_pose(message.pose.pose, "tracked_object.pose")
        self._judge_certainty(message, T_camera_object, parameters)
        T_base_object = self._T_base_camera(header, parameters) @ T_camera_object
        T_base_grasp = T_base_object @ parameters.T_object_grasp
        target = T_base_grasp.copy()
        target[:3, 3] -= self._standoff(parameters) * (T_base_grasp[:3, :3] @ parameters.approach)
        placed = conversions.make_header(header.stamp, parameters.base_frame)
        for name, matrix in (("target_pose", target), ("grasp_pose", T_base_grasp)):
            pose = conversions.pose_from_matrix(matrix)
            self._publishers_by_name[name].publish(PoseStamped(header=placed, pose=pose))
        self._health.targets += 1
        self.guarded("planning_scene", self._update_scene, T_base_object, placed)

    def _T_base_camera(self, header: Header, parameters: GraspTargetParameters) -> np.ndarray:
        """The pose's frame in base_frame, (4, 4).

        Raises:
            PoseError: /tf does not know it.
        """
        if header.frame_id == parameters.base_frame:  # the tracker's parameter output_frame
            return np.eye(4)
        if self._frame is not None:
            return self._frame.T_output_camera(header)
        assert parameters.T_base_camera is not None
        return parameters.T_base_camera

    def _judge(self, message: TrackedObject, parameters: GraspTargetParameters) -> None:
        """Raise unless the object is tracked, well and just now."""
        health = self._health
        now = conversions.seconds_from_stamp(self.get_clock().now().to_msg())
        health.age = now - conversions.seconds_from_stamp(message.header.stamp)
        health.iou = float(message.iou)
        if message.state != TrackedObject.TRACKING:
            state = "LOST" if message.state == TrackedObject.LOST else "not found yet"
            raise PoseError(f"the object is {state}: {message.reason or 'no reason given'}.")
        if not message.pose.covariance[0] >= 0.0:
            raise PoseError(f"the tracker has no pose for this image: {message.reason or 'no reason given'}.")
        if not abs(health.age) <= parameters.max_age:
            when = f"is {health.age:.2f} s old" if health.age > 0 else f"lies {-health.age:.2f} s in the future"
            raise PoseError(f"the pose {when}, max_age is {parameters.max_age:g} s.")
        if not message.iou >= parameters.min_iou:
            raise PoseError(f"silhouette IoU {message.iou:.2f} is below min_iou {parameters.min_iou:g}.")

    def _judge_certainty(
        self, message: TrackedObject, T_camera_object: np.ndarray, parameters: GraspTargetParameters
    ) -> None:
        """Raise unless the covariance leaves the grasp where it seems to be."""
        covariance = np.asarray(message.pose.covariance, dtype=np.float64).reshape(6, 6)
        lever = T_camera_object[:3, :3] @ parameters.T_object_grasp[:3, 3]
        point, turn = grasp_deviations(covariance, lever)
        self._health.deviations = point, turn
        limits = (
            ("the grasp point", point, parameters.max_position_deviation, "max_position_deviation", "m"),
            ("the rotation", turn, parameters.max_rotation_deviation, "max_rotation_deviation", "rad"),
        )
        for what, deviation, limit, name, unit in limits:
            if limit > 0.0 and not deviation <= limit:
                raise PoseError(f"{what} is uncertain by {deviation:.3g} {unit}, {name} is {limit:g} {unit}.")

    def _standoff(self, parameters: GraspTargetParameters) -> float:
        """How far back the target stays now: towards the parameter, no faster than approach_speed."""
        now = time.monotonic()
        seconds = 0.0 if self._target_time is None else min(now - self._target_time, MAX_STEP_SECONDS)
        self._target_time = now
        step = parameters.approach_speed * seconds
        self._health.standoff = parameters.standoff
        self._health.offset += float(np.clip(parameters.standoff - self._health.offset, -step, step))
        return self._health.offset

    # --- planning scene

    def _update_scene(self, T_base_object: np.ndarray, header: Header) -> None:
        assert self.parameters is not None
        now = time.monotonic()
        due = self._scene_time is None or now - self._scene_time >= self.parameters.scene_period
        if self._scene is None or not due or not self._publishers_by_name["planning_scene"].get_subscription_count():
            return
        pose = conversions.pose_from_matrix(T_base_object)
        self._publishers_by_name["planning_scene"].publish(self._scene.at(pose, header))
        self._scene_time, self._scene_header = now, header

    def _clear_scene(self) -> None:
        header, self._scene_header, self._scene_time = self._scene_header, None, None
        if header is not None and self._scene is not None:
            self._publishers_by_name["planning_scene"].publish(self._scene.removed(header))

    # --- diagnostics

    def _start_timer(self, period: float) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
        self._timer = self.create_timer(period, lambda: self.guarded("diagnostics", self._report), clock=steady)

    def _report(self) -> None:
        health, parameters = self._health, self.parameters
        health.lifecycle, health.problem = self.lifecycle, self.problem
        topic = self.resolve_topic_name(GRASP_ENDPOINTS["tracked_object"].topic)
        hardware_id = parameters.object_name if parameters is not None else ""
        status = health.message(self.get_fully_qualified_name(), hardware_id, time.monotonic(), topic)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def grasp_deviations(covariance: np.ndarray, lever: np.ndarray) -> tuple[float, float]:
    """How certain a point of the object and its rotation are.

    The point moves by ``dt + w x lever``, so its covariance is ``J C J^T`` with ``J = [I, -hat(lever)]``.

    Args:
        covariance: (6, 6) over position and rotation, as in ROS.
        lever: (3,), from the object's origin to the point, in the axes of the covariance.

    Returns:
        Standard deviations in the worst direction: of the point [m] and of the rotation [rad].

    Raises:
        PoseError: the covariance is not finite.
    """
    if covariance.shape != (6, 6):
        raise ShapeError(f"covariance: expected shape (6, 6), got {covariance.shape}.")
    if not np.isfinite(covariance).all():
        raise PoseError("tracked_object.pose.covariance: expected finite numbers, got NaN or infinity.")
    x, y, z = lever
    jacobian = np.hstack([np.eye(3), [[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]]])
    variances = (np.linalg.eigvalsh(block)[-1] for block in (jacobian @ covariance @ jacobian.T, covariance[3:, 3:]))
    point, turn = (math.sqrt(max(float(variance), 0.0)) for variance in variances)
    return point, turn


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    return run_node(GraspTargetNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
