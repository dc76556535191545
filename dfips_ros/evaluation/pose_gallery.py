# SPDX-License-Identifier: Apache-2.0
"""Pictures of single cases of the evaluation: where the solver succeeds, and where it fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ..checks import check_range
from ..errors import ConfigError
from ..processes.mesh import Mesh
from ..processes.silhouette import RasterRenderer
from ..tasks.object_pose import EstimatorConfig, ObjectPoseEstimator, ObjectPoseSolution, Symmetries
from .figures import draw_contour
from .pose_trials import CAMERA, IMAGE_SIZE, PoseTrial, PoseTrialConfig, make_trials
from .runner import ROTATION_OUTLIER_DEG, TRANSLATION_OUTLIER, TrialOutcome, score

INITIAL_COLOUR = (245, 150, 30)
STAGE_COLOUR = (90, 160, 255)
FINAL_COLOUR = (40, 220, 110)
TRUE_COLOUR = (255, 255, 255)
MASK_COLOUR, GROUND_COLOUR = (120, 126, 136), (34, 37, 43)
WINDOW_MARGIN = 1.15  # side of the picture over the longer side of what it shows


@dataclass(frozen=True)
class GalleryConfig:
    """How the grids look.

    Attributes:
        columns, rows: most cases per grid.
        cell_pixels: side of one picture.
        seed: which successes are shown.
    """

    columns: int = 4
    rows: int = 3
    cell_pixels: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("columns", self.columns, 1, 20)
        check_range("rows", self.rows, 1, 20)
        check_range("cell_pixels", self.cell_pixels, 64, 2000)


@dataclass(frozen=True)
class GalleryCase:
    """One solved input.

    Attributes:
        mesh: the object.
        trial: the input.
        initial: errors of the initial pose.
        solution: what the solver made of it.
        outcome: errors of the solution.
    """

    mesh: Mesh
    trial: PoseTrial
    initial: TrialOutcome
    solution: ObjectPoseSolution
    outcome: TrialOutcome

    @property
    def is_outlier(self) -> bool:
        """Rotation or translation is too far off to be called a solution."""
        return self.outcome.rotation > ROTATION_OUTLIER_DEG or self.outcome.translation > TRANSLATION_OUTLIER


def solve_cases(
    meshes: Sequence[Mesh],
    config: PoseTrialConfig,
    weights: str | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> list[GalleryCase]:
    """Solve the trials of the evaluation with the estimator as it ships, refinement included."""
    trials = make_trials(meshes, config)
    cases = []
    with tqdm(total=len(trials), disable=quiet, unit="case", desc="pictures") as bar:
        for m, mesh in enumerate(meshes):
            symmetries = Symmetries.from_mesh(mesh)
            estimator = ObjectPoseEstimator(mesh, weights, device, EstimatorConfig(), symmetries)
            for trial in (t for t in trials if t.mesh == m):
                solution = estimator.estimate(trial.mask, CAMERA, trial.T_initial)
                outcome = score(solution.T_camera_object, trial, mesh, symmetries, solution.solve_time)
                initial = score(trial.T_initial, trial, mesh, symmetries, 0.0)
                cases.append(GalleryCase(mesh, trial, initial, solution, outcome))
                bar.update(1)
    return cases


def choose_failures(cases: Sequence[GalleryCase], count: int) -> list[GalleryCase]:
    """The worst by MSSD, worst first; of several initial poses for one mask only the worst."""
    return _one_per_mask(sorted(cases, key=lambda c: -c.outcome.mssd))[:count]


def choose_successes(cases: Sequence[GalleryCase], count: int, seed: int = 0) -> list[GalleryCase]:
    """Seeded draw out of the cases that are no outliers, one per mask, in the order of the meshes."""
    good = [c for c in cases if not c.is_outlier]
    order = np.random.default_rng(seed).permutation(len(good))
    drawn = _one_per_mask([good[i] for i in order])[:count]
    return sorted(drawn, key=lambda c: (c.trial.mesh, c.trial.column_deg))


def _one_per_mask(cases: Sequence[GalleryCase]) -> list[GalleryCase]:
    chosen: dict[int, GalleryCase] = {}
    for case in cases:
        chosen.setdefault(id(case.trial.mask), case)
    return list(chosen.values())


def draw_case(case: GalleryCase, size: int) -> np.ndarray:
    """The observed mask, and over it the contours of the initial pose, the stages, the result and the true pose.

    Args:
        case: what is drawn.
        size: side of the picture, pixels.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    renderer = RasterRenderer(case.mesh)
    poses = [
        case.trial.T_initial, *case.solution.history[1:], case.solution.T_camera_object, case.trial.T_true
    ]  # fmt: skip
    window = _window(renderer, [poses[0], *poses[-2:]], case.trial.mask)
    zoom = np.array([[size / window[2], 0, 0], [0, size / window[2], 0], [0, 0, 1.0]])
    # The outer edge of pixel 0 lies at -0.5, before and after.
    zoom[:2, 2] = -(np.array(window[:2]) + 0.5) * size / window[2] - 0.5 + size / window[2] * 0.5
    seen = cv2.warpAffine(case.trial.mask.astype(np.uint8), zoom[:2], (size, size), flags=cv2.INTER_NEAREST)
    picture = np.where(seen[..., None] > 0, MASK_COLOUR, GROUND_COLOUR).astype(np.uint8)
    silhouettes = _silhouettes(renderer, poses, zoom @ CAMERA, (size, size))
    width = max(1, round(size / 200))
    for silhouette in silhouettes[1:-2]:
        _draw_thin(picture, silhouette, STAGE_COLOUR)
    draw_contour(picture, silhouettes[0], INITIAL_COLOUR, width)
    _draw_thin(picture, silhouettes[-1], TRUE_COLOUR)  # below the result: seen where they differ
    draw_contour(picture, silhouettes[-2], FINAL_COLOUR, width)
    return picture


