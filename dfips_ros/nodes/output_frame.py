# SPDX-License-Identifier: Apache-2.0
"""Another frame for the outputs, through tf2_ros where it is installed."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from ..errors import MissingDependencyError, PoseError
from ..geometry import make_pose, matrix_from_quaternion_xyzw

WAIT_SECONDS = 0.05  # for a transform that comes a little later than the mask


class OutputFrame:
    """Transforms between the camera's frame and others. It listens to /tf in a node and a thread of its own.

    Args:
        node: gives name and context.
        frame: of the outputs.

    Raises:
        MissingDependencyError: tf2_ros is not installed; the message says what to do.
    """

    def __init__(self, node: Node, frame: str) -> None:
        try:
            self._tf2: Any = importlib.import_module("tf2_ros")
        except ImportError as cause:
            raise MissingDependencyError(
                f"output_frame='{frame}' needs the package tf2_ros, which cannot be imported. Install it "
                "(apt-get install ros-jazzy-tf2-ros-py), or leave output_frame empty."
            ) from cause
        self.frame = frame
        name = f"{node.get_name()}_tf"
        self._node = rclpy.create_node(
            name,
            namespace=node.get_namespace(),
            context=node.context,
            cli_args=["--ros-args", "-r", f"__node:={name}"],  # wins where the process renames its node
            start_parameter_services=False,
        )
        self._buffer = self._tf2.Buffer()
        self._listener = self._tf2.TransformListener(self._buffer, self._node, spin_thread=True)

    def close(self) -> None:
        """Stop to listen."""
        executor = getattr(self._listener, "executor", None)
        if executor is not None:
            executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()

    def T_output_camera(self, header: Header) -> np.ndarray:
        """The camera in the output frame at the mask's stamp. -> (4, 4)

        Raises:
            PoseError: tf2 does not know it.
        """
        return self.lookup(self.frame, header.frame_id, header.stamp)

    def lookup(self, target: str, source: str, stamp: Any) -> np.ndarray:
        """T_target_source (4, 4) at a time; a stamp of zero stands for the newest.

        Raises:
            PoseError: tf2 does not know it.
        """
        try:
            found = self._buffer.lookup_transform(
                target, source, Time.from_msg(stamp), timeout=Duration(seconds=WAIT_SECONDS)
            )
        except Exception as cause:  # tf2's own kinds, which have no common base in all its versions
            raise PoseError(f"no transform from '{source}' to '{target}': {cause}") from cause
        shift, turn = found.transform.translation, found.transform.rotation
        rotation = matrix_from_quaternion_xyzw(np.array([turn.x, turn.y, turn.z, turn.w]))
        return make_pose(rotation, np.array([shift.x, shift.y, shift.z]))
