# SPDX-License-Identifier: Apache-2.0
"""Figures 1, 3 and 4: cumulative errors, and stage-by-stage pictures of solved cases, with recoveries and failures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..geometry import make_pose
from ..processes.mesh import Mesh
from ..processes.shading_geometry import ShadingMesh, draw_geometry, shading_mesh
from ..tasks.illumination.config import KINDS
from ..tasks.object_pose import EstimatorConfig, ObjectPoseEstimator, Symmetries, rotation_error_deg
from ..tasks.object_pose.crop import look_at_box, mask_bounds
from .figures import draw_contour
from .illumination_pictures import write_animation
from .illumination_runner import animated_trials
from .illumination_trials import MATERIALS
from .paper_config import Workspace
from .paper_methods import scaled, trial_config
from .paper_training import Instance, PoseVariant, category_instances, train_pose
from .pose_trials import CAMERA, PoseTrial, make_trials
from .runner import ROTATION_OUTLIER_DEG, TRANSLATION_OUTLIER

Row = dict[str, Any]
CELL, STRIP = 132, 16
SHOWN_MARGIN = 1.35  # side of a picture over the longer side of the mask
GROUND, OBSERVED = (30, 33, 39), (250, 176, 5)
LIGHT = np.array([0.35, -0.62, -0.7])
WRONG_DEG, RIGHT_DEG = 20.0, 5.0  # a recovery is wrong by more at the start and by less at the end
SHOWN_METHODS = 12
PLAIN_CASES, SPECIAL_CASES = 3, 2  # of each solver: plain ones; recoveries and failures each


def plot_cumulative(errors: Mapping[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Figure 1: part of the inputs below an error, translation and rotation; the 90th, 95th and 99th percentiles."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12.0, 4.6), sharey=True, layout="constrained")
    units = (("translation error [diameters]", 1e-4), ("rotation error [°]", 1e-2))
    colours = plt.get_cmap("tab20")(np.linspace(0, 1, SHOWN_METHODS))
    for column, (axis, (label, least)) in enumerate(zip(axes, units, strict=True)):
        for colour, (name, values) in zip(colours, errors.items(), strict=False):
            ordered = np.sort(np.maximum(values[column], least))
            share = 100.0 * np.arange(1, len(ordered) + 1) / len(ordered)
            axis.step(ordered, share, where="post", color=colour, linewidth=1.5, label=name)
        for percent in (90, 95, 99):
            axis.axhline(percent, color="#888888", linewidth=0.7, linestyle=":")
            place = {"transform": axis.get_yaxis_transform(), "va": "center", "ha": "left"}
            place["bbox"] = {"fc": "white", "ec": "none", "pad": 1}
            axis.text(0.02, percent, f"{percent}%", fontsize=7, color="#555555", **place)
        axis.set(xscale="log", xlabel=label, ylim=(0, 101))
        axis.grid(True, color="#e8e8e8", linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("inputs with a smaller error [%]")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


@dataclass(frozen=True)
class StagedCase:
    """One input solved, with the pose after every stage.

    Attributes:
        category: of the object.
        mesh: the object, metres.
        trial: the input.
        poses: initial, after each stage, result; (4, 4) each.
        errors_deg: their rotation errors.
        shift: translation error of the result, diameters.
    """

    category: str
    mesh: Mesh
    trial: PoseTrial
    poses: tuple[np.ndarray, ...]
    errors_deg: tuple[float, ...]
    shift: float

    @property
    def choice(self) -> str:
        """What a reader sees in it."""
        if self.errors_deg[-1] > ROTATION_OUTLIER_DEG or self.shift > TRANSLATION_OUTLIER:
            return "failure"
        if max(self.errors_deg[:-1]) > WRONG_DEG and self.errors_deg[-1] < RIGHT_DEG:
            return "recovery"
        return "plain"


def staged_cases(space: Workspace, instances: Sequence[Instance], weights: Path | None) -> list[StagedCase]:
    """Solve the trials of the tables and keep what every stage made of them."""
    cases = []
    config = EstimatorConfig(refine=None, retry_angle_deg=0.0)
    meshes = [scaled(i) for i in instances]
    for trial in make_trials(meshes, trial_config(space.config)):
        mesh = meshes[trial.mesh]
        symmetries = Symmetries.from_mesh(mesh)
        found = ObjectPoseEstimator(mesh, weights, "cpu", config, symmetries)
        solution = found.estimate(trial.mask, CAMERA, trial.T_initial)
        poses = (*solution.history, solution.T_camera_object)
        true = [symmetries.nearest(trial.T_true, pose) for pose in poses]
        errors = tuple(rotation_error_deg(pose, t) for pose, t in zip(poses, true, strict=True))
        shift = float(np.linalg.norm(((poses[-1] - true[-1]) @ np.append(mesh.center, 1.0))[:3])) / mesh.diameter
        cases.append(StagedCase(instances[trial.mesh].category, mesh, trial, poses, errors, shift))
    return cases


def chosen_cases(cases: Sequence[StagedCase], plain: int, special: int) -> list[StagedCase]:
    """Plain cases of different categories and recoveries, from the largest errors each, and the worst failures."""
    largest: dict[str, StagedCase] = {}
    for case in cases:
        other = largest.get(case.category)
        if case.choice == "plain" and (other is None or case.errors_deg[0] > other.errors_deg[0]):
            largest[case.category] = case
    recoveries = sorted((c for c in cases if c.choice == "recovery"), key=lambda c: -max(c.errors_deg[:-1]))
    failures = sorted((c for c in cases if c.choice == "failure"), key=lambda c: -c.errors_deg[-1])
    return [*list(largest.values())[:plain], *recoveries[:special], *failures[:special]]


def draw_staged(case: StagedCase) -> list[np.ndarray]:
    """A picture (H, W, 3) for each pose: the object shaded at the pose, the observed outline, the rotation error.

    The shading is for the reader; only the silhouette was seen by the solver.
    """
    virtual = look_at_box(mask_bounds(case.trial.mask), CAMERA, CELL, SHOWN_MARGIN)
    observed, _ = virtual.warp(case.trial.mask, CAMERA)
    shaded = shading_mesh(case.mesh)
    pictures = []
    last = len(case.poses) - 1
    for i, (pose, error) in enumerate(zip(case.poses, case.errors_deg, strict=True)):
        picture = _shaded(shaded, case.mesh, virtual.to_virtual(pose), virtual.camera_matrix)
        draw_contour(picture, observed > 0, OBSERVED, 1)
        name = "initial" if i == 0 else "result" if i == last else f"stage {i}"
        strip = np.full((STRIP, CELL, 3), 255, np.uint8)
        colour = (170, 30, 30) if error > ROTATION_OUTLIER_DEG else (20, 20, 20)
        _write(strip, f"{name}: {error:.1f} deg", (3, 12), 0.36, colour)
        pictures.append(np.vstack([picture, strip]))
    return pictures


def _shaded(shaded: ShadingMesh, mesh: Mesh, pose: np.ndarray, camera: np.ndarray) -> np.ndarray:
    center = pose[:3, :3] @ mesh.center + pose[:3, 3]
    depth, normal = draw_geometry(shaded, make_pose(pose[:3, :3], center / mesh.diameter), camera, (CELL, CELL))
    bright = 70.0 + 150.0 * np.abs(normal @ LIGHT)
    picture = np.where((depth > 0)[..., None], bright[..., None] * [0.62, 0.8, 1.0], GROUND)
    return np.ascontiguousarray(picture.clip(0, 255).astype(np.uint8))


def labelled_grid(cases: Sequence[StagedCase]) -> list[list[np.ndarray]]:
    """For each case its label and its pictures."""
    rows = []
    for case in cases:
        label = np.full((CELL + STRIP, 84, 3), 255, np.uint8)
        for line, words in enumerate((case.category, "" if case.choice == "plain" else case.choice)):
            at = (4, CELL // 2 + 18 * line)
            _write(label, words, at, 0.45)
        rows.append([label, *draw_staged(case)])
    return rows


def _write(
    picture: np.ndarray, words: str, at: tuple[int, int], size: float, colour: tuple[int, int, int] = (20, 20, 20)
) -> None:
    cv2.putText(picture, words, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)


def heading(width: int, *lines: str) -> np.ndarray:
    """A white strip with lines of text, the first one larger. -> (H, width, 3)."""
    strip = np.full((12 + 18 * len(lines), width, 3), 255, np.uint8)
    for i, words in enumerate(lines):
        _write(strip, words, (4, 20 + 18 * i), 0.4 if i else 0.55)
    return strip


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


LEGEND = "orange: outline of the observed mask; blue: the object at the estimate; its rotation error, red above 20 deg"


def figure_3(space: Workspace, png: Path, gif: Path) -> list[Row]:
    """Draw a block of cases for each solver, and their animation; rows say what is in it."""
    config = space.config
    _, held = category_instances(config)
    weights = train_pose(space, PoseVariant(config.crop_size))
    rows, blocks = [], []
    for solver, file in (
        (f"{config.feedback} stages, trained by category", weights),
        ("contour stages that ship", None),
    ):
        cases = staged_cases(space, held, file)
        shown = chosen_cases(cases, PLAIN_CASES, SPECIAL_CASES)
        counts = {kind: sum(c.choice == kind for c in cases) for kind in ("recovery", "failure")}
        said = f"{len(cases)} cases: {counts['recovery']} recoveries, {counts['failure']} failures"
        blocks.append((f"{solver} ({said})", labelled_grid(shown)))
        for case in shown:
            errors = json.dumps([round(e, 2) for e in case.errors_deg])
            rows.append({"solver": solver, "category": case.category, "choice": case.choice, "errors_deg": errors,
                         "recoveries": counts["recovery"], "failures": counts["failure"], "cases": len(cases),
                         **space.provenance_columns()})  # fmt: skip
    columns = max(len(row) for _, grid in blocks for row in grid)
    still = [part for title, grid in blocks for part in _still(title, grid, columns)]
    write_png(png, np.vstack(still))
    moments = [[_moment(title, grid, t) for title, grid in blocks] for t in range(1, columns)]
    width = max(part.shape[1] for moment in moments for part in moment)
    write_animation(gif, [np.vstack([_widened(part, width) for part in moment]) for moment in moments])
    return rows


def _still(title: str, grid: Sequence[Sequence[np.ndarray]], columns: int) -> list[np.ndarray]:
    """A block of the picture: its name, and a line for each case with all of its poses."""
    blank = np.full((CELL + STRIP, CELL, 3), 255, np.uint8)
    lines = [np.hstack([*row[:-1], *[blank] * (columns - len(row)), row[-1]]) for row in grid]
    return [heading(lines[0].shape[1], title, LEGEND), *lines] if lines else []


def _moment(title: str, grid: Sequence[Sequence[np.ndarray]], t: int) -> np.ndarray:
    """Picture ``t`` of all cases, three beside each other; a case that has ended stays as it is."""
    cells = [np.hstack([row[0], row[min(t, len(row) - 1)]]) for row in grid]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % 3)
    lines = [np.hstack(cells[i : i + 3]) for i in range(0, len(cells), 3)]
    return np.vstack([heading(lines[0].shape[1], title), *lines])


def _widened(picture: np.ndarray, width: int) -> np.ndarray:
    return np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)), constant_values=255)


def figure_4(space: Workspace, png: Path, gif: Path) -> list[Row]:
    """Illumination: observed, simulated, residual and light on a sphere, stage by stage, shipped weights.

    Raises:
        MissingDependencyError: pyrender, which makes the pictures, is not there.
    """
    meshes = [scaled(i) for i in category_instances(space.config)[1]]
    steps, rows, still, moving = (0, 1, 3, 7), [], [], []
    parts = "observed, simulated, residual (grey: none), light mirrored in a sphere"
    for kind in KINDS:
        frames = animated_trials(meshes, kind, space.config.seed)
        title = f"{kind} light, stages that ship; objects from the top: {', '.join(MATERIALS)}"
        row = np.hstack([frames[min(t, len(frames) - 1)] for t in steps])
        still += [heading(row.shape[1], title, f"each time: {parts}"), row]
        moving.append((heading(frames[0].shape[1], title, parts), frames))
        rows.append({"kind": kind, "objects": f"one each: {', '.join(MATERIALS)}", **space.provenance_columns()})
    write_png(png, np.vstack(still))
    count = max(len(frames) for _, frames in moving)
    shown = [[np.vstack([title, f[min(t, len(f) - 1)]]) for title, f in moving] for t in range(count)]
    write_animation(gif, [np.vstack(parts) for parts in shown])
    return rows
