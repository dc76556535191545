# SPDX-License-Identifier: Apache-2.0
"""``dfips replay object_pose``: the pose tracker on a bag, as fast as it goes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DfipsError

if TYPE_CHECKING:
    import numpy as np

    from ..bags.reader import Bag
    from .replay_object import Frame
    from .replay_tracker import PoseTopics

DESCRIPTION = """\
Track one or several objects through a recording: a rosbag2 file or folder in, another one out, without ROS.

Does what the node pose_tracker does with its default parameters, for every mask of IN. OUT gets, with the stamps of
IN: poses, one TrackedObject for each mask and object, TF, and overlay pictures. Two runs write the same messages; for
that the field solve_time is 0 (times are in the summary). Topics are found by type; where that is not enough, name
them. --objects takes several objects from a parameters file of the node; their masks are label images.
--view writes report.html (one file that opens offline) and a video.

Exit status 1 when the bag is damaged in the middle; what was read until then is written.

examples:
  dfips replay in.mcap out.mcap --mesh bracket.stl --scale 0.001
  dfips replay object_pose recording/ out.db3 --mesh mug.obj --mask-topic /segmentation/mask --label 3 --view out/view
  dfips replay object_pose in.mcap out.mcap --mesh mug.obj --camera camera.yaml --keep-input --json -
  dfips replay object_pose in.mcap out.mcap --objects pose_tracker.yaml
"""

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
LABEL_INFO = "vision_msgs/msg/LabelInfo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from .replay_run import add_arguments as add_common

    add_common(parser, "/pose_tracker")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--mesh", metavar="FILE",
                       help="the object (obj, stl, ply, dae, glb), metres: a path, file:// or package://")  # fmt: skip
    which.add_argument("--objects", type=Path, metavar="FILE",
                       help="several: a parameters file of the node, with objects and objects.<name>.*")  # fmt: skip
    parser.add_argument("--scale", type=float, default=1.0, help="factor to metres: 0.001 for millimetres (1)")
    parser.add_argument("--models-info", type=Path, metavar="FILE",
                        help="symmetries: a BOP models_info.json in the mesh's unit (found on the mesh)")  # fmt: skip
    parser.add_argument("--models-info-key", metavar="KEY", help="its entry (by the mesh's file name)")
    parser.add_argument("--name", help="of the object in messages and TF (the mesh file's name)")
    parser.add_argument("--mask-topic", metavar="TOPIC", help="masks (the only images with one integer channel)")
    parser.add_argument("--camera-info-topic", metavar="TOPIC", help="calibration (the only CameraInfo)")
    parser.add_argument("--image-topic", metavar="TOPIC", help="colour images for the overlay (the only ones)")
    parser.add_argument("--camera", type=Path, metavar="FILE", help="calibration file instead of camera_info")
    pixels = parser.add_mutually_exclusive_group()
    pixels.add_argument("--label", type=int, help="the masks are label images, the object has this value")
    pixels.add_argument("--class-name", metavar="NAME", help="likewise, with the value that LabelInfo gives this class")
    parser.add_argument("--label-info-topic", metavar="TOPIC", help="labels of classes (the only LabelInfo)")
    parser.add_argument("--distortion", default="rectify", choices=["rectify", "refuse", "ignore", "rectified"],
                        help="as the node's parameter (rectify)")  # fmt: skip
    parser.add_argument("--no-overlay", action="store_true", help="draw no overlays: faster, smaller")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights file (those that ship)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where the solver runs")
    parser.add_argument("--threads", type=int, default=2, help="processor threads of the solver (2, as the node)")


def run(options: argparse.Namespace) -> int:
    """Replay one bag."""
    import sys

    from ..bags.reader import Bag
    from .replay_objects import chosen_objects, make_objects
    from .replay_pose_report import make_report, offer, rows, summarise
    from .replay_run import check_arguments, conclude, pass_through
    from .replay_tracker import PoseReplay
    from .view_video import Stills, Video

    check_arguments(options)
    if not 1 <= options.threads <= 256:
        raise ConfigError(f"--threads {options.threads}: expected 1 to 256.")
    if options.view is not None and options.no_overlay:
        raise ConfigError("--view needs the overlays: leave --no-overlay out.")
    objects, config = chosen_objects(options)
    with Bag(options.bag) as bag:
        topics = choose_topics(bag, options, any(each.class_name for each in objects))
        camera, labels = first_camera(bag, topics, options), first_labels(bag, topics)
        print("Getting ready (the first time on a machine: compiling, up to a minute) ...", file=sys.stderr)
        tracked = make_objects(objects, config, options)
        video = Video(options.view / "overlay") if options.view is not None else None
        stills = Stills()

        def show(frames: Sequence[Frame], picture: np.ndarray) -> None:
            if video is not None:
                video.add(frames[0].time, picture)
                offer(stills, tracked, frames, picture)

        pipeline = PoseReplay(topics, options.namespace, tracked, options.distortion, camera, labels,
                              None if options.no_overlay else show)  # fmt: skip
        passage = pass_through(bag, pipeline, options)
        content = summarise(pipeline, topics, [each.mesh for each in objects])
        report = make_report(options, tracked, content, stills, None if video is None else video.close())
        return conclude(options, "object_pose", bag, passage, content, rows(content), report)


def choose_topics(bag: Bag, options: argparse.Namespace, classes: bool = False) -> PoseTopics:
    """The topics to read: those that were named, else those that are the only ones of their kind.

    Args:
        bag: to read.
        options: of the command.
        classes: labels of classes are needed.

    Raises:
        BagError: none or several; the message lists what the bag holds.
    """
    from ..bags.types import BagError
    from ..messages.image import LABEL_ENCODINGS
    from .replay_tracker import PoseTopics

    encodings = {}
    for topic in bag.topics:
        if topic.type == IMAGE:
            encodings[topic.name] = _encoding(bag, topic.name)
    masks = [name for name, encoding in encodings.items() if encoding in LABEL_ENCODINGS]
    if options.mask_topic is None and len(masks) != 1:
        what = f"no topic of type {IMAGE} holds masks ({', '.join(LABEL_ENCODINGS)})"
        if masks:
            what = f"several topics hold images that may be masks: {', '.join(masks)}"
        raise BagError(f"bag '{bag.path}': {what}. Choose one with --mask-topic. {bag.contents()}")
    mask = bag.choose(IMAGE, options.mask_topic or masks[0], "--mask-topic")
    bag.check_definition(mask)
    camera_info = None
    if options.camera is None:
        try:
            camera_info = bag.choose(CAMERA_INFO, options.camera_info_topic, "--camera-info-topic")
        except BagError as error:
            raise BagError(f"{error} Or give a calibration file: --camera FILE.") from error
        bag.check_definition(camera_info)
    elif options.camera_info_topic is not None:
        raise ConfigError("--camera and --camera-info-topic: expected one of them.")
    colour = [name for name, encoding in encodings.items() if encoding and name not in (*masks, mask.name)]
    image = _image_topic(bag, options.image_topic, colour)
    label_info = bag.choose(LABEL_INFO, options.label_info_topic, "--label-info-topic") if classes else None
    if label_info is not None:
        bag.check_definition(label_info)
    elif options.label_info_topic is not None:
        raise ConfigError("--label-info-topic: tells the labels of classes, but no object has a class_name.")
    return PoseTopics(
        mask.name, None if camera_info is None else camera_info.name, image,
        None if label_info is None else label_info.name,
    )  # fmt: skip


def _image_topic(bag: Bag, given: str | None, colour: list[str]) -> str | None:
    """The topic of the overlay's background; None where it is not clear which."""
    kinds = {topic.name: topic.type for topic in bag.topics}
    if given is not None:
        kind = COMPRESSED_IMAGE if kinds.get(given) == COMPRESSED_IMAGE else IMAGE
        return bag.choose(kind, given, "--image-topic").name
    if len(colour) == 1:
        return colour[0]
    compressed = [name for name, kind in kinds.items() if kind == COMPRESSED_IMAGE and "overlay" not in name]
    return compressed[0] if not colour and len(compressed) == 1 else None


