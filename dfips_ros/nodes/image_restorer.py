# SPDX-License-Identifier: Apache-2.0
"""The node ``image_restorer``: JPEG images in, images without the artefacts of compression out.

The solver is the plain class :class:`dfips_ros.tasks.deblocking.JpegRestorer`. docs/ros_api.md lists every topic and
parameter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage

from ..errors import EncodingError
from ..processes.jpeg import encode, standard_table
from ..tasks.deblocking import JpegRestorer
from .conversions import seconds_from_stamp
from .image_conversions import image_from_array
from .managed_node import ManagedNode, run_node
from .mask_stream import Arrival, sequence_number
from .restorer_endpoints import RESTORER_ENDPOINTS
from .restorer_health import RestorerHealth
from .restorer_parameters import ImageRestorerParameters

RestorerFactory = Callable[[ImageRestorerParameters], JpegRestorer]


def make_restorer(parameters: ImageRestorerParameters) -> JpegRestorer:
    """The restorer that the parameters ask for."""
    return JpegRestorer(
        parameters.weights_path, parameters.device, parameters.consistency, max_pixels=parameters.max_pixels
    )


class ImageRestorerNode(ManagedNode[ImageRestorerParameters]):
    """Lifecycle node: loads the weights on configure, subscribes on activate, frees on cleanup.

    Args:
        restorer_factory: makes the restorer from the parameters.
        parameter_overrides: initial parameters, for tests and composition.
        context: rclpy context; None: the default one.
    """

    def __init__(
        self,
        restorer_factory: RestorerFactory = make_restorer,
        parameter_overrides: list[Parameter] | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__("image_restorer", ImageRestorerParameters, parameter_overrides, context)
        self._restorer_factory = restorer_factory
        self._restorer: JpegRestorer | None = None
        self._health = RestorerHealth()
        self._publisher: Any = None
        self._input: Any = None
        self._timer: Any = None
        self._diagnostics = RESTORER_ENDPOINTS["diagnostics"].publisher(self)
        self._start_timer(1.0)

    # --- lifecycle

    def configure(self, parameters: ImageRestorerParameters) -> None:
        """Load the weights, run the solver once, create the publisher."""
        started = time.perf_counter()
        restorer = self._restorer_factory(parameters)
        grey = restorer.restore(encode(standard_table(50).reshape(8, 8).astype("uint8"), standard_table(50)))
        self._restorer, self._health.device = restorer, str(restorer.device)
        self._publisher = RESTORER_ENDPOINTS["restored"].publisher(self)
        self._start_timer(parameters.diagnostics_period)
        seconds = time.perf_counter() - started
        self.get_logger().info(f"ready on {restorer.device} after {seconds:.1f} s, tried on {grey.shape[0]} rows")

    def activate(self) -> None:
        """Subscribe."""
        self._health = RestorerHealth(device=self._health.device, active_since=time.monotonic())
        self._input = RESTORER_ENDPOINTS["compressed"].subscription(self, self._on_image)

    def deactivate(self) -> None:
        """Unsubscribe; the solver stays loaded."""
        if self._input is not None:
            self.destroy_subscription(self._input)
            self._input = None
        self._health.active_since = None

    def release(self) -> None:
        """Free solver and publisher."""
        self._restorer = None
        self._health = RestorerHealth()
        if self._publisher is not None:
            self.destroy_lifecycle_publisher(self._publisher)
            self._publisher = None

    def note_failure(self, site: str, text: str) -> None:
        """Count an image that was refused, or another error, for /diagnostics."""
        self._health.note_error(site, text, time.monotonic())

    # --- images

    def _on_image(self, message: CompressedImage, info: dict[str, Any]) -> None:
        sequence = sequence_number(info)
        stamp = seconds_from_stamp(message.header.stamp) or None
        if self._health.stream.receive(stamp, time.monotonic(), sequence) is Arrival.LATE:
            self.log_throttled("warning", "images are left out: their stamps are not newer than the last one", "late")
            return
        self.guarded("image", self._restore, message)

    def _restore(self, message: CompressedImage) -> None:
        """Convert, call, convert, publish; what is refused raises."""
        assert self._restorer is not None
        started = time.perf_counter()
        kind = message.format.lower()
        if kind and "jpeg" not in kind and "jpg" not in kind:
            raise EncodingError(
                f"format '{message.format}': expected jpeg. Set the compressed image transport's format to jpeg."
            )
        found = self._restorer.solve(bytes(message.data))
        encoding = "mono8" if found.image.ndim == 2 else "rgb8"
        self._publisher.publish(image_from_array(found.image, message.header, encoding))
        health = self._health
        health.restored += 1
        health.residual, health.agreement = found.residual_norms[-1], found.agreement
        health.solve_times.append(found.seconds)
        health.node_times.append(time.perf_counter() - started)

    # --- diagnostics

    def _start_timer(self, period: float) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
        self._timer = self.create_timer(period, lambda: self.guarded("diagnostics", self._report), clock=steady)

    def _report(self) -> None:
        self._health.lifecycle, self._health.problem = self.lifecycle, self.problem
        message = DiagnosticArray(status=[self._health.message(self.get_fully_qualified_name(), time.monotonic())])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM."""
    return run_node(ImageRestorerNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
