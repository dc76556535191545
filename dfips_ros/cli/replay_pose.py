# SPDX-License-Identifier: Apache-2.0
"""``dfips replay object_pose``: the pose tracker on a bag, as fast as it goes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DfipsError

if TYPE_CHECKING:
    import numpy as np

    from ..bags.reader import Bag
    from ..tasks.object_pose import ObjectPoseEstimator
    from .replay_tracker import Frame, PoseReplay, PoseTopics
    from .view_report import Report
    from .view_video import Stills

DESCRIPTION = """\
Track an object through a recording: a rosbag2 file or folder in, another one out, without ROS.

Does what the node pose_tracker does with its default parameters, for every mask of IN. OUT gets, with the stamps of
IN: poses, one TrackedObject for each mask, TF, and overlay pictures. Two runs write the same messages; for that the
field solve_time is 0 (times are in the summary). Topics are found by type; where that is not enough, name them.
--view writes report.html (one file that opens offline) and a video.

Exit status 1 when the bag is damaged in the middle; what was read until then is written.

examples:
  dfips replay in.mcap out.mcap --mesh bracket.stl --scale 0.001
  dfips replay object_pose recording/ out.db3 --mesh mug.obj --mask-topic /segmentation/mask --label 3 --view out/view
  dfips replay object_pose in.mcap out.mcap --mesh mug.obj --camera camera.yaml --keep-input --json -
"""

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
KINDS = {"TRACKING": "good", "INITIALISING": "poor", "LOST": "bad"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from .replay_run import add_arguments as add_common

    add_common(parser, "/pose_tracker")
    parser.add_argument("--mesh", type=Path, required=True, help="the object (obj, stl, ply, dae, glb), in metres")
    parser.add_argument("--scale", type=float, default=1.0, help="factor to metres: 0.001 for millimetres (1)")
    parser.add_argument("--models-info", type=Path, metavar="FILE",
                        help="symmetries: a BOP models_info.json in the mesh's unit (found on the mesh)")  # fmt: skip
    parser.add_argument("--models-info-key", metavar="KEY", help="its entry (by the mesh's file name)")
    parser.add_argument("--name", help="of the object in messages and TF (the mesh file's name)")
    parser.add_argument("--mask-topic", metavar="TOPIC", help="masks (the only images with one integer channel)")
    parser.add_argument("--camera-info-topic", metavar="TOPIC", help="calibration (the only CameraInfo)")
    parser.add_argument("--image-topic", metavar="TOPIC", help="colour images for the overlay (the only ones)")
    parser.add_argument("--camera", type=Path, metavar="FILE", help="calibration file instead of camera_info")
    parser.add_argument("--label", type=int, help="the masks are label images, the object has this value")
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
    from .replay_run import check_arguments, conclude, pass_through
    from .replay_tracker import PoseReplay, PoseSettings
    from .view_video import Stills, Video

    check_arguments(options)
    if not 1 <= options.threads <= 256:
        raise ConfigError(f"--threads {options.threads}: expected 1 to 256.")
    if options.name is not None and (not options.name or options.name.startswith("/")):
        raise ConfigError(f"--name {options.name!r}: expected a name that does not begin with '/', as a frame of tf2.")
    if options.view is not None and options.no_overlay:
        raise ConfigError("--view needs the overlays: leave --no-overlay out.")
    if options.models_info_key and options.models_info is None:
        raise ConfigError("--models-info-key belongs to --models-info FILE, which has the entry. Give both.")
    with Bag(options.bag) as bag:
        topics = choose_topics(bag, options)
        camera = first_camera(bag, topics, options)
        print("Getting ready (the first time on a machine: compiling, up to a minute) ...", file=sys.stderr)
        estimator, tracker = make_tracker(options)
        settings = PoseSettings(
            options.name or options.mesh.stem, "binary" if options.label is None else "label",
            1 if options.label is None else options.label, options.distortion,
        )  # fmt: skip
        video = Video(options.view / "overlay") if options.view is not None else None
        stills = Stills()

        def show(frame: Frame, picture: np.ndarray) -> None:
            if video is not None:
                video.add(frame.time, picture)
                _offer(stills, frame, picture, pipeline.frames[0].time)

        pipeline = PoseReplay(topics, options.namespace, settings, estimator, tracker, camera,
                              None if options.no_overlay else show)  # fmt: skip
        passage = pass_through(bag, pipeline, options)
        content = summarise(pipeline, topics, options)
        report = make_report(options, pipeline, content, stills, None if video is None else video.close())
        return conclude(options, "object_pose", bag, passage, content, rows(content), report)


def choose_topics(bag: Bag, options: argparse.Namespace) -> PoseTopics:
    """The topics to read: those that were named, else those that are the only ones of their kind.

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
    return PoseTopics(mask.name, None if camera_info is None else camera_info.name, image)


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


