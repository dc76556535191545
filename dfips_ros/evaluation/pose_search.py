# SPDX-License-Identifier: Apache-2.0
"""Evaluate the search for a pose from nothing: the masks of the pose trials, without their initial poses."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import MaskError
from ..processes.mesh import Mesh
from ..tasks.object_pose import EstimatorConfig, ObjectPoseEstimator, Symmetries
from .pose_ambiguity import CLOSE_DEG, SAME_IOU, AmbiguityCheck
from .pose_trials import CAMERA, PoseTrial, PoseTrialConfig, make_trials
from .runner import TrialOutcome, score


@dataclass(frozen=True)
class SearchOutcome:
    """What the search found in one mask.

    Attributes:
        errors: of the pose that was reported first.
        best_rotation: smallest rotation error of the poses that were listed, degrees.
        ambiguous: another pose has the same silhouette, as :class:`AmbiguityCheck` found from the true pose.
        listed: the solution lists alternatives.
        iou: silhouette IoU of the reported pose, the solution's own.
    """

    errors: TrialOutcome
    best_rotation: float
    ambiguous: bool
    listed: bool
    iou: float


def search_once(
    estimator: ObjectPoseEstimator, trial: PoseTrial, symmetries: Symmetries, ambiguous: bool = False
) -> SearchOutcome | None:
    """Search the pose of one mask from nothing. None where the mask is refused (empty or too small)."""
    start = time.perf_counter()
    try:
        solution = estimator.estimate(trial.mask, CAMERA)
    except MaskError:
        return None
    seconds = time.perf_counter() - start
    errors = score(solution.T_camera_object, trial, estimator.mesh, symmetries, seconds)
    others = [score(T, trial, estimator.mesh, symmetries, seconds).rotation for T in solution.alternatives]
    best = min([errors.rotation, *others])
    return SearchOutcome(errors, best, ambiguous, bool(solution.alternatives), solution.iou)


def summarise_search(outcomes: Sequence[SearchOutcome | None]) -> dict[str, float]:
    """Figures of one row; a refused mask (None) is a failure in every percentage, and in no mean or median."""
    found = [o for o in outcomes if o is not None]
    certain = [o for o in outcomes if o is None or not o.ambiguous]
    unclear = [o for o in found if o.ambiguous]
    rotation = np.array([o.errors.rotation for o in found])
    translation = np.array([o.errors.translation for o in found])
    milliseconds = 1e3 * np.array([o.errors.seconds for o in found])

    def percent(flags: Sequence[bool]) -> float:
        return 100.0 * float(np.mean(flags)) if len(flags) > 0 else float("nan")

    def statistic(function: Any, values: np.ndarray, *arguments: float) -> float:
        return float(function(values, *arguments)) if len(values) > 0 else float("nan")

    return {
        "trials": len(outcomes),
        "refused": len(outcomes) - len(found),
        "ambiguous_percent": percent([o is not None and o.ambiguous for o in outcomes]),
        "within_5deg_percent": percent([o is not None and o.errors.rotation <= CLOSE_DEG for o in outcomes]),
        "unambiguous": len(certain),
        "within_5deg_unambiguous_percent": percent([o is not None and o.errors.rotation <= CLOSE_DEG for o in certain]),
        "ambiguous_listed_percent": percent([o.listed for o in unclear]),
        "listed_percent": percent([o is not None and o.listed for o in outcomes]),
        "best_listed_within_5deg_percent": percent([o is not None and o.best_rotation <= CLOSE_DEG for o in outcomes]),
        "rotation_mean": statistic(np.mean, rotation),
        "rotation_median": statistic(np.median, rotation),
        "translation_mean": statistic(np.mean, translation),
        "translation_median": statistic(np.median, translation),
        "iou_mean": statistic(np.mean, np.array([o.iou for o in found])),
        "ms_median": statistic(np.median, milliseconds),
        "ms_p99": statistic(np.percentile, milliseconds, 99),
    }


def evaluate_search(
    meshes: Sequence[Mesh],
    config: PoseTrialConfig,
    masks: Sequence[str] = ("perfect", "degraded"),
    weights: str | None = None,
    device: str = "auto",
    provenance: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Evaluate ``ObjectPoseEstimator.estimate`` without an initial pose.

    Args:
        meshes: objects, none of them trained on.
        config: the inputs; its initial errors play no part, and each true pose is looked at once.
        masks: kinds of mask, a row each.
        weights: weights file; the shipped one by default.
        device: where the learned stages run.
        provenance: columns that every row carries (commit, machine).
        quiet: no progress bar; there is none either where stderr is not a terminal.

    Returns:
        One row per kind of mask.

    Raises:
        ConfigError: an unknown kind of mask.
    """
    inputs = {kind: make_trials(meshes, replace(config, masks=kind, columns_deg=(0.0,))) for kind in masks}
    outcomes: dict[str, list[SearchOutcome | None]] = {kind: [] for kind in masks}
    with tqdm(total=len(meshes), disable=quiet or None, unit="mesh", desc="from nothing") as bar:
        for m, mesh in enumerate(meshes):
            bar.set_postfix_str(mesh.name, refresh=True)
            symmetries = Symmetries.from_mesh(mesh)
            estimator = ObjectPoseEstimator(mesh, weights, device, EstimatorConfig(), symmetries)
            estimator.warm_up()
            check = AmbiguityCheck(mesh, symmetries)
            for kind, trials in inputs.items():
                for trial in (t for t in trials if t.mesh == m):
                    ambiguous = check.other_explanation(trial.T_true) is not None
                    outcomes[kind].append(search_once(estimator, trial, symmetries, ambiguous))
            bar.update(1)
    setting = json.dumps(
        {
            "per_mesh": config.per_mesh, "distance": config.distance, "seed": config.seed, "meshes": len(meshes),
            "ambiguous": f"another pose over {CLOSE_DEG:g} deg away has a silhouette of IoU {SAME_IOU:g}",
            "weights": weights or "shipped", "estimator": asdict(EstimatorConfig()),
        },
        sort_keys=True,
    )  # fmt: skip
    return [
        {"protocol": "nothing", "masks": kind, **summarise_search(done), "config": setting, **(provenance or {})}
        for kind, done in outcomes.items()
    ]
