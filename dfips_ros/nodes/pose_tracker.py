# SPDX-License-Identifier: Apache-2.0
"""The node ``pose_tracker``: masks and camera_info in, the object's pose out.

A callback does four things: convert, call, convert, publish. The tracking itself is the plain class
:class:`dfips_ros.tasks.object_pose.PoseTracker`. docs/ros_api.md lists every topic, service and parameter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from dfips_ros.msg import TrackedObject
from dfips_ros.srv import SetPose

from ..errors import DfipsError, MaskError, PoseError
from ..tasks.object_pose import ObjectPoseEstimator, PoseTracker, TrackResult, TrackState
from . import conversions
from .diagnostics import TrackerHealth
from .endpoints import ENDPOINTS
from .managed_node import ManagedNode, run_node
from .mask_stream import Arrival
from .overlay_publisher import OverlayPublisher
from .parameters import PoseTrackerParameters
from .tracker_factory import make_tracker, tracker_config

MARKER_PERIOD_SECONDS = 0.1

TrackerFactory = Callable[[PoseTrackerParameters], tuple[ObjectPoseEstimator, PoseTracker]]


class PoseTrackerNode(ManagedNode[PoseTrackerParameters]):
    """Lifecycle node: loads on configure, subscribes on activate, frees on cleanup.

    Args:
        tracker_factory: makes estimator and tracker from the parameters.
        parameter_overrides: initial parameters, for tests and composition.
        context: rclpy context; None: the default one.
    """

    def __init__(
        self,
        tracker_factory: TrackerFactory = make_tracker,
        parameter_overrides: list[Parameter] | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__("pose_tracker", PoseTrackerParameters, parameter_overrides, context)
        self._tracker_factory = tracker_factory
        self._tracker: PoseTracker | None = None
        self._health = TrackerHealth()
        self._camera: conversions.CameraModel | None = None
        self._camera_message: CameraInfo | None = None
        self._camera_key: tuple[object, ...] | None = None
        self._camera_frame = ""
        self._last_pose: np.ndarray | None = None
        self._state = TrackState.INITIALISING
        self._failures_in_a_row = 0
        self._publishers_by_name: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._overlay: OverlayPublisher | None = None
        self._marker: conversions.MeshMarker | None = None
        self._marker_time = 0.0
        self._marker_header: Header | None = None  # of the marker that is shown
        self._tf_type: Any = None
        self._diagnostics = ENDPOINTS["diagnostics"].publisher(self)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(SetPose, "~/set_pose", self._on_set_pose)
        self._diagnostics_timer: Any = None
        self._start_diagnostics(1.0)

    # --- lifecycle

    def configure(self, parameters: PoseTrackerParameters) -> None:
        """Load mesh and solver, run it once, create the publishers."""
        self._check_tf(parameters)
        started = time.perf_counter()
        estimator, self._tracker = self._tracker_factory(parameters)
        self._marker = conversions.MeshMarker(estimator.mesh, parameters.name)
        for name in ("pose", "tracked_object", "markers", "overlay"):
            self._publishers_by_name[name] = ENDPOINTS[name].publisher(self)
        if self._tf_type is not None:
            self._publishers_by_name["tf"] = ENDPOINTS["tf"].publisher(self, self._tf_type)
        self._overlay = OverlayPublisher(self, self._publishers_by_name["overlay"], estimator)
        self._start_diagnostics(parameters.diagnostics_period)
        seconds = time.perf_counter() - started
        self.get_logger().info(f"'{parameters.name}' loaded from {parameters.mesh_path} in {seconds:.1f} s")

    def activate(self) -> None:
        """Subscribe to masks and camera_info, and begin anew."""
        self._forget()
        camera_time, camera_problem = self._health.camera_time, self._health.camera_problem
        # All figures begin anew: what was published meanwhile was not for this node, so it is no drop.
        self._health = TrackerHealth(
            camera_time=camera_time, camera_problem=camera_problem, active_since=time.monotonic()
        )
        self._inputs = [
            ENDPOINTS["camera_info"].subscription(self, self._on_camera_info),
            ENDPOINTS["mask"].subscription(self, self._on_mask),
        ]

    def deactivate(self) -> None:
        """Unsubscribe, and take the marker away while the publishers still speak."""
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        if self._overlay is not None:
            self._overlay.stop()
        self.guarded("markers", self._hide_marker)
        self._health.active_since = None
        self._health.overlay_problem = ""

    def release(self) -> None:
        """Free tracker and publishers, forget the camera."""
        self._tracker = None
        self._camera, self._camera_message, self._camera_key, self._camera_frame = None, None, None, ""
        self._health = TrackerHealth()
        self._marker, self._marker_header = None, None
        self._overlay = None
        for publisher in self._publishers_by_name.values():
            self.destroy_lifecycle_publisher(publisher)
        self._publishers_by_name = {}

    def parameters_changed(self, parameters: PoseTrackerParameters) -> None:
        """Take over what may change while configured."""
        self._check_tf(parameters)
        if self._tf_type is not None and "tf" not in self._publishers_by_name:
            publisher = self._publishers_by_name["tf"] = ENDPOINTS["tf"].publisher(self, self._tf_type)
            if self.lifecycle == "active":
                publisher.on_activate(None)
        if self.parameters is not None and self.parameters.distortion != parameters.distortion:
            self._camera, self._camera_key = None, None
            if self._camera_message is not None:
                self._judge_camera_info(self._camera_message, parameters.distortion)
        if self._tracker is not None:
            self._tracker.config = tracker_config(parameters)

    def note_failure(self, site: str, text: str) -> None:
        """Count an error of a callback for /diagnostics."""
        self._health.note_error(site, text, time.monotonic())

    def _check_tf(self, parameters: PoseTrackerParameters) -> None:
        self._tf_type = conversions.tf_message_type() if parameters.publish_tf else None

    def _forget(self) -> None:
        """Begin anew: no pose, no frame history; the camera stays."""
        if self._tracker is not None:
            self._tracker.reset()
        self._last_pose = None
        self._state = TrackState.INITIALISING
        self._failures_in_a_row = 0

    # --- inputs

    def _on_camera_info(self, message: CameraInfo) -> None:
        assert self.parameters is not None
        self._camera_message = message
        self._judge_camera_info(message, self.parameters.distortion)

    def _judge_camera_info(self, message: CameraInfo, distortion: str) -> None:
        """Take over a calibration; one that is not usable leaves the last usable one in place."""
        self._health.camera_problem = self.guarded("camera_info", self._take_camera_info, message, distortion)

    def _take_camera_info(self, message: CameraInfo, distortion: str) -> None:
        key = conversions.camera_key(message)
        if self._camera is None or key != self._camera_key:
            self._camera = conversions.CameraModel(message, distortion)
            self._camera_key = key
        self._camera.frame_id = message.header.frame_id
        self._camera_frame = self._camera_frame or message.header.frame_id
        self._health.camera_time = time.monotonic()

    def _on_mask(self, message: Image, info: dict[str, Any]) -> None:
        started = time.monotonic()
        arrival = self._note_arrival(message, info, started)
        if arrival is Arrival.LATE:
            stamp = message.header.stamp
            text = f"masks are left out: stamp {stamp.sec}.{stamp.nanosec:09d} is not newer than the one before"
            self.log_throttled("warning", text, "late")
            return
        if arrival is Arrival.CLOCK_SET_BACK:
            self.log_throttled("warning", "the masks' clock was set back: the tracker starts anew", "clock")
            self._forget()
        header = self._header(message)
        problem = self.guarded("mask", self._track, message, header)
        if problem:
            self.guarded("tracked_object", self._publish_failure, header, problem)
        self._health.node_times.append(time.monotonic() - started)

    def _track(self, message: Image, header: Header) -> None:
        """Convert, call, convert, publish."""
        parameters, tracker = self.parameters, self._tracker
        assert parameters is not None and tracker is not None
        if self._camera is None:
            cause = self._health.camera_problem or f"waiting for {self._inputs[0].topic_name}"
            self.log_throttled("warning", f"no camera_info yet: {cause}", "camera_info")
            self._publish_failure(header, f"no camera_info yet: {cause}")
            return
        if not header.frame_id:
            raise MaskError("the mask's header.frame_id is empty, and so is camera_info's: set the optical frame.")
        mask = conversions.mask_from_image(message, parameters.mask_mode, parameters.label_value)
        view = self._camera.view((message.height, message.width))
        mask = view.rectify_mask(mask)
        result = tracker.update(mask, view.camera_matrix, conversions.seconds_from_stamp(header.stamp))
        reason = _reason(result, mask)
        self._publish(result, reason, header)
        self._failures_in_a_row = 0
        if self._overlay is not None:  # an error in the drawing is none of the tracking
            text = f"{parameters.name}: {result.state.name} {reason}"
            self._health.overlay_problem = self.guarded(
                "overlay", self._overlay.publish, header, mask, view, result.solution, text
            )

    def _note_arrival(self, message: Image, info: dict[str, Any], now: float) -> Arrival:
        number = info.get("publication_sequence_number")
        sequence = number if isinstance(number, int) and 0 < number < 2**63 else None
        stamp = message.header.stamp
        seconds = conversions.seconds_from_stamp(stamp) if stamp.sec or stamp.nanosec else now
        return self._health.stream.receive(seconds, now, sequence)

    def _header(self, message: Image) -> Header:
        """The mask's stamp and frame; where they are empty, the time now and the frame of camera_info."""
        stamp, frame = message.header.stamp, message.header.frame_id
        if not (stamp.sec or stamp.nanosec):
            stamp = self.get_clock().now().to_msg()
            self.log_throttled("warning", "masks carry no stamp: the time of arrival is used", "stamp")
        if not frame and self._camera is not None:
            frame = self._camera.frame_id
        self._camera_frame = frame or self._camera_frame
        return conversions.make_header(stamp, frame)

    # --- outputs

    def _publish(self, result: TrackResult, reason: str, header: Header) -> None:
        """Tell about a mask that was worked on. Without a solution the pose is the last one and is marked unknown."""
        parameters = self.parameters
        assert parameters is not None
        solution = result.solution
        tracking = result.state == TrackState.TRACKING and solution is not None
        message = TrackedObject(header=header, object_name=parameters.name, reason=reason)
        message.state = int(result.state)
        if solution is not None:
            message.iou = float(solution.iou)
            message.residual_norms = np.asarray(solution.residual_norms, dtype=np.float64).ravel().tolist()
            message.solve_time = float(solution.solve_time)
            self._health.solve_times.append(float(solution.solve_time))
        if tracking and solution is not None:
            self._last_pose = solution.T_camera_object
            message.pose = conversions.pose_with_covariance(solution.T_camera_object, solution.covariance)
        else:
            message.pose = conversions.unknown_pose_with_covariance(self._last_pose)
        self._send("tracked_object", message)
        if tracking:
            self._health.poses += 1
            self._send("pose", conversions.pose_with_covariance_stamped(message.pose, header))
            if parameters.publish_tf and self._tf_type is not None:
                transform = conversions.transform_from_pose(message.pose.pose, header, parameters.frame)
                self._send("tf", self._tf_type(transforms=[transform]))
        self._publish_marker(message, header, tracking)
        self._note_state(result.state, reason, message.iou)

    def _publish_failure(self, header: Header, problem: str) -> None:
        """Tell about a mask that could not be worked on; after lost_frames of them the object is lost."""
        parameters = self.parameters
        assert parameters is not None
        self._failures_in_a_row += 1
        state = self._state
        if state == TrackState.TRACKING and self._failures_in_a_row >= parameters.lost_frames:
            state = TrackState.LOST
        message = TrackedObject(header=header, object_name=parameters.name, state=int(state), reason=problem)
        message.pose = conversions.unknown_pose_with_covariance(self._last_pose)
        self._send("tracked_object", message)
        self._publish_marker(message, header, False)
        self._note_state(state, problem, 0.0)

    def _publish_marker(self, message: TrackedObject, header: Header, tracking: bool) -> None:
        parameters = self.parameters
        assert parameters is not None and self._marker is not None
        now = time.monotonic()
        wanted = tracking and parameters.publish_markers
        if wanted and now - self._marker_time >= MARKER_PERIOD_SECONDS:
            if self._publishers_by_name["markers"].get_subscription_count() > 0:
                self._send("markers", self._marker.at(message.pose.pose, header))
                self._marker_time, self._marker_header = now, header
        elif not wanted:
            self._hide_marker()

    def _hide_marker(self) -> None:
        header, self._marker_header = self._marker_header, None
        if header is not None and self.parameters is not None:
            self._send("markers", conversions.delete_markers(header, self.parameters.name))

    def _note_state(self, state: TrackState, reason: str, iou: float) -> None:
        if state != self._state:
            because = f": {reason}" if reason else ""
            self.get_logger().info(f"{self._state.name} -> {state.name}{because}")
        self._state = state
        self._health.frames += 1
        self._health.state, self._health.reason, self._health.iou = state.name, reason, iou

    def _send(self, name: str, message: Any) -> None:
        self._publishers_by_name[name].publish(message)

    # --- services

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self.lifecycle != "active":
            response.success, response.message = False, self._not_active()
            return response
        problem = self.guarded("reset", self._forget)
        response.success, response.message = (
            not problem,
            problem or "the tracker starts anew with the next mask",
        )
        return response

    def _on_set_pose(self, request: SetPose.Request, response: SetPose.Response) -> SetPose.Response:
        try:
            self._set_pose(request)
            response.success, response.message = (
                True,
                "the tracker continues from this pose with the next mask",
            )
        except DfipsError as error:
            response.success, response.message = False, str(error)
        except Exception as error:
            response.success, response.message = False, f"{type(error).__name__}: {error}"
            self.get_logger().error(f"set_pose: {response.message}")
        return response

    def _set_pose(self, request: SetPose.Request) -> None:
        if self.lifecycle != "active" or self._tracker is None:
            raise PoseError(self._not_active())
        frame = request.pose.header.frame_id
        if frame and frame != self._camera_frame:
            known = f"'{self._camera_frame}'" if self._camera_frame else "not known yet, as no mask has arrived"
            raise PoseError(
                f"header.frame_id='{frame}': expected the camera's optical frame, which is {known}, or an "
                "empty string. "
                "Transform the pose first."
            )
        pose = conversions.matrix_from_pose(request.pose.pose)
        self._tracker.set_pose(pose)

    def _not_active(self) -> str:
        before = "" if self.lifecycle == "inactive" else "configure and "
        return f"the node is {self.lifecycle}: {before}activate it first"

    # --- diagnostics

    def _start_diagnostics(self, period: float) -> None:
        if self._diagnostics_timer is not None:
            self.destroy_timer(self._diagnostics_timer)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
        self._diagnostics_timer = self.create_timer(period, self._on_diagnostics, clock=steady)

    def _on_diagnostics(self) -> None:
        self.guarded("diagnostics", self._publish_diagnostics)

    def _publish_diagnostics(self) -> None:
        health, parameters = self._health, self.parameters
        health.lifecycle, health.problem = self.lifecycle, self.problem
        topics = {name: self.resolve_topic_name(f"~/{name}") for name in ("mask", "camera_info")}
        timeout = parameters.camera_info_timeout if parameters is not None else 2.0
        hardware_id = parameters.name if parameters is not None else ""
        status = health.status(self.get_fully_qualified_name(), hardware_id, time.monotonic(), timeout, topics)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def _reason(result: TrackResult, mask: np.ndarray) -> str:
    """The tracker's reason, empty while all is well."""
    if result.state != TrackState.TRACKING or result.solution is None:
        return result.reason
    reason = "" if result.reason == "tracking" else result.reason
    if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
        border = "the mask touches the image border: part of the object may be unseen"
        return f"{reason}; {border}" if reason else border
    return reason


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    return run_node(PoseTrackerNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
