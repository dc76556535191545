# SPDX-License-Identifier: Apache-2.0
"""Figure 2: how long one silhouette takes, by number of faces and by image size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from trimesh import creation

from ..baselines.neural_mesh_renderer import hard_silhouette
from ..baselines.soft_silhouette import soft_silhouette
from ..errors import MissingDependencyError
from ..geometry import make_pose, so3_exp
from ..processes.mesh import Mesh
from ..processes.silhouette import make_renderer
from .paper_config import Workspace

Row = dict[str, Any]
FACES, SIZES = (200, 800, 3200, 12_800), (32, 64, 128, 256, 512)
QUICK_FACES, QUICK_SIZES = (200, 800), (32, 64, 128)
FACES_OF_SIZES, SIZE_OF_FACES = 800, 128
SIGMA = 3e-5  # softness in the middle of a descent
LONGEST = 1.0  # seconds for one setting, beyond its first three


def ring(faces: int) -> Mesh:
    """A torus of exactly this many faces: 2 n n."""
    side = round((faces / 2) ** 0.5)
    solid = creation.torus(0.35, 0.15, major_sections=side, minor_sections=side)
    return Mesh(f"torus_{faces}", solid.vertices, solid.faces)


def _pose() -> np.ndarray:
    rotation = so3_exp(torch.tensor([[0.9, 0.4, 0.2]], dtype=torch.float64))[0].numpy()
    return make_pose(rotation, np.array([0.0, 0.0, 2.5]))


def _camera(size: int) -> np.ndarray:
    middle = (size - 1) / 2.0
    return np.array([[1.6 * size, 0.0, middle], [0.0, 1.6 * size, middle], [0.0, 0.0, 1.0]])


def _drawn(name: str, mesh: Mesh, size: int) -> Callable[[], object]:
    renderer = make_renderer(name, mesh)
    pose, camera = torch.from_numpy(_pose()).float()[None], torch.from_numpy(_camera(size)).float()
    return lambda: renderer.render(pose, camera, (size, size))


def _projected(mesh: Mesh, size: int) -> tuple[Tensor, Tensor]:
    """Corners (F, 3, 2) in normalised image coordinates and inverse depths (F, 3)."""
    pose, camera = _pose(), _camera(size)
    points = mesh.vertices @ pose[:3, :3].T + pose[:3, 3]
    image = (points[:, :2] / points[:, 2:] * camera[0, 0] + camera[:2, 2] + 0.5) * (2.0 / size) - 1.0
    faces = mesh.faces
    return torch.from_numpy(image[faces]).float(), torch.from_numpy(1.0 / points[:, 2][faces]).float()


def _descended(name: str, mesh: Mesh, size: int) -> Callable[[], object]:
    """A silhouette and its gradient: what one step of a descent needs."""
    corners, inverse_depth = _projected(mesh, size)

    def once() -> None:
        leaf = corners.clone().requires_grad_(True)
        soft = name == "SoftRas"
        image = soft_silhouette(leaf, size, SIGMA) if soft else hard_silhouette(leaf, inverse_depth, size)
        (image - 0.5).square().sum().backward()

    return once


RENDERERS = {
    "pyrender": (lambda mesh, size: _drawn("pyrender", mesh, size), "no"),
    "our rasteriser": (lambda mesh, size: _drawn("raster", mesh, size), "no"),
    "SoftRas": (lambda mesh, size: _descended("SoftRas", mesh, size), "yes"),
    "NMR": (lambda mesh, size: _descended("NMR", mesh, size), "yes"),
}


def measured(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and least milliseconds of a call, without the first ones."""
    call()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < repeats and (len(times) < 3 or time.perf_counter() - begin < LONGEST):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times)), float(min(times))


def figure_2(space: Workspace) -> tuple[list[Row], str]:
    """Times, and what could not be measured.

    SoftRas and NMR are timed with their gradient, without which they are of no use; pyrender and our rasteriser have
    none and need none.
    """
    quick = space.config.quick
    sizes, faces = (QUICK_SIZES, QUICK_FACES) if quick else (SIZES, FACES)
    settings = dict.fromkeys([*((n, SIZE_OF_FACES) for n in faces), *((FACES_OF_SIZES, s) for s in sizes)])
    rows, missing = [], ""
    for name, (make, gradient) in RENDERERS.items():
        try:
            for count, size in settings:
                median, least = measured(make(ring(count), size), 5 if quick else 30)
                rows.append({"renderer": name, "gradient": gradient, "faces": count, "image_size": size,
                             "ms_median": median, "ms_least": least, **space.provenance_columns()})  # fmt: skip
        except MissingDependencyError as cause:
            missing = f"{name}: not measured. {cause}"
    return rows, missing


def plot_runtime(rows: Sequence[Row], path: Path) -> None:
    """Two panels, logarithmic: least time by faces, and by image size; other programs only make times longer."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10.0, 4.0), sharey=True, layout="constrained")
    panels = (
        ("faces", "image_size", SIZE_OF_FACES, f"faces, {SIZE_OF_FACES}x{SIZE_OF_FACES} pixels"),
        ("image_size", "faces", FACES_OF_SIZES, f"side of the image, pixels; {FACES_OF_SIZES} faces"),
    )
    for axis, (along, other, fixed, label) in zip(axes, panels, strict=True):
        for name in dict.fromkeys(row["renderer"] for row in rows):
            own = sorted((r[along], r["ms_least"]) for r in rows if r["renderer"] == name and r[other] == fixed)
            gradient = " (with gradient)" if RENDERERS[name][1] == "yes" else ""
            axis.plot([a for a, _ in own], [b for _, b in own], marker="o", markersize=4, label=f"{name}{gradient}")
        axis.set(xscale="log", yscale="log", xlabel=label)
        ticks = sorted({r[along] for r in rows if r[other] == fixed})
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_xticks([], minor=True)
        axis.grid(True, which="both", color="#e2e2e2", linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("one silhouette, least of several [ms]")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
