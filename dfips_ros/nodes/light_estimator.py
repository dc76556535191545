# SPDX-License-Identifier: Apache-2.0
"""The node ``light_estimator``: images and the tracked object's pose in, the light that falls on it out.

The solver is the plain class :class:`dfips_ros.tasks.illumination.IlluminationEstimator`; which pose belongs to which
image is in :mod:`.light_pairing`. docs/ros_api.md lists every topic and parameter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from dfips_ros.msg import LightEstimate

from ..errors import CameraError, PoseError
from ..processes.mesh import load_mesh
from ..tasks.illumination import IlluminationEstimator, IlluminationSolution, chrome_sphere
from . import conversions
from .light_conversions import light_estimate, light_markers, refusal, shading_from_image
from .light_endpoints import LIGHT_ENDPOINTS
from .light_health import LightHealth
from .light_pairing import Pair, PosePairing
from .light_parameters import LightEstimatorParameters
from .managed_node import ManagedNode, run_node
from .mask_stream import Arrival, sequence_number

INPUTS, OUTPUTS = ("camera_info", "pose", "image"), ("light", "markers", "chrome_sphere")
POLL_SECONDS = 0.02  # how long a pair may lie before it is taken
MARKER_SECONDS = 1.0  # how long markers stay, or three times the time between two answers

LightPair = Pair[Image, PoseWithCovarianceStamped]
EstimatorFactory = Callable[[LightEstimatorParameters], IlluminationEstimator]


def make_estimator(parameters: LightEstimatorParameters) -> IlluminationEstimator:
    """The estimator that the parameters ask for.

    Raises:
        DfipsError: mesh or weights cannot be read.
    """
    torch.set_num_threads(parameters.max_solve_threads)
    mesh = load_mesh(parameters.mesh_path, parameters.mesh_scale)
    estimator = IlluminationEstimator.from_mesh(mesh, parameters.kind, parameters.device, parameters.weights_path)
    estimator.warm_up()
    return estimator


class LightEstimatorNode(ManagedNode[LightEstimatorParameters]):
    """Lifecycle node: loads on configure, subscribes on activate, frees on cleanup.

    Args:
        estimator_factory: makes the estimator from the parameters.
        parameter_overrides: initial parameters, for tests and composition.
        context: rclpy context; None: the default one.
    """

    def __init__(
        self,
        estimator_factory: EstimatorFactory = make_estimator,
        parameter_overrides: list[Parameter] | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__("light_estimator", LightEstimatorParameters, parameter_overrides, context)
        self._estimator_factory = estimator_factory
        self._estimator: IlluminationEstimator | None = None
        self._health = LightHealth()
        self._pairing: PosePairing[Image, PoseWithCovarianceStamped] = PosePairing()
        self._camera: conversions.CameraModel | None = None
        self._camera_key: tuple[object, ...] | None = None
        self._last_time = -math.inf
        self._publishers_by_name: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._timers_by_name: dict[str, Any] = {}
        self._diagnostics = LIGHT_ENDPOINTS["diagnostics"].publisher(self)
        self._start_timer("diagnostics", 1.0, self._report)

    # --- lifecycle

    def configure(self, parameters: LightEstimatorParameters) -> None:
        """Load mesh and weights, create the publishers."""
        started = time.perf_counter()
        self._estimator = self._estimator_factory(parameters)
        for name in OUTPUTS:
            self._publishers_by_name[name] = LIGHT_ENDPOINTS[name].publisher(self)
        self._start_timer("diagnostics", parameters.diagnostics_period, self._report)
        seconds = time.perf_counter() - started
        self.get_logger().info(
            f"{parameters.kind} light on '{parameters.name}' from {parameters.mesh_path}, loaded in {seconds:.1f} s"
        )

    def activate(self) -> None:
        """Subscribe, and begin anew; the calibration is kept."""
        health = self._health
        self._health = LightHealth(
            camera_time=health.camera_time, camera_problem=health.camera_problem, active_since=time.monotonic()
        )
        self._pairing.clear()
        self._last_time = -math.inf
        callbacks: dict[str, Callable[..., None]] = {
            "camera_info": self._on_camera_info,
            "pose": self._on_pose,
            "image": self._on_image,
        }
        self._inputs = [LIGHT_ENDPOINTS[name].subscription(self, callbacks[name]) for name in INPUTS]
        self._start_timer("work", POLL_SECONDS, self._work)

    def deactivate(self) -> None:
        """Unsubscribe; everything stays loaded."""
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        self._stop_timer("work")
        self._pairing.clear()
        self._health.active_since = None

    def release(self) -> None:
        """Free estimator and publishers, forget the camera."""
        self._estimator = self._camera = self._camera_key = None
        self._health = LightHealth()
        for publisher in self._publishers_by_name.values():
            self.destroy_lifecycle_publisher(publisher)
        self._publishers_by_name = {}

    def note_failure(self, site: str, text: str) -> None:
        """Keep an error of a callback for /diagnostics; that of an image is in its answer."""
        if site not in ("image", "camera_info"):
            self._health.note_error(site, text, time.monotonic())

    # --- inputs

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._health.camera_problem = self.guarded("camera_info", self._take_camera_info, message)

    def _take_camera_info(self, message: CameraInfo) -> None:
        assert self.parameters is not None
        key = conversions.camera_key(message)
        if self._camera is None or key != self._camera_key:
            self._camera, self._camera_key = conversions.CameraModel(message, self.parameters.distortion), key
        self._health.camera_time = time.monotonic()

    def _on_pose(self, message: PoseWithCovarianceStamped, info: dict[str, Any]) -> None:
        stamp = conversions.seconds_from_stamp(message.header.stamp)
        if self._health.poses.receive(stamp, time.monotonic(), sequence_number(info)) is not Arrival.LATE:
            self._pairing.add_pose(stamp, message)
            self._work()

    def _on_image(self, message: Image, info: dict[str, Any]) -> None:
        stamp, now = conversions.seconds_from_stamp(message.header.stamp), time.monotonic()
        if self._health.images.receive(stamp or None, now, sequence_number(info)) is Arrival.LATE:
            self.log_throttled("warning", "images are left out: their stamps are not newer than the last one", "late")
            return
        self._pairing.add_image(stamp, message, now)
        self._work()

    # --- work

    def _work(self) -> None:
        """Answer the newest image that has its pose, or has waited for it in vain, no more often than `rate`."""
        parameters, now = self.parameters, time.monotonic()
        if parameters is None or self._estimator is None or now < self._last_time + 1.0 / parameters.rate:
            return
        pair = self._pairing.take(now, parameters.pose_tolerance, parameters.pose_timeout)
        if pair is None:
            return
        self._last_time = now
        header = self._header(pair)
        problem = self.guarded("image", self._estimate, pair, header)
        if problem:
            answer = refusal(header, parameters.name, parameters.kind, problem)
            self.guarded("light", self._answer, answer)
        self._health.node_times.append(time.monotonic() - now)

    def _header(self, pair: LightPair) -> Header:
        """That of the image; an image without a frame has that of camera_info, or else of its pose."""
        header = pair.image.header
        frames = (header.frame_id, self._camera and self._camera.frame_id, pair.pose and pair.pose.header.frame_id)
        return conversions.make_header(header.stamp, next((str(frame) for frame in frames if frame), ""))

    def _estimate(self, pair: LightPair, header: Header) -> None:
        """Convert, call, convert, publish; what is refused raises."""
        parameters, estimator = self.parameters, self._estimator
        assert parameters is not None and estimator is not None
        if self._camera is None:
            cause = self._health.camera_problem or f"waiting for {self._inputs[0].topic_name}"
            raise CameraError(f"no camera_info yet: {cause}")
        pose = self._pose_of(pair)
        image = shading_from_image(pair.image)
        view = self._view(image.shape[:2])
        solution = estimator.estimate(view.rectify_image(image), view.camera_matrix, pose)
        self._health.residual = float(solution.residual_norms[-1])
        self._health.solve_times.append(solution.solve_time)
        self._answer(light_estimate(solution, header, parameters.name))
        self.guarded("pictures", self._show, solution, header)

    def _pose_of(self, pair: LightPair) -> np.ndarray:
        parameters = self.parameters
        assert parameters is not None
        stamp = pair.image.header.stamp
        if not (stamp.sec or stamp.nanosec):
            raise PoseError("the image carries no stamp, so its pose cannot be told: set the driver's stamps.")
        if pair.pose is None:
            raise PoseError(
                f"no pose of the object on {self._inputs[1].topic_name}: it is not tracked, or its topic is another."
            )
        if abs(pair.gap) > parameters.pose_tolerance:
            when = "older" if pair.gap < 0 else "newer"
            raise PoseError(
                f"no pose of the object for this image: the nearest is {abs(pair.gap):.3f} s {when}, pose_tolerance is "
                f"{parameters.pose_tolerance:g} s. Is the object lost?"
            )
        frame, own = pair.pose.header.frame_id, pair.image.header.frame_id
        if frame and own and frame != own:
            raise PoseError(
                f"the pose is in the frame '{frame}', the image in '{own}': expected the same optical frame. Transform "
                "the pose first, or set the frame of the driver."
            )
        return conversions.matrix_from_pose(pair.pose.pose.pose, "pose")

    def _view(self, size: tuple[int, int]) -> conversions.CameraView:
        assert self._camera is not None
        try:
            return self._camera.view(size)
        except CameraError as cause:
            height, width = self._camera.size
            raise CameraError(
                f"the image is {size[1]}x{size[0]}, camera_info describes {width}x{height} pixels: expected that "
                "size, or the same image resized."
            ) from cause

    # --- outputs

    def _answer(self, message: LightEstimate) -> None:
        self._publishers_by_name["light"].publish(message)
        self._health.note_answer(message.status, message.reason, time.monotonic())

    def _show(self, solution: IlluminationSolution, header: Header) -> None:
        """Markers and the sphere, for those who listen."""
        parameters = self.parameters
        assert parameters is not None
        if self._publishers_by_name["markers"].get_subscription_count():
            lifetime = max(MARKER_SECONDS, 3.0 / parameters.rate)
            self._publishers_by_name["markers"].publish(light_markers(solution, header, parameters.name, lifetime))
        if self._publishers_by_name["chrome_sphere"].get_subscription_count():
            sphere = chrome_sphere(solution, parameters.sphere_size)
            self._publishers_by_name["chrome_sphere"].publish(conversions.image_from_array(sphere, header, "rgb8"))

    # --- timers and diagnostics

    def _start_timer(self, name: str, period: float, callback: Callable[[], None]) -> None:
        self._stop_timer(name)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
        self._timers_by_name[name] = self.create_timer(period, lambda: self.guarded(name, callback), clock=steady)

    def _stop_timer(self, name: str) -> None:
        timer = self._timers_by_name.pop(name, None)
        if timer is not None:
            self.destroy_timer(timer)

    def _report(self) -> None:
        health, parameters = self._health, self.parameters
        health.lifecycle, health.problem = self.lifecycle, self.problem
        topics = {name: self.resolve_topic_name(LIGHT_ENDPOINTS[name].topic) for name in ("image", "camera_info")}
        timeout = parameters.input_timeout if parameters is not None else 2.0
        name = parameters.name if parameters is not None else ""
        health.period = 1.0 / parameters.rate if parameters is not None else 0.0
        status = health.message(self.get_fully_qualified_name(), name, time.monotonic(), timeout, topics)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    return run_node(LightEstimatorNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
