# SPDX-License-Identifier: Apache-2.0
"""The node ``pose_tracker``: masks and camera_info in, poses of one or several objects out.

A callback does four things: convert, call, convert, publish. The tracking itself is the plain class
:class:`dfips_ros.tasks.object_pose.PoseTracker`, one for each object. docs/ros_api.md lists every topic, service and
parameter.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from ..errors import ConfigError, DfipsError, MaskError, PoseError
from ..messages.labels import LabelTable, Masks, masks_from_image
from . import conversions
from .diagnostics import TrackerHealth
from .endpoints import ENDPOINTS
from .label_info import vision_message_type
from .managed_node import ManagedNode, run_node
from .mask_sources import InstanceMasks, detections_type, size_of_masks
from .mask_stream import Arrival, sequence_number
from .object_track import Answer, ObjectTrack
from .output_frame import OutputFrame
from .overlay_publisher import OverlayPublisher
from .tracked_object_set import TrackedObjectSet, TrackerFactory
from .tracker_factory import make_tracker, use_threads
from .tracker_outputs import TrackerOutputs
from .tracker_parameters import PoseTrackerParameters
from .tracker_services import TrackerServices


class PoseTrackerNode(ManagedNode[PoseTrackerParameters]):
    """Lifecycle node: loads on configure, subscribes on activate, frees on cleanup.

    Args:
        tracker_factory: makes estimator and tracker of one object from its parameters.
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
        self._objects = TrackedObjectSet(tracker_factory)
        self._lock = threading.RLock()  # masks and services, should an executor run them side by side
        self._health = TrackerHealth()
        self._labels = LabelTable()
        self._instances = InstanceMasks()
        self._camera: conversions.CameraModel | None = None
        self._camera_message: CameraInfo | None = None
        self._camera_key: tuple[object, ...] | None = None
        self._camera_frame = ""
        self._outputs: TrackerOutputs | None = None
        self._output_frame: OutputFrame | None = None
        self._inputs: list[Any] = []
        self._overlay: OverlayPublisher | None = None
        self._tf_type: Any = None
        self._diagnostics = ENDPOINTS["diagnostics"].publisher(self)
        self._requests = TrackerServices(
            self, self._objects, self._lock, self._objects_changed, lambda: (self._camera_frame, self._output_frame)
        )
        self._diagnostics_timer: Any = None
        self._start_diagnostics(1.0)

    # --- lifecycle

    def configure(self, parameters: PoseTrackerParameters) -> None:
        """Load meshes and solvers, run them once, create the publishers."""
        self._check_tf(parameters)
        if parameters.mask_source == "detections":
            detections_type()
        if parameters.output_frame:
            self._output_frame = OutputFrame(self, parameters.output_frame)
        use_threads(parameters.max_solve_threads)
        for each in parameters.each:
            started = time.perf_counter()
            own = parameters.object_parameters.get(each.name) if parameters.objects else None
            try:
                loaded = self._objects.load(each)
            except DfipsError as error:
                if not parameters.objects:
                    raise
                raise ConfigError(f"object '{each.name}': {error}") from error
            self._objects.add(each, own, loaded).configured = True
            seconds = time.perf_counter() - started
            self.get_logger().info(f"'{each.name}' loaded from {each.mesh_path} in {seconds:.1f} s")
        self._labels = LabelTable(self.resolve_topic_name("~/label_info") if vision_message_type("LabelInfo") else "")
        self._outputs = TrackerOutputs(self, self._tf_type)
        self._overlay = OverlayPublisher(self, self._outputs.overlay)
        self._start_diagnostics(parameters.diagnostics_period)

    def activate(self) -> None:
        """Subscribe to masks and camera_info, and begin anew."""
        self._forget()
        camera_time, camera_problem = self._health.camera_time, self._health.camera_problem
        # All figures begin anew: what was published meanwhile was not for this node, so it is no drop.
        self._health = TrackerHealth(
            camera_time=camera_time, camera_problem=camera_problem, active_since=time.monotonic()
        )
        self._objects_changed()
        self._inputs = [
            ENDPOINTS["camera_info"].subscription(self, self._on_camera_info),
            ENDPOINTS["initial_pose"].subscription(self, self._on_initial_pose),
        ]
        label_info = vision_message_type("LabelInfo")
        if label_info is not None:
            self._inputs.append(ENDPOINTS["label_info"].subscription(self, self._on_label_info, label_info))
        if self.parameters is not None and self.parameters.mask_source == "detections":
            kind = detections_type()
            self._inputs.append(ENDPOINTS["instance_masks"].subscription(self, self._on_detections, kind))
        else:
            self._inputs.append(ENDPOINTS["mask"].subscription(self, self._on_mask))

    def deactivate(self) -> None:
        """Unsubscribe, and take the markers away while the publishers still speak."""
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        if self._overlay is not None:
            self._overlay.stop()
        if self._outputs is not None:
            self.guarded("markers", self._outputs.hide_markers)
        self._health.active_since = None
        self._health.overlay_problem = ""

    def release(self) -> None:
        """Free trackers and publishers, forget the camera."""
        self._objects.clear()
        self._camera, self._camera_message, self._camera_key, self._camera_frame = None, None, None, ""
        self._health = TrackerHealth()
        self._instances.forget()
        self._overlay = None
        if self._outputs is not None:
            self._outputs.destroy(self)
        if self._output_frame is not None:
            self._output_frame.close()
        self._outputs, self._output_frame = None, None

    def destroy_node(self) -> None:
        """End the thread that loads objects, too."""
        self._requests.close()
        super().destroy_node()

    def parameters_changed(self, parameters: PoseTrackerParameters) -> None:
        """Take over what may change while configured."""
        self._objects.check(parameters)
        self._check_tf(parameters)
        if self._outputs is not None:
            self._outputs.use_tf(self, self._tf_type)
        if self.parameters is not None and self.parameters.distortion != parameters.distortion:
            self._camera, self._camera_key = None, None
            if self._camera_message is not None:
                self._judge_camera_info(self._camera_message, parameters.distortion)
        with self._lock:
            self._objects.take(parameters)

    def note_failure(self, site: str, text: str) -> None:
        """Count an error of a callback for /diagnostics."""
        self._health.note_error(site, text, time.monotonic())

    def _objects_changed(self) -> None:
        """Tell of objects that were added or removed."""
        gone = [name for name in self._health.objects if name not in self._objects.names]
        for name in gone:
            del self._health.objects[name]
            self._instances.forget(name)
        for track in self._objects.tracks:
            self._health.objects.setdefault(track.name, (track.state.name, "", 0.0))
        if self._outputs is not None:
            self._outputs.hide_markers(gone)
            self._outputs.publish_symmetries(self._objects.tracks)

    def _check_tf(self, parameters: PoseTrackerParameters) -> None:
        self._tf_type = conversions.tf_message_type() if parameters.publish_tf else None

    def _forget(self) -> None:
        """Begin anew: no poses, no frame history; the camera stays."""
        for track in self._objects.tracks:
            track.forget()
        self._instances.forget()

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

    def _on_label_info(self, message: Any) -> None:
        self.guarded("label_info", self._labels.take, message)

    def _on_initial_pose(self, message: PoseStamped) -> None:
        with self._lock:
            self.guarded("initial_pose", self._requests.take_hint, message)

    def _on_mask(self, message: Image, info: dict[str, Any]) -> None:
        self._on_masks(message, info, lambda objects: masks_from_image(message, objects, self._labels))

    def _on_detections(self, message: Any, info: dict[str, Any]) -> None:
        size = self._camera.size if self._camera is not None else (1, 1)
        self._on_masks(message, info, lambda objects: self._instances.masks(message, objects, size))

    def _on_masks(self, message: Any, info: dict[str, Any], read: Any) -> None:
        started = time.monotonic()
        arrival = self._note_arrival(message, info, started)
        if arrival is Arrival.LATE:
            stamp = message.header.stamp
            text = f"masks are left out: stamp {stamp.sec}.{stamp.nanosec:09d} is not newer than the one before"
            self.log_throttled("warning", text, "late")
            return
        with self._lock:
            if arrival is Arrival.CLOCK_SET_BACK:
                self.log_throttled("warning", "the masks' clock was set back: the tracker starts anew", "clock")
                self._forget()
            tracks = self._fresh(message, info)
            if not tracks and self._objects.tracks:
                return
            header = self._header(message)
            answers: list[Answer] = []
            problem = self.guarded("mask", lambda: answers.extend(self._track(read, tracks, header)))
            if problem:
                answers = [track.failure(problem, header) for track in tracks]
                self.guarded("tracked_object", self._publish, answers, header)
        self._health.note_answered(time.monotonic() - started, self._latency(message))

    def _fresh(self, message: Any, info: dict[str, Any]) -> list[ObjectTrack]:
        """The objects that this mask tells about: it was not taken before they were reset."""
        stamp = message.header.stamp
        taken = conversions.seconds_from_stamp(stamp) if stamp.sec or stamp.nanosec else None
        received = info.get("received_timestamp") or info.get("source_timestamp") or 0
        clock = self.get_clock().now().nanoseconds * 1e-9
        tracks = [
            track
            for track in self._objects.tracks
            if not track.barrier.is_before(taken, clock, received * 1e-9 if received > 0 else None)
        ]
        self._health.stale += len(tracks) < len(self._objects.tracks)
        return tracks

    def _track(self, read: Any, tracks: list[ObjectTrack], header: Header) -> list[Answer]:
        """Convert, call, convert, publish. -> the answers, empty where they are still to be published."""
        if self._camera is None:
            cause = self._health.camera_problem or f"waiting for {self._inputs[0].topic_name}"
            self.log_throttled("warning", f"no camera_info yet: {cause}", "camera_info")
            answers = [track.failure(f"no camera_info yet: {cause}", header) for track in tracks]
            self._publish(answers, header)
            return answers
        if not header.frame_id:
            raise MaskError("the mask's header.frame_id is empty, and so is camera_info's: set the optical frame.")
        masks: Masks = read([track.parameters for track in tracks])
        view = self._camera.view(size_of_masks(masks) or self._camera.size)
        usable = {name: view.rectify_mask(mask) for name, mask in masks.items() if isinstance(mask, np.ndarray)}
        found = self._objects.update(usable, view.camera_matrix, conversions.seconds_from_stamp(header.stamp))
        output, T_output_camera, frame_problem = self._output(header)
        answers = []
        for track in tracks:
            result = found.get(track.name, masks[track.name])
            seen = usable.get(track.name)

            def answer(track: ObjectTrack = track, result: Any = result, seen: np.ndarray | None = seen) -> None:
                if isinstance(result, Exception) or seen is None:
                    raise result
                at_border = bool(seen[0].any() or seen[-1].any() or seen[:, 0].any() or seen[:, -1].any())
                answers.append(track.answer(result, at_border, output, T_output_camera, frame_problem))

            problem = self.guarded("mask", answer)  # of this object: none of the others'
            if problem:
                answers.append(track.failure(problem, output))
        self._publish(answers, output)
        if self._overlay is not None:  # an error in the drawing is none of the tracking
            self._health.overlay_problem = self.guarded(
                "overlay", self._overlay.publish, header, list(usable.values()), view, answers
            )
        return answers

    def _output(self, header: Header) -> tuple[Header, np.ndarray | None, str]:
        """Header of the outputs, the camera in their frame, and why that is not known (empty: it is)."""
        if self._output_frame is None or self._output_frame.frame == header.frame_id:
            return header, None, ""
        output = conversions.make_header(header.stamp, self._output_frame.frame)
        try:
            return output, self._output_frame.T_output_camera(header), ""
        except PoseError as error:
            self.log_throttled("warning", str(error), "output_frame")
            return output, None, str(error)

    def _note_arrival(self, message: Any, info: dict[str, Any], now: float) -> Arrival:
        sequence = sequence_number(info)
        stamp = message.header.stamp
        seconds = conversions.seconds_from_stamp(stamp) if stamp.sec or stamp.nanosec else now
        received = info.get("received_timestamp") or 0
        self._health.note_wait(time.time() - received * 1e-9 if received > 0 else None)
        return self._health.stream.receive(seconds, now, sequence)

    def _latency(self, message: Any) -> float | None:
        """From the mask's stamp to now, on the node's clock; None where it has no stamp."""
        stamp = message.header.stamp
        now = self.get_clock().now().nanoseconds * 1e-9
        return now - conversions.seconds_from_stamp(stamp) if stamp.sec or stamp.nanosec else None

    def _header(self, message: Any) -> Header:
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

    def _publish(self, answers: list[Answer], header: Header) -> None:
        """Publish the answers to one mask, and note them."""
        assert self.parameters is not None and self._outputs is not None
        tracks = self._objects.tracks
        self._outputs.publish(answers, header, tracks[0] if tracks else None, self.parameters)
        self._health.frames += 1
        for each in answers:
            name, state = each.track.name, each.track.state.name
            before = self._health.objects.get(name, ("INITIALISING", "", 0.0))[0]
            if state != before:
                who = f"'{name}': " if len(tracks) > 1 else ""
                because = f": {each.message.reason}" if each.message.reason else ""
                self.get_logger().info(f"{who}{before} -> {state}{because}")
            self._health.objects[name] = (state, each.message.reason, each.message.iou)
            self._health.poses += each.tracking
            if each.solution is not None:
                self._health.solve_times.append(float(each.solution.solve_time))

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
        source = "instance_masks" if parameters is not None and parameters.mask_source == "detections" else "mask"
        topics = {
            "mask": self.resolve_topic_name(f"~/{source}"), "camera_info": self.resolve_topic_name("~/camera_info"),
        }  # fmt: skip
        timeout = parameters.camera_info_timeout if parameters is not None else 2.0
        hardware_id = ", ".join(self._objects.names)
        status = health.status(self.get_fully_qualified_name(), hardware_id, time.monotonic(), timeout, topics)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    return run_node(PoseTrackerNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
