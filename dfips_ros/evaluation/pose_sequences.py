# SPDX-License-Identifier: Apache-2.0
"""Evaluate tracking without reset: real, generated and rendered sequences, each from its first mask to its last."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..checks import check_range
from ..processes.mesh import Mesh
from ..tasks.object_pose import (
    ObjectPoseEstimator,
    PoseTracker,
    Symmetries,
    TrackerConfig,
    TrackState,
    tracking_estimator_config,
)
from ..tasks.object_pose.demo_data import demo_mesh, demo_symmetries, ycb_camera_matrix, ycb_frames, ycb_object_names
from ..tasks.object_pose.metrics import mspd
from ..tasks.object_pose.sequences import SequenceConfig, SequenceGenerator
from .pose_trials import PoseTrial
from .runner import ROTATION_OUTLIER_DEG, TRANSLATION_OUTLIER, TrialOutcome, score, summarise
from .visp_teabox import find_teabox, mask_on_plain_background, read_camera_xml, read_cao, read_pose_text

GENERATED = "drill"
BOP_WIDTH = 640  # the thresholds of MSPD are meant for images of this width


@dataclass(frozen=True)
class PoseSequenceConfig:
    """What is tracked.

    Attributes:
        seconds: length of each generated sequence.
        real_seconds: how long the ten real frames are played forth and back.
        rate: frames per second.
        seed: of the generated sequences.
    """

    seconds: float = 20.0
    real_seconds: float = 5.0
    rate: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("seconds", self.seconds, 0.1, 3600.0)
        check_range("real_seconds", self.real_seconds, 0.1, 3600.0)
        check_range("rate", self.rate, 1.0, 1000.0)


@dataclass(frozen=True)
class SequenceFrame:
    """One mask with its truth.

    Attributes:
        stamp: seconds.
        mask: (H, W) uint8, 255 on the object.
        T_true: (4, 4) float64, metres.
        hidden: less than half of the object is visible: no pose is expected.
    """

    stamp: float
    mask: np.ndarray
    T_true: np.ndarray
    hidden: bool = False


@dataclass(frozen=True)
class PoseSequence:
    """A sequence of masks of one object.

    Attributes:
        name: what the row is called.
        source: "real", "generated" or "rendered".
        mesh: the object, metres.
        symmetries: of the object, for the errors and for the estimator.
        camera_matrix: (3, 3) pixels.
        length: number of frames.
        frames: makes the frames, in order.
    """

    name: str
    source: str
    mesh: Mesh
    symmetries: Symmetries
    camera_matrix: np.ndarray
    length: int
    frames: Callable[[], Iterator[SequenceFrame]]


@dataclass(frozen=True)
class FrameOutcome:
    """What the tracker said to one mask.

    Attributes:
        hidden: as in the frame.
        state: of the tracker afterwards.
        errors: of its pose; None where it gave none.
        seconds: that the update took.
    """

    hidden: bool
    state: TrackState
    errors: TrialOutcome | None
    seconds: float


def real_sequences(config: PoseSequenceConfig) -> list[PoseSequence]:
    """The shipped YCB-Video frames, forth and back at camera rate, one sequence per object."""
    return [_real_sequence(name, config) for name in ycb_object_names()]


def _real_sequence(name: str, config: PoseSequenceConfig) -> PoseSequence:
    stored = ycb_frames(name)
    cycle = np.r_[np.arange(len(stored)), np.arange(len(stored) - 2, 0, -1)]
    order = np.resize(cycle, max(round(config.real_seconds * config.rate), 1))

    def frames() -> Iterator[SequenceFrame]:
        for number, index in enumerate(order):
            yield SequenceFrame(number / config.rate, stored[index].mask, stored[index].T_camera_object)

    symmetries = replace(Symmetries.none(), discrete=demo_symmetries(name))
    return PoseSequence(name, "real", demo_mesh(name), symmetries, ycb_camera_matrix(), len(order), frames)


def generated_sequence(mesh: Mesh, config: PoseSequenceConfig, symmetries: Symmetries | None = None) -> PoseSequence:
    """A mesh in a moving hand: noisy masks, an arm in front of it, hidden for a moment."""
    hidden = min(SequenceConfig.hidden_seconds, config.seconds / 8)
    settings = SequenceConfig(seconds=config.seconds, rate=config.rate, seed=config.seed, hidden_seconds=hidden)
    generator = SequenceGenerator(mesh, settings)

    def frames() -> Iterator[SequenceFrame]:
        for index in range(len(generator)):
            frame = generator.frame(index)
            yield SequenceFrame(frame.stamp, frame.mask, frame.T_camera_object, frame.tag == "hidden")

    known = Symmetries.from_mesh(mesh) if symmetries is None else symmetries
    return PoseSequence(mesh.name, "generated", mesh, known, generator.camera_matrix, len(generator), frames)


def teabox_sequence(folder: str | Path, config: PoseSequenceConfig) -> PoseSequence:
    """ViSP's rendered tea box with exact poses, each of its frames once.

    Raises:
        ConfigError: ``folder`` does not hold it.
        MeshError: its CAD model cannot be read.
    """
    files = find_teabox(folder)
    mesh = read_cao(files.model)

    def frames() -> Iterator[SequenceFrame]:
        for number, (image, pose) in enumerate(files.frames):
            yield SequenceFrame(number / config.rate, mask_on_plain_background(image), read_pose_text(pose))

    symmetries = Symmetries.from_mesh(mesh)
    camera = read_camera_xml(files.camera)
    return PoseSequence(mesh.name, "rendered", mesh, symmetries, camera, len(files.frames), frames)


def make_sequences(
    meshes: Sequence[Mesh], config: PoseSequenceConfig, visp: str | Path | None = None
) -> list[PoseSequence]:
    """All sequences of one run: the real ones, one of each mesh (the shipped drill if none is given), the tea box.

    Raises:
        ConfigError: ``visp`` does not hold the tea box.
        MeshError: its CAD model cannot be read.
    """
    rendered = [] if visp is None else [teabox_sequence(visp, config)]
    known = replace(Symmetries.none(), discrete=demo_symmetries(GENERATED))
    generated = [generated_sequence(mesh, config) for mesh in meshes]
    return [
        *real_sequences(config), *(generated or [generated_sequence(demo_mesh(GENERATED), config, known)]), *rendered
    ]  # fmt: skip


def track(sequence: PoseSequence, tracker: PoseTracker) -> Iterator[FrameOutcome]:
    """Give each mask to the tracker, once and in order, and compare with the truth. Nothing resets the tracker."""
    points = sequence.mesh.vertices[:: max(1, len(sequence.mesh.vertices) // 400)].astype(np.float64)
    for frame in sequence.frames():
        start = time.perf_counter()
        result = tracker.update(frame.mask, sequence.camera_matrix, frame.stamp)
        seconds = time.perf_counter() - start
        errors = None
        if result.solution is not None:
            estimate = result.solution.T_camera_object
            trial = PoseTrial(0, 0.0, frame.mask, frame.T_true, frame.T_true)
            nearest = sequence.symmetries.nearest(frame.T_true, estimate)
            members = np.concatenate([np.linalg.solve(frame.T_true, nearest)[None], sequence.symmetries.members()])
            pixels = mspd(estimate, frame.T_true, points, members, sequence.camera_matrix)
            errors = replace(
                score(estimate, trial, sequence.mesh, sequence.symmetries, seconds),
                mspd=pixels * BOP_WIDTH / frame.mask.shape[1],  # that of ``score`` is for the trials' camera
            )
        yield FrameOutcome(frame.hidden, result.state, errors, seconds)


def is_right(errors: TrialOutcome | None) -> bool:
    """There is a pose, and it is no outlier."""
    return errors is not None and errors.rotation <= ROTATION_OUTLIER_DEG and errors.translation <= TRANSLATION_OUTLIER


def summarise_sequence(outcomes: Sequence[FrameOutcome], rate: float) -> dict[str, Any]:
    """Figures of one sequence.

    Frames in which the object is hidden are not judged. In all others a missing pose is a miss in both recalls. Errors
    are of the judged poses. ``lost`` counts changes from TRACKING to another state, ``lost_visible`` those of them that
    happened while the object was visible, ``recovered`` the returns. ``to_the_end`` is "yes" if the last visible frame
    has a pose that is no outlier. Times are of all updates after the first pose.

    Args:
        outcomes: one per frame, in order.
        rate: frames per second.
    """
    judged = [o for o in outcomes if not o.hidden]
    posed = [o.errors for o in judged if o.errors is not None]
    first = next((i for i, o in enumerate(outcomes) if o.errors is not None), None)
    states = [o.state == TrackState.TRACKING for o in outcomes]
    changes = list(zip(states[:-1], states[1:], outcomes[1:], strict=True))
    lost = [o for before, now, o in changes if before and not now]
    found_again = [now and not before and True in states[: i + 1] for i, (before, now, _) in enumerate(changes)]
    figures = summarise(posed) if posed else {}
    share = len(posed) / len(judged) if judged else float("nan")
    later = [] if first is None else outcomes[first + 1 :]
    milliseconds = 1e3 * np.array([o.seconds for o in later])
    return {
        "frames": len(outcomes),
        "judged": len(judged),
        "tracked_percent": 100.0 * share,
        "to_the_end": "yes" if judged and is_right(judged[-1].errors) else "no",
        "mssd_recall": share * figures.get("mssd_recall", 0.0),
        "mspd_recall": share * figures.get("mspd_recall", 0.0),
        **{name: figures.get(name, float("nan")) for name in (
            "rotation_median", "rotation_p95", "translation_median", "translation_p95", "outliers_percent")},
        "lost": len(lost),
        "lost_visible": sum(not o.hidden for o in lost),
        "recovered": sum(found_again),
        "first_pose_frame": "" if first is None else first + 1,
        "first_pose_ms": "" if first is None else 1e3 * (first / rate + outcomes[first].seconds),
        "ms_median": float(np.median(milliseconds)) if len(later) > 0 else float("nan"),
        "ms_p99": float(np.percentile(milliseconds, 99)) if len(later) > 0 else float("nan"),
    }  # fmt: skip


def evaluate_sequences(
    sequences: Sequence[PoseSequence],
    config: PoseSequenceConfig,
    weights: str | None = None,
    device: str = "auto",
    provenance: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Track each sequence from nothing and without reset, with the settings of the node.

    Args:
        sequences: what is tracked.
        config: with which they were made.
        weights: weights file; the shipped one by default.
        device: where the learned stages run.
        provenance: columns that every row carries (commit, machine).
        quiet: no progress bar; there is none either where stderr is not a terminal.

    Returns:
        One row per sequence.
    """
    settings = TrackerConfig()
    setting = json.dumps(
        {**asdict(config), "weights": weights or "shipped", "tracker": asdict(settings)}, sort_keys=True
    )
    rows = []
    for sequence in sequences:
        estimator = ObjectPoseEstimator(
            sequence.mesh, weights, device, tracking_estimator_config(settings), sequence.symmetries
        )
        estimator.warm_up()
        answers = track(sequence, PoseTracker(estimator, settings))
        bar = tqdm(answers, total=sequence.length, disable=quiet or None, unit="frame", desc=sequence.name)
        rows.append(
            {
                "protocol": "sequences", "sequence": sequence.name, "source": sequence.source,
                **summarise_sequence(list(bar), config.rate), "config": setting, **(provenance or {}),
            }
        )  # fmt: skip
    return rows
