# SPDX-License-Identifier: Apache-2.0
"""Summary and report of ``dfips replay object_pose``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from .demo_report import statistics
from .replay_object import Frame, ReplayedObject
from .replay_run import Reasons, pair
from .replay_tracker import PoseReplay, PoseTopics
from .view_plots import Plot
from .view_report import Report
from .view_video import Stills

KINDS = {"TRACKING": "good", "INITIALISING": "poor", "LOST": "bad"}


def offer(stills: Stills, objects: Sequence[ReplayedObject], frames: Sequence[Frame], picture: np.ndarray) -> None:
    """Keep a mask that is among the worst: not tracked, or with a low IoU."""
    badness = [2.0 if frame.T_camera_object is None else 1.0 - frame.iou for frame in frames]
    worst = int(np.argmax(badness))
    frame, begin = frames[worst], objects[0].frames[0].time
    about = frame.reason if frame.T_camera_object is None else f"IoU {frame.iou:.3f}"
    who = f"{objects[worst].name} " if len(objects) > 1 else ""
    stills.add(frame.time, badness[worst], f"{1e-9 * (frame.time - begin):.2f} s: {who}{frame.state}, {about}", picture)


def summarise(pipeline: PoseReplay, topics: PoseTopics, meshes: Sequence[Path]) -> dict:
    """The figures, ready for JSON; a figure that does not exist is None. Of several objects, ``objects`` has each."""
    each = [
        {"mesh": str(mesh), **_summary(one.frames)} for one, mesh in zip(pipeline.objects, meshes, strict=True)
    ]  # fmt: skip
    names = [one.name for one in pipeline.objects]
    own = each[0] if len(each) == 1 else {"objects": dict(zip(names, each, strict=True))}
    return {
        **own,
        "topics": {"mask": topics.mask, "camera_info": topics.camera_info, "image": topics.image,
                   "label_info": topics.label_info},  # fmt: skip
        "late_masks": pipeline.late,
        "missing_masks": pipeline.missing,
    }


def _summary(frames: Sequence[Frame]) -> dict:
    states = [frame.state for frame in frames]
    changes = list(zip(states, states[1:], strict=False))
    tracked = [frame for frame in frames if frame.T_camera_object is not None]
    return {
        "frames": len(frames),
        "tracked": len(tracked),
        "lost": sum(a == "TRACKING" and b == "LOST" for a, b in changes),
        "recovered": sum(change == ("LOST", "TRACKING") for change in changes),
        "first_pose_frame": next((k for k, frame in enumerate(frames) if frame.T_camera_object is not None), None),
        "state_at_end": states[-1] if states else None,
        "iou": statistics([frame.iou for frame in tracked], (50, 5)),
        "solve_ms": statistics([frame.solve_ms for frame in tracked], (50, 99)),
        "unusable_masks": Reasons(frame.reason for frame in frames if frame.unusable).counts(),
    }


def rows(content: dict) -> list[str]:
    """The figures in words, one line each."""
    return [f"{label}: {value}" for label, value in facts(content)]


def facts(content: dict) -> list[tuple[str, str]]:
    """Label and value of each figure."""
    several = content.get("objects", {"": content})
    frames = next(iter(several.values()))["frames"]
    found = [("masks", f"{frames} from {content['topics']['mask']}")]
    for name, each in several.items():
        who = f"{name}: " if name else ""
        share = each["tracked"] / frames if frames else 0.0
        found += [
            (f"{who}tracked", f"{each['tracked']} ({share:.1%}), at the end {each['state_at_end'] or 'no state'}"),
            (f"{who}lost / recovered", f"{each['lost']} / {each['recovered']}"),
            (f"{who}silhouette IoU median / p5", pair(each["iou"], ("median", "p5"), ".3f")),
            (f"{who}solve time median / p99", f"{pair(each['solve_ms'], ('median', 'p99'), '.1f')} ms"),
        ]
        found += [(f"{who}unusable masks ({count})", reason) for reason, count in each["unusable_masks"].items()]
    if content["late_masks"]:
        found.append(("left out", f"{content['late_masks']} masks whose stamp is not newer than the one before"))
    if content["missing_masks"]:
        found.append(("missing in the bag", f"about {content['missing_masks']} masks, by the gaps between stamps"))
    return found


def make_report(
    options: argparse.Namespace, objects: Sequence[ReplayedObject], content: dict, stills: Stills, video: Path | None
) -> Report:
    """What ``--view`` shows. The state is the worst of all objects."""
    columns = list(zip(*(one.frames for one in objects), strict=True))
    first = columns[0][0].time if columns else 0
    time = np.array([1e-9 * (column[0].time - first) for column in columns])
    order = ("LOST", "INITIALISING", "TRACKING")
    states = [min((frame.state for frame in column), key=order.index) for column in columns]
    plots = [
        plot for one in objects for plot in _plots(one.frames, f"{one.name}: " if len(objects) > 1 else "")
    ]  # fmt: skip
    return Report(
        title=f"Pose of {', '.join(one.name for one in objects)}",
        subtitle=f"{options.bag}, replayed into {options.out}",
        facts=facts(content), time=time, states=states, kinds=KINDS, plots=plots, stills=stills.worst(), video=video,
    )  # fmt: skip


def _plots(frames: Sequence[Frame], who: str) -> list[Plot]:
    """The plots of one object; ``who`` begins their titles."""
    poses = [frame.T_camera_object for frame in frames]
    has = np.array([pose is not None for pose in poses], dtype=bool)
    nan = float("nan")
    position = np.array([np.full(3, nan) if pose is None else pose[:3, 3] for pose in poses]).reshape(-1, 3)
    turns = np.degrees(rotation_vectors(poses))
    before = np.array([frame.residual_norms[0] if frame.residual_norms else nan for frame in frames])
    after = np.array([frame.residual_norms[-1] if frame.residual_norms else nan for frame in frames])
    iou = np.where(has, [frame.iou for frame in frames], nan)
    return [
        Plot(f"{who}Silhouette IoU", (("IoU", iou),), high=1.0),
        Plot(f"{who}Residual norm, 1 - IoU at the resolution of the stages",
             (("before the first stage", before), ("after the last", after)), low=0.0),
        Plot(f"{who}Position in the camera's frame [m]",
             tuple((axis, position[:, k]) for k, axis in enumerate("xyz"))),
        Plot(f"{who}Rotation since the first pose [deg]", tuple((axis, turns[:, k]) for k, axis in enumerate("xyz")),
             note="Rotation vector in the camera's frame: its length is the angle."),
        Plot(f"{who}Solve time [ms]", (("solve time", np.array([frame.solve_ms for frame in frames])),), low=0.0),
    ]  # fmt: skip


def rotation_vectors(poses: list[np.ndarray | None]) -> np.ndarray:
    """Rotations since the first pose as vectors (N, 3) [rad] in the camera's frame, without jumps by whole turns."""
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
