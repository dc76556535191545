# SPDX-License-Identifier: Apache-2.0
"""A camera for the demo: plays a recording of masks and colour images onto ROS 2 topics at camera rate.

    python -m dfips_ros.nodes.demo_camera RECORDING.npz

Topics (best effort, as cameras publish): ``/demo/mask`` (mono8), ``/demo/image`` (rgb8), ``/demo/camera_info``.
It waits until somebody listens before the first frame. Each event goes to stdout as one JSON object per line; the
truth is not part of a recording, so it cannot reach a topic.
"""

from __future__ import annotations

import argparse
import array
import json
import sys
import time

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from ..errors import DfipsError
from ..tasks.object_pose.recording import Recording, load_recording
from .stop_signals import RosUntilSignal

FRAME_ID = "demo_camera_optical_frame"
QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
SETTLE_SECONDS = 0.3
NOBODY_LISTENS = 3


def report(event: str, **facts: object) -> None:
    """Write one event as a line of JSON."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def camera_info(recording: Recording, header: Header) -> CameraInfo:
    """Calibration of a recording: a pinhole camera without distortion."""
    k = recording.camera_matrix
    message = CameraInfo(header=header, height=recording.size[0], width=recording.size[1])
    message.distortion_model = "plumb_bob"
    message.d = [0.0] * 5
    message.k = k.ravel().tolist()
    message.r = np.eye(3).ravel().tolist()
    message.p = np.hstack([k, np.zeros((3, 1))]).ravel().tolist()
    return message


def image_message(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """(H, W) or (H, W, 3) uint8 as an image message."""
    message = Image(header=header, height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    message.step = pixels.shape[1] * (pixels.shape[2] if pixels.ndim == 3 else 1)
    message.data = array.array("B", np.ascontiguousarray(pixels).tobytes())
    return message


class DemoCamera(Node):
    """Publishes the frames of a recording.

    Args:
        recording: what is shown.
        info_listeners: how many subscriptions of camera_info there must be before it starts.
    """

    def __init__(self, recording: Recording, info_listeners: int) -> None:
        super().__init__("demo_camera")
        self._recording = recording
        self._info_listeners = info_listeners
        self._mask = self.create_publisher(Image, "/demo/mask", QOS)
        overrides = QoSOverridingOptions.with_default_policies()  # a large image gets lost where it is not sent again
        self._image = self.create_publisher(Image, "/demo/image", QOS, qos_overriding_options=overrides)
        self._info = self.create_publisher(CameraInfo, "/demo/camera_info", QOS)

    def wait_for_listeners(self, timeout: float) -> bool:
        """Spin until somebody listens to masks and to camera_info. False: nobody came within ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            enough = self._info.get_subscription_count() >= self._info_listeners
            if enough and self._mask.get_subscription_count() >= 1:
                rclpy.spin_once(self, timeout_sec=SETTLE_SECONDS)
                time.sleep(SETTLE_SECONDS)
                return True
            rclpy.spin_once(self, timeout_sec=0.05)
        return False

    def play(self) -> None:
        """Publish every frame at its time; frames that could not be published in time are published late."""
        recording = self._recording
        start = time.monotonic() + 0.1
        for index in range(len(recording)):
            header = Header(frame_id=FRAME_ID)
            mask = image_message(recording.mask(index), "mono8", header)
            image = image_message(recording.image(index), "rgb8", header)
            info = camera_info(recording, header)
            deadline = start + index / recording.rate
            time.sleep(max(deadline - time.monotonic(), 0.0))
            now = time.time_ns()
            for message in (info, mask, image):
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 1_000_000_000)
            self._info.publish(info)
            self._mask.publish(mask)
            report("frame", index=index, stamp_ns=now, late_ms=max(time.monotonic() - deadline, 0.0) * 1e3)
            self._image.publish(image)


def main(arguments: list[str] | None = None) -> int:
    """Play a recording once; exit status 3 when nobody listens."""
    parser = argparse.ArgumentParser(prog="demo_camera", description=__doc__.splitlines()[0])
    parser.add_argument("recording", help="file written by `dfips demo`")
    parser.add_argument("--info-listeners", type=int, default=1, help="listeners of camera_info to wait for (1)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for them (60)")
    given = sys.argv if arguments is None else ["demo_camera", *arguments]
    options = parser.parse_args(remove_ros_args(given)[1:])
    try:
        recording = load_recording(options.recording)
    except DfipsError as error:
        print(error, file=sys.stderr)
        return 2
    with RosUntilSignal(given):
        camera = DemoCamera(recording, options.info_listeners)
        status = 0
        try:
            report("ready", frames=len(recording), rate=recording.rate)
            if camera.wait_for_listeners(options.timeout):
                report("started", time_ns=time.time_ns())
                camera.play()
                report("finished", frames=len(recording))
            else:
                print(
                    f"Nobody listened to /demo/mask and /demo/camera_info for {options.timeout:g} s.",
                    file=sys.stderr,
                )
                status = NOBODY_LISTENS
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        finally:
            camera.destroy_node()
            rclpy.try_shutdown()
    return status


if __name__ == "__main__":
    sys.exit(main())
