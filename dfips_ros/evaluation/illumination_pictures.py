# SPDX-License-Identifier: Apache-2.0
"""Pictures of the illumination solver at work: observed, simulated after each stage, residual, light on a sphere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from ..errors import ConfigError
from ..processes.shading import image_values
from ..processes.shading_geometry import draw_geometry, pixel_rays
from ..tasks.illumination import IlluminationEstimator, IlluminationSolution, chrome_sphere
from ..tasks.illumination.crop import ObjectView
from ..tasks.illumination.data import view_vectors

SIDE = 160  # pixels of one picture in a frame
CAPTION = 22


def simulated_picture(
    estimator: IlluminationEstimator, view: ObjectView, estimate: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """The crop as the forward process explains it.

    Returns:
        (S, S) float32 image values 0 to 1 of the strongest channel, and (S, S) bool where the object is.
    """
    size = estimator.config.crop_size
    depth, normal = draw_geometry(estimator.shading, view.pose, view.camera_matrix, (size, size))
    seen = depth > 0
    rays = pixel_rays(view.camera_matrix, (size, size)) * depth[..., None] - view.pose[:3, 3].astype(np.float32)
    position, normals = (torch.from_numpy(a[seen])[None] for a in (rays, normal))
    away = view_vectors(position, torch.tensor([view.pose[2, 3]], dtype=torch.float32))
    o = view.observation
    with torch.no_grad():
        values = image_values(estimate.cpu()[None], position, normals, away, o.limit, estimator.config.point)
    picture = np.zeros((size, size), np.float32)
    picture[seen] = values[0].numpy() * float(o.scale[0])
    return picture, seen


def stage_frames(
    estimator: IlluminationEstimator, image: np.ndarray, camera_matrix: np.ndarray, T_camera_object: np.ndarray
) -> list[np.ndarray]:
    """RGB frames of observed, simulated, residual and sphere: at first, after each stage, and refined."""
    view = estimator.look(image, camera_matrix, T_camera_object)
    solution = estimator.solve(view)
    answer = estimator.estimate(image, camera_matrix, T_camera_object)
    refined = estimator.refine(view, solution)
    best = int(refined.best[0])
    history = [*refined.history[0, best], refined.estimates[0, best]]
    observed = view.crop.max(axis=2).astype(np.float32) / 255.0
    frames = []
    for t, estimate in enumerate(history):
        simulated, seen = simulated_picture(estimator, view, estimate)
        tint = view.tint ** (1.0 / 2.2)
        colored = (255.0 * simulated[..., None] * tint).round().astype(np.uint8)
        residual = np.where(seen, simulated - observed, 0.0)
        parts = [view.crop * seen[..., None].astype(np.uint8), colored, _signed(residual), _sphere(answer, t)]
        title = "initial" if t == 0 else f"after stage {t}" if t < len(history) - 1 else "refined"
        frames.append(_framed(parts, f"{title}: residual {answer.residual_norms[t]:.4f}"))
    return frames


def _sphere(answer: IlluminationSolution, stage: int) -> np.ndarray:
    return chrome_sphere(answer, SIDE, stage)


def _signed(residual: np.ndarray) -> np.ndarray:
    """Grey where simulated and observed agree, lighter where simulated is brighter; four times amplified."""
    grey = np.clip(127.5 + 4.0 * 127.5 * residual, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _framed(parts: Sequence[np.ndarray], caption: str) -> np.ndarray:
    scaled = [cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for part in parts]
    row = np.hstack(scaled)
    strip = np.full((CAPTION, row.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, caption, (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([strip, row])


def write_animation(path: str | Path, frames: Sequence[np.ndarray], milliseconds: int = 700) -> None:
    """Write frames (H, W, 3) uint8 RGB as a GIF that loops; the last one stays longer.

    Raises:
        ConfigError: there are no frames, or the name does not end in .gif.
    """
    from PIL import Image

    file = Path(path)
    if not frames or file.suffix.lower() != ".gif":
        raise ConfigError(f"animation '{path}': expected at least one frame and a name that ends in .gif.")
    file.parent.mkdir(parents=True, exist_ok=True)
    pictures = [Image.fromarray(frame).quantize(96) for frame in frames]
    durations = [milliseconds] * (len(frames) - 1) + [3 * milliseconds]
    pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=durations, loop=0)


def stacked(columns: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Frames of several objects below each other; all must have the same number of frames."""
    return [np.vstack(rows) for rows in zip(*columns, strict=True)]
