# SPDX-License-Identifier: Apache-2.0
"""An object and a camera without hardware: the masks of an object that moves slowly before the arm.

    ros2 run dfips_ros demo_scene --mesh drill.obj --at "0.5 0 0.3" --camera-xyz "1.1 0 0.9" \
        --camera-rotation "-2.356 0 1.5708"

Publishes ``mask``, ``image`` and ``camera_info`` (640x480). The object stays upright, within a few centimetres of
``--at``.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time

import numpy as np
import rclpy
import torch
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from ..errors import DfipsError
from ..geometry import invert_pose, make_pose
from ..processes.mesh import Mesh, load_mesh
from ..processes.silhouette import RasterRenderer
from .conversions import image_from_array
from .demo_camera import FRAME_ID, QOS
from .grasp_parameters import read_pose
from .stop_signals import RosUntilSignal

RATE = 15.0
SIZE = (480, 640)
FOCAL = 600.0
CAMERA_MATRIX = np.array([[FOCAL, 0.0, 319.5], [0.0, FOCAL, 239.5], [0.0, 0.0, 1.0]])
REACH = np.array([0.04, 0.06, 0.02])  # metres, how far the object goes to each side
TURN = 0.3  # radians, about the vertical
SLOW = 2.0 * np.pi * np.array([0.05, 0.037, 0.029, 0.023])  # rad/s of x, y, z and the turn


class DemoScene(Node):
    """Publishes what the camera sees.

    Args:
        mesh: of the object.
        place: (3,) where it is, on average, in the base frame.
        T_base_camera: (4, 4).
    """

    def __init__(self, mesh: Mesh, place: np.ndarray, T_base_camera: np.ndarray) -> None:
        super().__init__("demo_scene")
        self._renderer = RasterRenderer(mesh)
        self._camera = torch.from_numpy(CAMERA_MATRIX.astype(np.float32))
        self._place = place
        self._T_camera_base = invert_pose(T_base_camera)
        self._mask = self.create_publisher(Image, "mask", QOS)
        self._image = self.create_publisher(Image, "image", QOS)
        self._info = self.create_publisher(CameraInfo, "camera_info", QOS)
        self._started = time.monotonic()
        self.create_timer(1.0 / RATE, self._publish)

    def pose(self, seconds: float) -> np.ndarray:
        """T_base_object (4, 4) at a time since the start."""
        x, y, z, turn = np.sin(SLOW * seconds)
        return make_pose(Rotation.from_euler("z", TURN * turn).as_matrix(), self._place + REACH * (x, y, z))

    def _publish(self) -> None:
        stamp = self.get_clock().now().to_msg()
        pose = self._T_camera_base @ self.pose(time.monotonic() - self._started)
        depth = self._renderer.render(torch.from_numpy(pose[None].astype(np.float32)), self._camera, SIZE)[0].numpy()
        header = Header(stamp=stamp, frame_id=FRAME_ID)
        info = CameraInfo(header=header, height=SIZE[0], width=SIZE[1], distortion_model="plumb_bob", d=[0.0] * 5)
        info.k = CAMERA_MATRIX.ravel().tolist()
        info.p = np.hstack([CAMERA_MATRIX, np.zeros((3, 1))]).ravel().tolist()
        near, far = 0.9 * depth[depth > 0].min(initial=np.inf), 1.1 * depth.max()
        grey = np.where(depth > 0, 255.0 * (far - depth) / max(far - near, 1e-6), 60.0).clip(0, 255).astype(np.uint8)
        self._info.publish(info)
        self._mask.publish(image_from_array(depth > 0, header))
        self._image.publish(image_from_array(grey, header))


def main(arguments: list[str] | None = None) -> int:
    """Show the object until interrupted."""
    parser = argparse.ArgumentParser(prog="demo_scene", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mesh", required=True, help="mesh file of the object")
    parser.add_argument("--scale", type=float, default=1.0, help="factor from its unit to metres (1)")
    parser.add_argument("--at", required=True, metavar="'X Y Z'", help="where it is in the base frame [m]")
    parser.add_argument("--camera-xyz", required=True, metavar="'X Y Z'", help="as grasp_target's camera_xyz")
    parser.add_argument("--camera-rotation", required=True, metavar="'R P Y'", help="as grasp_target's")
    given = sys.argv if arguments is None else ["demo_scene", *arguments]
    options = parser.parse_args(remove_ros_args(given)[1:])
    try:
        mesh = load_mesh(options.mesh.removeprefix("file://"), options.scale)
        camera = read_pose("camera", options.camera_xyz, options.camera_rotation)
        place = read_pose("at", options.at, "0 0 0")[:3, 3]
    except DfipsError as error:
        print(f"demo_scene: {error}", file=sys.stderr)
        return 2
    try:
        with RosUntilSignal(given):
            scene = DemoScene(mesh, place, camera)
            with contextlib.suppress(ExternalShutdownException):
                rclpy.spin(scene)
        scene.destroy_node()
    except KeyboardInterrupt:  # a second one
        pass
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