def _encoding(bag: Bag, topic: str) -> str:
    """Encoding of a topic's first image that can be decoded; empty where there is none."""
    for raw in bag.messages([topic]):
        try:
            return str(bag.decode(raw).encoding)
        except DfipsError:
            continue
    return ""


def first_camera(bag: Bag, topics: PoseTopics, options: argparse.Namespace) -> Any:
    """The first usable calibration, which holds for masks that were recorded before it too.

    Raises:
        DfipsError: there is none; the message says why.
    """
    from ..bags.types import BagError, make, make_header
    from ..messages.camera import CameraModel
    from .files import read_camera

    if options.camera is not None:
        import numpy as np

        file = read_camera(options.camera)
        matrix = file.camera_matrix
        return make(
            CAMERA_INFO, header=make_header(0, "camera"), height=file.size[0], width=file.size[1],
            distortion_model=file.distortion_model, d=file.distortion, k=matrix.ravel(), r=np.eye(3).ravel(),
            p=np.hstack([matrix, np.zeros((3, 1))]).ravel(), binning_x=0, binning_y=0,
            roi=make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
        )  # fmt: skip
    assert topics.camera_info is not None
    problem = "there is no message"
    for raw in bag.messages([topics.camera_info]):
        try:
            message = bag.decode(raw)
            CameraModel(message, options.distortion)
            return message
        except DfipsError as error:
            problem = str(error)
    raise BagError(
        f"topic {topics.camera_info}: no usable calibration ({problem.rstrip('.')}). Give one in a file: --camera FILE."
    )


def first_labels(bag: Bag, topics: PoseTopics) -> Any:
    """The first LabelInfo, which holds for masks that were recorded before it too; None where none is needed.

    Raises:
        BagError: it is needed, and there is none that can be used.
    """
    from ..bags.types import BagError
    from ..messages.labels import LabelTable

    if topics.label_info is None:
        return None
    problem = "there is no message"
    for raw in bag.messages([topics.label_info]):
        try:
            message = bag.decode(raw)
            LabelTable().take(message)
            return message
        except DfipsError as error:
            problem = str(error)
    raise BagError(
        f"topic {topics.label_info}: no usable labels ({problem.rstrip('.')}). Give the object's own: --label, or "
        "label_value."
    )
