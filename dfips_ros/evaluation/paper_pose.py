# SPDX-License-Identifier: Apache-2.0
"""The object pose part of the paper's tables 1 to 4, and the ablation: rows for CSVs."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import check_choice
from ..solver import load_checkpoint
from ..tasks.object_pose import EstimatorConfig, ObjectPoseEstimator
from .paper_config import PaperConfig, Workspace
from .paper_methods import (
    PLAIN,
    Judged,
    PaperMethod,
    chained,
    gauss_newton_method,
    initial_method,
    judge,
    learned_method,
    nmr_method,
    processor_ms,
    provenance,
    scaled,
    softras_method,
    softras_polish,
    trial_config,
)
from .paper_numbers import NOT_TOLD
from .paper_training import Instance, PoseVariant, category_instances, train_pose
from .pose_trials import CAMERA, make_trials
from .runner import summarise

Row = dict[str, Any]
SHIPPED = "contour, shipped weights"
POSE, UNITS = "6-DoF pose", {"translation": "diameters", "rotation": "degrees"}


def trained_name(config: PaperConfig) -> str:
    """What the solver that is trained here is called in a table."""
    return f"{config.feedback}, trained by category"


def said_of_training(space: Workspace, weights: Sequence[Path]) -> str:
    """Budgets as they were spent: of each file minutes, batches and samples."""
    notes = [load_checkpoint(file, "object_pose").provenance for file in weights]
    spent = [f"{n['minutes']:.1f} min, {n['batches']} batches, {n['samples']} examples" for n in notes]
    return "; ".join(dict.fromkeys(spent))


def table_1_methods(config: PaperConfig, weights: Path, single: Path) -> dict[str, PaperMethod]:
    """The paper's rows, then those of the classical peer and of the stages that ship; those that the config names.

    Args:
        config: names them.
        weights: of the solver that is trained here.
        single: of one stage that was trained alone.

    Raises:
        ConfigError: the config names one that there is not.
    """
    own = learned_method(f"ours ({config.feedback}, {config.num_stages} stages)", weights)
    shipped = learned_method("ours (contour, shipped)", None)
    methods = {
        "initial": initial_method(),
        "nmr": nmr_method(config),
        "softras": softras_method(config),
        "direct": learned_method("direct regression", single, PLAIN),
        "ours": own,
        "ours_softras": chained(f"ours ({config.feedback}) + SoftRas", own, softras_polish(config)),
        "ours_gauss_newton": learned_method(f"ours ({config.feedback}) + Gauss-Newton", weights, polish=True),
        "gauss_newton": gauss_newton_method(),
        "gauss_newton_8": gauss_newton_method("gauss_newton_8"),
        "shipped": shipped,
        "shipped_softras": chained("ours (contour, shipped) + SoftRas", shipped, softras_polish(config)),
        "shipped_gauss_newton": learned_method("ours (contour, shipped) + Gauss-Newton", None, polish=True),
    }
    for name in config.methods:
        check_choice("methods", name, tuple(methods))
    return {name: method for name, method in methods.items() if not config.methods or name in config.methods}


def judge_table_1(space: Workspace) -> tuple[dict[str, PaperMethod], dict[str, list[Judged]], list[Path]]:
    """Train what is missing, judge what is missing."""
    size = space.config.crop_size
    files = [train_pose(space, variant) for variant in (PoseVariant(size), PoseVariant(size, num_stages=1))]
    methods = table_1_methods(space.config, files[0], files[1])
    return methods, judge(space, category_instances(space.config)[1], methods), files


def table_1(space: Workspace) -> list[Row]:
    """All methods on the same inputs; how many times faster than SoftRas, by the medians."""
    methods, judged, files = judge_table_1(space)
    training = said_of_training(space, files)
    ms = processor_ms(space, category_instances(space.config)[1], methods)
    slow = ms.get("softras")
    return [
        {"method": methods[name].label, "name": name, **errors_of(own), "processor_ms": ms[name],
         "faster_than_softras": "" if slow is None or name == "initial" else slow / ms[name],
         "training": training, **provenance(space, own)}
        for name, own in judged.items()
    ]  # fmt: skip


def errors_of(judged: Sequence[Judged]) -> dict[str, Any]:
    """Means, medians and percentiles of the errors; the times have a measurement of their own."""
    figures = summarise([j.outcome for j in judged])
    return {name: value for name, value in figures.items() if not name.startswith("ms")}


def _both(judged: Sequence[Judged]) -> dict[str, dict[str, float]]:
    """Mean and median of translation and rotation."""
    figures = {"translation": [j.outcome.translation for j in judged], "rotation": [j.outcome.rotation for j in judged]}
    return {name: {"mean": float(np.mean(v)), "median": float(np.median(v))} for name, v in figures.items()}


def table_2_pose(space: Workspace) -> list[Row]:
    """Errors after 1, 3 and 5 stages (all that there are, where fewer were trained)."""
    config = space.config
    weights = train_pose(space, PoseVariant(config.crop_size))
    steps = sorted({1, min(3, config.num_stages), config.num_stages})
    methods = {
        f"{file is None}_{count}": learned_method(f"{count} stages", file, stages=count)
        for file in (weights, None)
        for count in (steps if file else (1, 3, 5))
    }
    judged = judge(space, category_instances(config)[1], methods)
    training = said_of_training(space, [weights])
    rows = []
    for key, own in judged.items():
        shipped, count = key.split("_")
        solver = SHIPPED if shipped == "True" else trained_name(config)
        for quantity, figures in _both(own).items():
            label = {"task": POSE, "solver": solver, "quantity": quantity, "unit": UNITS[quantity]}
            rows.append({**label, "steps": int(count), **figures, **NOT_TOLD, "training": training,
                         **provenance(space, own)})  # fmt: skip
    return sorted(rows, key=lambda r: (r["solver"] == SHIPPED, r["quantity"], r["steps"]))


def table_3_pose(space: Workspace) -> list[Row]:
    """One network for all stages against one each, with equal budgets."""
    config = space.config
    files = {name: train_pose(space, PoseVariant(config.crop_size, name == "shared")) for name in ("shared", "own")}
    methods = {name: learned_method(name, file) for name, file in files.items()}
    judged = judge(space, category_instances(config)[1], methods)
    training = said_of_training(space, list(files.values()))
    return [
        {"task": POSE, "solver": trained_name(config), "quantity": quantity, "unit": unit, "weights": name,
         **_both(judged[name])[quantity], **NOT_TOLD, "training": training, **provenance(space, judged[name])}
        for quantity, unit in UNITS.items()
        for name in methods
    ]  # fmt: skip


def table_4(space: Workspace) -> list[Row]:
    """Errors by category and image size; over all of them also time and memory."""
    config = space.config
    _, held = category_instances(config)
    files = {size: train_pose(space, PoseVariant(size)) for size in config.sizes}
    methods = {str(size): learned_method(str(size), file) for size, file in files.items()}
    judged, ms = judge(space, held, methods), processor_ms(space, held, methods)
    training = said_of_training(space, list(files.values()))
    rows = []
    for category in (*dict.fromkeys(instance.category for instance in held), "all"):
        for size in config.sizes:
            own = [j for j in judged[str(size)] if category in (j.category, "all")]
            costs: Row = {"processor_ms": "", "memory_mb": ""}
            if category == "all":
                costs = {
                    "processor_ms": ms[str(size)],
                    "memory_mb": round(peak_memory_mb(files[size], held[0], config), 1),
                }
            means = {f"{name}_{kind}": v for name, both in _both(own).items() for kind, v in both.items()}
            rows.append({"category": category, "image_size": size, "trials": len(own), **means, **costs,
                         "training": training, **provenance(space, own)})  # fmt: skip
    return rows


def peak_memory_mb(weights: Path, instance: Instance, config: PaperConfig) -> float:
    """Most memory that a process of its own takes to solve one mask."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_solve_alone, weights, instance, config).result()


