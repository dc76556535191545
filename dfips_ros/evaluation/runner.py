# SPDX-License-Identifier: Apache-2.0
"""Run methods on the same inputs in one run, and write their errors as rows of a CSV."""

from __future__ import annotations

import csv
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..checks import check_range
from ..errors import ConfigError
from ..processes.mesh import Mesh
from ..tasks.object_pose import Symmetries, rotation_error_deg
from ..tasks.object_pose.estimator import DEFAULT_WEIGHTS
from ..tasks.object_pose.metrics import mspd, mssd
from .journal import Journal
from .pose_methods import METHODS, SLOW, Method, make_method
from .pose_trials import CAMERA, PoseTrial, PoseTrialConfig, make_trials
from .tables import ALL

ROTATION_OUTLIER_DEG, TRANSLATION_OUTLIER = 20.0, 0.1
_MSSD_THRESHOLDS = np.arange(0.05, 0.51, 0.05)  # diameters (BOP 2019)
_MSPD_THRESHOLDS = np.arange(5, 51, 5)  # pixels of a 640-wide image (BOP 2019)


@dataclass(frozen=True)
class TrialOutcome:
    """Errors of one method on one input: degrees, diameters, diameters, pixels, seconds."""

    rotation: float
    translation: float
    mssd: float
    mspd: float
    seconds: float


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with equal keys as a CSV file.

    Raises:
        ConfigError: there are no rows.
    """
    if not rows:
        raise ConfigError("rows: there is nothing to write.")
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def score(estimate: np.ndarray, trial: PoseTrial, mesh: Mesh, symmetries: Symmetries, seconds: float) -> TrialOutcome:
    """Symmetry-aware errors of one estimate."""
    true = symmetries.nearest(trial.T_true, estimate)
    shift = np.linalg.norm(((estimate - true) @ np.append(mesh.center, 1.0))[:3]) / mesh.diameter
    members = np.concatenate([np.linalg.solve(trial.T_true, true)[None], symmetries.members()])
    points = mesh.vertices[:: max(1, len(mesh.vertices) // 400)].astype(np.float64)
    return TrialOutcome(
        rotation=rotation_error_deg(estimate, true),
        translation=float(shift),
        mssd=mssd(estimate, trial.T_true, points, members) / mesh.diameter,
        mspd=mspd(estimate, trial.T_true, points, members, CAMERA),
        seconds=seconds,
    )


def summarise(outcomes: Sequence[TrialOutcome]) -> dict[str, float]:
    """Mean, median and percentiles of one method's outcomes."""
    rotation = np.array([o.rotation for o in outcomes])
    translation = np.array([o.translation for o in outcomes])
    seconds = np.array([o.seconds for o in outcomes])
    out: dict[str, float] = {"trials": len(outcomes)}
    for name, values in (("rotation", rotation), ("translation", translation)):
        out[f"{name}_mean"], out[f"{name}_median"] = float(values.mean()), float(np.median(values))
        for percent in (90, 95, 99):
            out[f"{name}_p{percent}"] = float(np.percentile(values, percent))
    outlier = (rotation > ROTATION_OUTLIER_DEG) | (translation > TRANSLATION_OUTLIER)
    out["outliers_percent"] = 100.0 * float(outlier.mean())
    out["mssd_recall"] = float(np.mean([[o.mssd < t for t in _MSSD_THRESHOLDS] for o in outcomes]))
    out["mspd_recall"] = float(np.mean([[o.mspd < t for t in _MSPD_THRESHOLDS] for o in outcomes]))
    out["ms_median"], out["ms_p99"] = 1e3 * float(np.median(seconds)), 1e3 * float(np.percentile(seconds, 99))
    return out