def make_tracker(options: argparse.Namespace) -> tuple[ObjectPoseEstimator, Any]:
    """Estimator and tracker as the node makes them with its default parameters."""
    import numba
    import torch

    from ..tasks.object_pose import ObjectPoseEstimator, PoseTracker, TrackerConfig, tracking_estimator_config
    from ..tasks.object_pose.models_info import load_symmetries

    torch.set_num_threads(options.threads)
    numba.set_num_threads(min(options.threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    symmetries = None
    if options.models_info is not None:
        symmetries = load_symmetries(options.models_info, options.mesh, options.models_info_key or "", options.scale)
    config = TrackerConfig()
    estimator = ObjectPoseEstimator.from_mesh(
        str(options.mesh), options.scale, options.device, str(options.weights) if options.weights else None,
        tracking_estimator_config(config), symmetries,
    )  # fmt: skip
    estimator.warm_up()
    return estimator, PoseTracker(estimator, config)


def _offer(stills: Stills, frame: Frame, picture: np.ndarray, begin: int) -> None:
    """Keep a frame that is among the worst: not tracked, or with a low IoU."""
    tracked = frame.T_camera_object is not None
    about = f"IoU {frame.iou:.3f}" if tracked else frame.reason
    caption = f"{1e-9 * (frame.time - begin):.2f} s: {frame.state}, {about}"
    stills.add(frame.time, 1.0 - frame.iou if tracked else 2.0, caption, picture)


def summarise(pipeline: PoseReplay, topics: PoseTopics, options: argparse.Namespace) -> dict:
    """The figures, ready for JSON; a figure that does not exist is None."""
    from .demo_report import statistics
    from .replay_run import Reasons

    frames = pipeline.frames
    states = [frame.state for frame in frames]
    changes = list(zip(states, states[1:], strict=False))
    tracked = [frame for frame in frames if frame.T_camera_object is not None]
    found_before = [("LOST", "TRACKING") == change for change in changes]
    return {
        "mesh": str(options.mesh),
        "topics": {"mask": topics.mask, "camera_info": topics.camera_info, "image": topics.image},
        "frames": len(frames),
        "tracked": len(tracked),
        "lost": sum(a == "TRACKING" and b == "LOST" for a, b in changes),
        "recovered": sum(found_before),
        "first_pose_frame": next((k for k, frame in enumerate(frames) if frame.T_camera_object is not None), None),
        "state_at_end": states[-1] if states else None,
        "iou": statistics([frame.iou for frame in tracked], (50, 5)),
        "solve_ms": statistics([frame.solve_ms for frame in tracked], (50, 99)),
        "unusable_masks": Reasons(frame.reason for frame in frames if frame.unusable).counts(),
        "late_masks": pipeline.late,
        "missing_masks": pipeline.missing,
    }


def rows(content: dict) -> list[str]:
    """The figures in words, one line each."""
    return [f"{label}: {value}" for label, value in facts(content)]


def facts(content: dict) -> list[tuple[str, str]]:
    """Label and value of each figure."""
    from .replay_run import pair

    share = content["tracked"] / content["frames"] if content["frames"] else 0.0
    found = [
        ("masks", f"{content['frames']} from {content['topics']['mask']}"),
        ("tracked", f"{content['tracked']} ({share:.1%}), at the end {content['state_at_end'] or 'no state'}"),
        ("lost / recovered", f"{content['lost']} / {content['recovered']}"),
        ("silhouette IoU median / p5", pair(content["iou"], ("median", "p5"), ".3f")),
        ("solve time median / p99", f"{pair(content['solve_ms'], ('median', 'p99'), '.1f')} ms"),
    ]
    found += [(f"unusable masks ({count})", reason) for reason, count in content["unusable_masks"].items()]
    if content["late_masks"]:
        found.append(("left out", f"{content['late_masks']} masks whose stamp is not newer than the one before"))
    if content["missing_masks"]:
        found.append(("missing in the bag", f"about {content['missing_masks']} masks, by the gaps between stamps"))
    return found


def make_report(
    options: argparse.Namespace, pipeline: PoseReplay, content: dict, stills: Stills, video: Path | None
) -> Report:
    """What ``--view`` shows."""
    import numpy as np

    from .view_plots import Plot
    from .view_report import Report

    frames = pipeline.frames
    first = frames[0].time if frames else 0
    time = np.array([1e-9 * (frame.time - first) for frame in frames])
    poses = [frame.T_camera_object for frame in frames]
    has = np.array([pose is not None for pose in poses], dtype=bool)
    nan = float("nan")
    position = np.array([np.full(3, nan) if pose is None else pose[:3, 3] for pose in poses]).reshape(-1, 3)
    turns = np.degrees(rotation_vectors(poses))
    before = np.array([frame.residual_norms[0] if frame.residual_norms else nan for frame in frames])
    after = np.array([frame.residual_norms[-1] if frame.residual_norms else nan for frame in frames])
    iou = np.where(has, [frame.iou for frame in frames], nan)
    plots = (
        Plot("Silhouette IoU", (("IoU", iou),), high=1.0),
        Plot("Residual norm, 1 - IoU at the resolution of the stages",
             (("before the first stage", before), ("after the last", after)), low=0.0),
        Plot("Position in the camera's frame [m]",
             tuple((axis, position[:, k]) for k, axis in enumerate("xyz"))),
        Plot("Rotation since the first pose [deg]", tuple((axis, turns[:, k]) for k, axis in enumerate("xyz")),
             note="Rotation vector in the camera's frame: its length is the angle."),
        Plot("Solve time [ms]", (("solve time", np.array([frame.solve_ms for frame in frames])),), low=0.0),
    )  # fmt: skip
    return Report(
        title=f"Pose of {options.name or options.mesh.stem}",
        subtitle=f"{options.bag}, replayed into {options.out}",
        facts=facts(content), time=time, states=[frame.state for frame in frames], kinds=KINDS, plots=plots,
        stills=stills.worst(), video=video,
    )  # fmt: skip


def rotation_vectors(poses: list[np.ndarray | None]) -> np.ndarray:
    """Rotations since the first pose as vectors (N, 3) [rad] in the camera's frame, without jumps by whole turns."""
    import cv2
    import numpy as np

    found = np.full((len(poses), 3), np.nan)
    first: np.ndarray | None = None
    last = np.zeros(3)
    for row, pose in zip(found, poses, strict=True):
        if pose is None:
            continue
        first = pose[:3, :3] if first is None else first
        vector = cv2.Rodrigues(pose[:3, :3] @ first.T)[0].ravel()
        angle = float(np.linalg.norm(vector))
        if angle > 1e-6:
            turns = [vector * (1.0 + 2.0 * np.pi * k / angle) for k in (-2, -1, 0, 1, 2)]
            vector = min(turns, key=lambda turn: float(np.linalg.norm(turn - last)))
        row[:] = last = vector
    return found