def _draw_thin(picture: np.ndarray, silhouette: np.ndarray, colour: tuple[int, int, int]) -> None:
    outlines, _ = cv2.findContours(silhouette.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, colour, 1, cv2.LINE_AA)


def _silhouettes(
    renderer: RasterRenderer, poses: Sequence[np.ndarray], camera_matrix: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Silhouettes (N, H, W) bool at N poses."""
    batch = torch.from_numpy(np.stack(poses)).float()
    return (renderer.render(batch, torch.from_numpy(camera_matrix).float(), size) > 0).numpy()


def _window(renderer: RasterRenderer, poses: Sequence[np.ndarray], mask: np.ndarray) -> tuple[float, float, float]:
    """A square that holds the mask and the silhouettes: left, top, side, pixels."""
    shown = _silhouettes(renderer, poses, CAMERA, IMAGE_SIZE).any(axis=0) | mask
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    side = WINDOW_MARGIN * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
    return (columns[0] + columns[-1] - side) / 2, (rows[0] + rows[-1] - side) / 2, float(side)


def _hex(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def describe_case(case: GalleryCase) -> str:
    """Four lines: mesh, rotation error before and after, translation error before and after, MSSD and IoU."""
    before, result, solution = case.initial, case.outcome, case.solution
    count = len(solution.alternatives)
    others = f", {count} alternative{'s' if count > 1 else ''}" if count else ""
    return (
        f"{case.mesh.name[-38:]}\n"
        f"rotation {before.rotation:.0f}° (up to {case.trial.column_deg:g}°) → {result.rotation:.2f}°\n"
        f"translation {before.translation:.2f} d → {result.translation:.4f} d\n"
        f"MSSD {result.mssd:.3f} d, IoU {solution.iou:.3f}{others}"
    )


def draw_grid(cases: Sequence[GalleryCase], title: str, path: Path, config: GalleryConfig | None = None) -> None:
    """Write a grid of cases as a PNG; outliers have red text.

    Raises:
        ConfigError: there are no cases, or the file cannot be written.
    """
    if not cases:
        raise ConfigError(f"pictures '{path}': there are no cases to draw.")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    c = config or GalleryConfig()
    shown = list(cases)[: c.columns * c.rows]
    columns = min(c.columns, len(shown))
    rows = -(-len(shown) // columns)
    size = (max(3.3 * columns, 7.0), 4.15 * rows + 1.0)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    figure.suptitle(title, fontsize=13)
    for axis in axes.flat:
        axis.axis("off")
    for axis, case in zip(axes.flat, shown, strict=False):
        axis.imshow(draw_case(case, c.cell_pixels), interpolation="antialiased")
        colour = "#b3261e" if case.is_outlier else "#1f2328"
        axis.set_title(describe_case(case), fontsize=9.5, color=colour, loc="left")
    lines = (
        (INITIAL_COLOUR, 2.5, "initial pose"), (STAGE_COLOUR, 1.2, "stages"), (FINAL_COLOUR, 2.5, "result"),
        (TRUE_COLOUR, 1.2, "true pose"),
    )  # fmt: skip
    handles = [Line2D([], [], color=_hex(rgb), linewidth=width, label=name) for rgb, width, name in lines]
    mask = Patch(facecolor=_hex(MASK_COLOUR), label="observed mask")
    figure.legend(
        handles=[mask, *handles], loc="outside lower center", ncols=5, fontsize=10, facecolor="#d5d8dd", framealpha=1.0
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    except OSError as cause:
        raise ConfigError(f"pictures '{path}': cannot be written ({cause}).") from cause
    finally:
        plt.close(figure)


def write_gallery(
    cases: Sequence[GalleryCase], folder: str | Path, masks: str, config: GalleryConfig | None = None
) -> list[Path]:
    """Write ``failures_MASKS.png`` and, if there are any, ``successes_MASKS.png``.

    Args:
        cases: solved inputs.
        folder: made if needed.
        masks: kind of mask, for names and titles.
        config: see :class:`GalleryConfig`.

    Returns:
        The files that were written.

    Raises:
        ConfigError: there are no cases, or a file cannot be written.
    """
    c = config or GalleryConfig()
    count = c.columns * c.rows
    outliers = sum(case.is_outlier for case in cases)
    worst, good = choose_failures(cases, count), choose_successes(cases, count, c.seed)
    total = f"{outliers} of {len(cases)} cases are outliers (red): over {ROTATION_OUTLIER_DEG:g}° or "
    total += f"{TRANSLATION_OUTLIER:g} diameters (d)"
    written = [Path(folder) / f"failures_{masks}.png"]
    draw_grid(worst, f"Worst by MSSD, {masks} masks, one per mask\n{total}", written[0], c)
    if good:
        written.append(Path(folder) / f"successes_{masks}.png")
        draw_grid(good, f"Drawn at random from the others, {masks} masks\n{total}", written[1], c)
    return written