def evaluate_object_pose(
    meshes: Sequence[Mesh],
    config: PoseTrialConfig,
    methods: Sequence[str] | None = None,
    weights: str | None = None,
    device: str = "auto",
    provenance: Mapping[str, Any] | None = None,
    slow_trials: int = 1,
    slow_columns_deg: Sequence[float] = (45.0,),
    quiet: bool = False,
    journal: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Evaluate methods on the same inputs.

    A method that takes seconds per input (``SLOW``) gets the first ``slow_trials`` of each mesh, in some columns. So
    that its row can be compared, all methods then have a second row over just these inputs (key ``subset``).

    Args:
        meshes: objects, none of them trained on.
        config: the inputs.
        methods: names out of ``METHODS``; all by default.
        weights: weights file; the shipped one by default.
        device: where the learned stages run.
        provenance: columns that every row carries (commit, machine).
        slow_trials: see above.
        slow_columns_deg: see above; those that are no columns of the inputs are passed over.
        quiet: no progress bar; there is none either where stderr is not a terminal.
        journal: file that keeps what was solved; an evaluation that was interrupted goes on from it.

    Returns:
        One row per method, column and subset.

    Raises:
        ConfigError: an unknown method, or the journal belongs to another evaluation.
    """
    names = list(methods or METHODS)
    unknown = [n for n in names if n not in METHODS]
    if unknown:
        raise ConfigError(f"methods: unknown {', '.join(unknown)}; known are {', '.join(METHODS)}.")
    check_range("slow_trials", slow_trials, 1)
    outcomes: dict[tuple[str, float], list[list[TrialOutcome]]] = {}  # of each mesh
    trials = make_trials(meshes, config)
    notes = None
    if journal:
        notes = _open_journal(
            journal, meshes, config, weights, device, slow_trials, slow_columns_deg, provenance
        )  # fmt: skip
    with tqdm(total=len(meshes) * len(names), disable=quiet or None, unit="row", desc="evaluate") as bar:
        for m, mesh in enumerate(meshes):
            own = [t for t in trials if t.mesh == m]
            symmetries = Symmetries.from_mesh(mesh)
            for name in names:
                bar.set_postfix_str(f"{mesh.name}: {name}", refresh=True)
                chosen = [
                    [t for t in own if t.column_deg == c][: _limit(name, c, config, slow_trials, slow_columns_deg)]
                    for c in config.columns_deg
                ]
                key = f"{config.masks} {m} {name}"
                noted = notes.get(key) if notes else None
                if noted is None:
                    method = make_method(name, mesh, symmetries, weights, device)
                    if name not in SLOW:  # what is compiled or loaded at first use is no time of the method
                        method(own[0].mask, CAMERA, own[0].T_initial)
                    found = [[_timed(method, t, mesh, symmetries) for t in some] for some in chosen]
                    if notes:
                        notes.put(key, [[asdict(o) for o in done] for done in found])
                else:
                    found = [[TrialOutcome(**o) for o in done] for done in noted]
                for column, done in zip(config.columns_deg, found, strict=True):
                    outcomes.setdefault((name, column), []).append(done)
                bar.update(1)
    setting = json.dumps({**asdict(config), "weights": weights or "shipped", "meshes": len(meshes)}, sort_keys=True)
    subsets = {ALL: config.per_mesh}
    if slow_trials < config.per_mesh and not SLOW.isdisjoint(names):
        subsets[f"first {slow_trials} of each mesh"] = slow_trials
    return [
        {
            "method": METHODS[name][0], "initial_error_deg": column, "masks": config.masks, "subset": subset,
            **summarise([o for of_mesh in done for o in of_mesh[:limit]]), "config": setting, **(provenance or {}),
        }
        for subset, limit in subsets.items()
        for (name, column), done in outcomes.items()
        if all(len(of_mesh) >= limit for of_mesh in done) and (subset == ALL or column in slow_columns_deg)
    ]  # fmt: skip


def _limit(
    name: str, column: float, config: PoseTrialConfig, slow_trials: int, slow_columns_deg: Sequence[float]
) -> int:
    """How many inputs of a mesh and column a method gets."""
    if name not in SLOW:
        return config.per_mesh
    return min(slow_trials, config.per_mesh) if column in slow_columns_deg else 0


def _open_journal(
    path: str | Path,
    meshes: Sequence[Mesh],
    config: PoseTrialConfig,
    weights: str | None,
    device: str,
    slow_trials: int,
    slow_columns_deg: Sequence[float],
    provenance: Mapping[str, Any] | None,
) -> Journal:
    try:
        digest = hashlib.sha256(Path(weights or DEFAULT_WEIGHTS).read_bytes()).hexdigest()
    except OSError as cause:
        raise ConfigError(f"weights '{weights}': cannot be read ({cause}).") from cause
    settings = {
        **asdict(config), "meshes": [[mesh.name, len(mesh.faces)] for mesh in meshes], "weights": digest,
        "device": device, "slow": [slow_trials, *slow_columns_deg], **(provenance or {}),
    }  # fmt: skip
    del settings["masks"]  # part of the keys: one journal takes both kinds
    return Journal(path, settings)


def _timed(method: Method, trial: PoseTrial, mesh: Mesh, symmetries: Symmetries) -> TrialOutcome:
    start = time.perf_counter()
    estimate = method(trial.mask, CAMERA, trial.T_initial)
    return score(estimate, trial, mesh, symmetries, time.perf_counter() - start)
