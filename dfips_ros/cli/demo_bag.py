# SPDX-License-Identifier: Apache-2.0
"""``dfips demo bag``: what the demo's camera shows, as a rosbag2 recording."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from .demo_parts import DemoPart

DESCRIPTION = """\
Write what the camera of `dfips demo` shows as a bag, to try `dfips replay`.

Topics: /camera/mask (mono8), /camera/image/compressed (jpeg), /camera/camera_info, and the true pose of the object in
the camera's optical frame on /camera/ground_truth.

examples:
  dfips demo bag drill.mcap
  dfips demo bag box.db3 --part gelatin_box --seconds 3
  dfips demo bag bracket.mcap --mesh bracket.stl --scale 0.001
"""

FRAME = "camera_optical_frame"
START = 1_700_000_000 * 10**9  # ns: a fixed time, so that two runs write the same


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("out", type=Path, metavar="OUT", help="bag to write: NAME.mcap, NAME.db3, or NAME for a folder")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--part", metavar="PART", help="foam_brick, gelatin_box or drill (drill)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length (10)")
    parser.add_argument("--mesh", type=Path, help="your own mesh instead of the drill")
    parser.add_argument("--scale", type=float, default=1.0, help="factor from the mesh's unit to metres (1)")
    parser.add_argument("--seed", type=int, default=0, help="of the generated part (0)")
    parser.add_argument("--json", metavar="FILE", help="write what was written as JSON; - for stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress bars; none are drawn into files and pipes")


def run(options: argparse.Namespace) -> int:
    """Write the bag."""
    from ..bags.types import require_rosbags
    from ..bags.writer import check_out
    from .demo_parts import GENERATED, generated_part, part_names, real_part
    from .files import write_json

    name = options.part or GENERATED
    if name not in part_names():
        raise ConfigError(f"--part {name}: expected one of {', '.join(part_names())}.")
    if options.mesh is not None and name != GENERATED:
        raise ConfigError(f"--mesh goes with the part {GENERATED}, not with --part {name}, whose frames are real.")
    if not 0.2 <= options.seconds <= 3600.0:
        raise ConfigError(f"--seconds {options.seconds:g}: expected 0.2 to 3600.")
    require_rosbags()
    check_out(options.out, options.force)
    if name == GENERATED:
        part = generated_part(options.seconds, options.seed, options.mesh, options.scale, not options.quiet)
    else:
        part = real_part(name, options.seconds)
    write_part(part, options.out, options.force)
    scale = f" --scale {part.mesh_scale:g}" if part.mesh_scale != 1.0 else ""
    follow = f"dfips replay {options.out} tracked.mcap --mesh {part.mesh_path}{scale}"
    if options.json:
        write_json(options.json, {"command": "dfips demo bag", "out": str(options.out), "part": part.name,
                                  "frames": len(part.recording), "mesh": str(part.mesh_path),
                                  "scale": part.mesh_scale, "next": follow})  # fmt: skip
    if options.json != "-":
        print(f"Written: {options.out}, {len(part.recording)} frames of {part.title}. Now:\n  {follow} --view out/view")
    return 0


def write_part(part: DemoPart, out: Path, force: bool) -> None:
    """Write a part of the demo as a bag.

    Raises:
        BagError: it cannot be written there.
    """
    import cv2
    import numpy as np

    from ..bags.types import make, make_header, pose_message
    from ..bags.writer import BagWriter
    from ..messages.image import image_fields

    recording = part.recording
    height, width = recording.size
    matrix = recording.camera_matrix
    with BagWriter(out, force) as writer:
        for index in range(len(recording)):
            time = START + round(index * 1e9 / recording.rate)
            header = make_header(time, FRAME)
            info = make(
                "sensor_msgs/msg/CameraInfo", header=header, height=height, width=width, distortion_model="plumb_bob",
                d=np.zeros(5), k=matrix.ravel(), r=np.eye(3).ravel(), p=np.hstack([matrix, np.zeros((3, 1))]).ravel(),
                binning_x=0, binning_y=0,
                roi=make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0,
                         do_rectify=False),
            )  # fmt: skip
            writer.write("/camera/camera_info", info, time)
            _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(recording.image(index), cv2.COLOR_RGB2BGR))
            image = make("sensor_msgs/msg/CompressedImage", header=header, format="rgb8; jpeg compressed bgr8",
                         data=jpeg.ravel())  # fmt: skip
            writer.write("/camera/image/compressed", image, time)
            mask = make("sensor_msgs/msg/Image", header=header, **image_fields(recording.mask(index)))
            writer.write("/camera/mask", mask, time)
            pose = pose_message(part.truth[index])
            truth = make("geometry_msgs/msg/PoseStamped", header=header, pose=pose)
            writer.write("/camera/ground_truth", truth, time)
