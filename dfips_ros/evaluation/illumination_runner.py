# SPDX-License-Identifier: Apache-2.0
"""Run illumination methods on the same pictures in one run; their errors become rows of a CSV."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import ConfigError, InputError
from ..processes.mesh import Mesh
from ..processes.shading_geometry import shading_mesh
from ..processes.shading_pyrender import PyrenderShading
from ..tasks.illumination import IlluminationConfig, IlluminationEstimator
from ..tasks.illumination.crop import ObjectView, look_at_object
from ..tasks.illumination.estimator import STARTS, WEIGHTS
from ..tasks.illumination.metrics import direction_error_deg, light_error
from ..tasks.illumination.problem import LightObservation, load_solver, make_solver, search_starts
from .illumination_methods import ADAM, METHODS, SLOW, SLOWISH, LightMethod, LightPictures, make_method
from .illumination_pictures import stacked, stage_frames
from .illumination_trials import CAMERA, MATERIALS, LightTrialConfig, make_trials

ALL, TOLD = "all", "told"
TOLD_DEG, TOLD_DIAMETERS, TOLD_NOISE = 3.0, 0.1, 0.01
TIMED, TIMED_ADAM = 20, 3  # pictures that a method is timed on, one by one
CHUNK = 16  # pictures at once


def joined(parts: Sequence[LightObservation]) -> LightObservation:
    """Observations of single pictures as one batch; element i belongs to scene i."""
    batch = {f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(LightObservation)}
    return LightObservation(**{**batch, "scene": torch.arange(len(parts))})


def evaluate_illumination(
    meshes: Sequence[Mesh],
    kind: str,
    methods: Sequence[str],
    materials: Sequence[str] = MATERIALS,
    per_mesh: int = 4,
    slow_trials: int = 24,
    seed: int = 0,
    weights: str | Path | None = None,
    shared: str | Path | None = None,
    provenance: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Errors of each method on each class of materials.

    Every method gets a row for all pictures of a class and one for those that tell the light (:func:`told_pictures`);
    if there are slow methods, which see an even choice of ``slow_trials`` pictures of each class, two more for these.

    Args:
        meshes: objects; none of them may have been trained on.
        kind: of light.
        methods: keys of ``METHODS``.
        materials: classes of materials.
        per_mesh: pictures of each mesh and class.
        slow_trials: pictures of each class for slow methods.
        seed: of the pictures.
        weights: of ours; the shipped ones by default.
        shared: weights of ours with one network for all stages.
        provenance: columns to add to each row.
        quiet: no progress bar.

    Raises:
        ConfigError: an unknown method or class.
    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise ConfigError(f"methods: unknown {', '.join(unknown)}; known are {', '.join(METHODS)}.")
    point = kind == "point"
    file = weights or WEIGHTS / f"illumination_{kind}.safetensors"
    config = load_solver(file, kind)[1]
    made = {name: make_method(name, point, file, shared) for name in methods}
    shaded = [shading_mesh(mesh) for mesh in meshes]
    rows: list[dict[str, Any]] = []
    for material in materials:
        trial_config = LightTrialConfig(kind, material, per_mesh, seed=seed)
        views: list[ObjectView] = []
        scenes, truths = [], []
        for trial in tqdm(make_trials(meshes, trial_config), disable=quiet, desc=f"{kind}, {material}: pictures"):
            try:
                view = look_at_object(
                    trial.image, CAMERA, trial.T_camera_object, meshes[trial.mesh], shaded[trial.mesh],
                    config.crop_size, config.pixels, config.fine_pixels,
                )  # fmt: skip
            except InputError:  # black or saturated all over: refused, by no method's fault
                continue
            views.append(view)
            size = (config.crop_size, config.crop_size)
            scenes.append(PyrenderShading(shaded[trial.mesh], view.pose, view.camera_matrix, size))
            truths.append(torch.from_numpy(view.R_virtual_camera @ trial.light).float())
        observation, truth = joined([view.observation for view in views]), torch.stack(truths)
        starts = search_starts(observation, point, STARTS)
        pictures = LightPictures(observation, joined([view.fine for view in views]), starts, scenes)
        told = told_pictures(observation, truth, starts, point)
        every = torch.arange(len(views))
        some = torch.from_numpy(np.unique(np.linspace(0, len(views) - 1, min(slow_trials, len(views))).astype(int)))
        subsets = {ALL: every, TOLD: every[told]}
        if len(some) < len(every) and {*SLOW, *SLOWISH} & set(methods):
            subsets |= {f"{slow_trials} of each class": some, f"{slow_trials} of each class, {TOLD}": some[told[some]]}
        for name, method in tqdm(made.items(), disable=quiet, desc=f"{kind}, {material}: methods"):
            index = some if name in SLOW or name in SLOWISH else every
            lights, ms = _run(name, method, pictures, index)
            for subset, chosen in subsets.items():
                if not len(chosen) or bool(lights[chosen].isnan().any()):  # slow ones saw only their choice
                    continue
                scores = _scores(lights[chosen], truth[chosen], point)
                label = {"kind": kind, "material": material, "subset": subset, "method": METHODS[name]}
                rows.append({**label, **scores, "ms": ms, "seed": seed, **(provenance or {})})
    return with_means(rows)


def told_pictures(observation: LightObservation, truth: Tensor, starts: Tensor, point: bool) -> Tensor:
    """(B,) bool: pictures in which the light can be told from the pixels by any method.

    Material and intensity are fitted from the true light; where the normal equations then know the light to a standard
    deviation of at most 3 degrees (0.1 diameters for a point light), with a pixel noise of 0.01, it is told (the
    Cramer-Rao bound, with wide priors).
    """
    torch.manual_seed(0)
    fit = make_solver(IlluminationConfig("point" if point else "directional")).eval()
    count = starts.shape[1]
    begin = torch.cat([truth[:, None].expand(-1, count, -1), starts[..., 3:]], dim=2).flatten(0, 1)
    repeated = observation[torch.arange(len(truth)).repeat_interleave(count)]
    solution = fit.estimate(repeated, begin, 30)
    best = solution.residual_norms.min(1).values.reshape(-1, count).argmin(1)
    fitted = solution.estimate.reshape(len(truth), count, -1)[torch.arange(len(truth)), best]
    features = fit.feedback(observation, torch.cat([truth, fitted[:, 3:]], dim=1))
    jacobian, weight = features.inputs["jacobian"].double(), features.inputs["weight"].double()
    matrix = torch.einsum("bn,bni,bnj->bij", weight, jacobian, jacobian) / TOLD_NOISE**2
    covariance = torch.linalg.inv(matrix + torch.eye(matrix.shape[1], dtype=torch.float64))
    if not point:
        return torch.linalg.eigvalsh(covariance[:, :2, :2])[:, -1].sqrt() <= np.deg2rad(TOLD_DEG)
    spread = covariance.diagonal(dim1=1, dim2=2)[:, :3].sum(1).sqrt()
    return spread * torch.linalg.vector_norm(truth, dim=1) <= TOLD_DIAMETERS


def animated_trials(
    meshes: Sequence[Mesh], kind: str, seed: int = 0, weights: str | Path | None = None, count: int = 3
) -> list[np.ndarray]:
    """Frames of the stages on one picture of each class of materials, evenly chosen meshes."""
    rows = []
    for i, material in enumerate(MATERIALS[:count]):
        mesh = meshes[(2 * i + 1) * len(meshes) // (2 * count)]
        trial = next(make_trials([mesh], LightTrialConfig(kind, material, 1, seed=seed)))
        estimator = IlluminationEstimator.from_mesh(mesh, kind, weights=weights)
        rows.append(stage_frames(estimator, trial.image, CAMERA, trial.T_camera_object))
    return stacked(rows)


def _run(name: str, method: LightMethod, pictures: LightPictures, index: Tensor) -> tuple[Tensor, float]:
    """Lights (B, 3), NaN for pictures that are not in ``index``, and the median time for one picture, milliseconds."""
    lights = torch.full((len(pictures), 3), float("nan"))
    one_by_one = index if name in SLOW else index[: TIMED_ADAM if name in (*SLOWISH, *ADAM) else TIMED]
    seconds = []
    for i in one_by_one:
        begin = time.perf_counter()
        lights[i] = method(pictures[i[None]])[0]
        seconds.append(time.perf_counter() - begin)
    if name not in SLOW:
        for part in index.split(CHUNK):
            lights[part] = method(pictures[part])
    return lights, round(1e3 * float(np.median(seconds)), 2)


def _scores(lights: Tensor, truth: Tensor, point: bool) -> dict[str, Any]:
    error = light_error(lights, truth, point).numpy()
    angle = direction_error_deg(lights, truth).numpy()
    return {
        "n": len(error), "mean": round(float(error.mean()), 4), "median": round(float(np.median(error)), 4),
        "p90": round(float(np.quantile(error, 0.9)), 4), "p95": round(float(np.quantile(error, 0.95)), 4),
        "mean_deg": round(float(angle.mean()), 2), "median_deg": round(float(np.median(angle)), 2),
        "p95_deg": round(float(np.quantile(angle, 0.95)), 2),
    }  # fmt: skip


def with_means(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the classes of materials, then means over the classes for each subset and method; no percentiles."""
    kept = [dict(r) for r in rows if r["material"] != ALL]
    out = []
    for key in dict.fromkeys((r["subset"], r["method"]) for r in kept):
        own = [r for r in kept if (r["subset"], r["method"]) == key]
        if len(own) < 2:
            continue
        counts = np.array([int(r["n"]) for r in own])
        mean = {n: float(counts @ [float(r[n]) for r in own]) / counts.sum() for n in ("mean", "mean_deg", "ms")}
        blank = dict.fromkeys(("median", "p90", "p95", "median_deg", "p95_deg"), "")
        digits = {"mean": 4, "mean_deg": 2, "ms": 2}
        rounded = {name: round(value, digits[name]) for name, value in mean.items()}
        out.append({**own[0], "material": ALL, "n": int(counts.sum()), **blank, **rounded})
    return kept + out