def _solve_alone(weights: Path, instance: Instance, config: PaperConfig) -> float:
    mesh = scaled(instance)
    trial = make_trials([mesh], trial_config(config))[0]
    estimator = ObjectPoseEstimator(mesh, weights, "cpu", EstimatorConfig(refine=None, retry_angle_deg=0.0))
    estimator.estimate(trial.mask, CAMERA, trial.T_initial)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def ablation(space: Workspace) -> list[Row]:
    """What each part of the solver is good for; every training has the same budget."""
    config = space.config
    size = config.crop_size
    files = {"": train_pose(space, PoseVariant(size))}
    if config.feedback == "image":
        files["no difference image"] = train_pose(space, PoseVariant(size, difference=False))
    files["one loss at the end, gradients through all stages"] = train_pose(space, PoseVariant(size, detached=False))
    as_it_is = "as it is"
    methods = {f"{trained_name(config)}|{name or as_it_is}": learned_method(name, file) for name, file in files.items()}
    for solver, file in ((trained_name(config), files[""]), (SHIPPED, None)):
        if file is None:
            methods[f"{solver}|{as_it_is}"] = learned_method("", None)
        methods[f"{solver}|no adaptive update (every update is taken, the last estimate returned)"] = learned_method(
            "", file, PLAIN
        )
    held = category_instances(config)[1]
    judged, ms = judge(space, held, methods), processor_ms(space, held, methods)
    training = said_of_training(space, list(files.values()))
    return [
        {"solver": key.split("|")[0], "method": key.split("|")[1], **errors_of(own), "processor_ms": ms[key],
         "training": training, **provenance(space, own)}
        for key, own in judged.items()
    ]  # fmt: skip


def figure_1(space: Workspace) -> tuple[list[Row], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Percentiles, and by label the errors themselves: translation (diameters) and rotation (degrees)."""
    methods, judged, files = judge_table_1(space)
    training = said_of_training(space, files)
    rows, errors = [], {}
    for name, own in judged.items():
        kept = {k: v for k, v in errors_of(own).items() if k == "trials" or "_p" in k}
        rows.append({"method": methods[name].label, "name": name, **kept, "training": training,
                     **provenance(space, own)})  # fmt: skip
        errors[methods[name].label] = (
            np.array([j.outcome.translation for j in own]), np.array([j.outcome.rotation for j in own])
        )  # fmt: skip
    return rows, errors
