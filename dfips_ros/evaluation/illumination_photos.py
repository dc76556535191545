# SPDX-License-Identifier: Apache-2.0
"""Real photographs of a matt sphere under known lights (University of Washington, courtesy of Steven Seitz)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..errors import ConfigError
from ..processes.mesh import Mesh
from ..processes.shading import GAMMA
from ..tasks.illumination import IlluminationEstimator, chrome_sphere
from ..tasks.illumination.metrics import direction_error_deg
from ..tasks.illumination.problem import least_squares_light

DISTANCE = 40.0  # diameters: the photographs have next to no perspective
SIDE = 120
OURS = "ours, 7 stages, refined"


def _sphere_mesh() -> Mesh:
    from trimesh.creation import icosphere

    ball = icosphere(subdivisions=4, radius=0.5)
    return Mesh("sphere", ball.vertices, ball.faces)


def _read(path: Path, grey: bool = False) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    if pixels is None:
        raise ConfigError(f"photos: '{path}' cannot be read as an image.")
    return pixels if grey else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def evaluate_photos(
    folder: str | Path, weights: str | Path | None = None, provenance: Mapping[str, Any] | None = None
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Errors of the direction on each photograph, and a picture of them.

    The photographs are linear; they are gamma-encoded first, as a camera's images are.

    Args:
        folder: has ``lights.txt`` (directions: x right, y up, z towards the camera), ``gray/gray.0.png`` and so on, and
            ``gray/gray.mask.png``.
        weights: of ours; the shipped ones by default.
        provenance: columns to add to each row.

    Returns:
        Rows (photograph, method, degrees, distance of unit directions), means last; (H, W, 3) uint8 RGB.

    Raises:
        ConfigError: a file is missing.
    """
    root = Path(folder).expanduser()
    try:
        lights = np.loadtxt(root / "lights.txt", skiprows=1) * [1.0, -1.0, -1.0]
    except (OSError, ValueError) as cause:
        raise ConfigError(f"photos '{folder}': lights.txt cannot be read ({cause}).") from cause
    mask = _read(root / "gray" / "gray.mask.png", grey=True) > 127
    v, u = np.nonzero(mask)
    radius = (np.ptp(u) + np.ptp(v) + 2) / 4.0
    focal = 2.0 * radius * np.sqrt(DISTANCE**2 - 0.25)
    camera = np.array(
        [[focal, 0.0, (u.min() + u.max()) / 2.0], [0.0, focal, (v.min() + v.max()) / 2.0], [0.0, 0.0, 1.0]]
    )
    pose = np.eye(4)
    pose[2, 3] = DISTANCE
    estimator = IlluminationEstimator.from_mesh(_sphere_mesh(), "directional", weights=weights)
    errors: dict[str, list[tuple[float, float]]] = {OURS: [], "least squares, Lambert (closed form)": []}
    columns = []
    for i, true in enumerate(lights):
        linear = _read(root / "gray" / f"gray.{i}.png").astype(np.float64) / 255.0
        image = np.round(255.0 * linear ** (1.0 / GAMMA)).astype(np.uint8)
        view = estimator.look(image, camera, pose)
        solution = estimator.estimate(image, camera, pose)
        plain = view.R_virtual_camera.T @ least_squares_light(view.observation, False)[0, :3].double().numpy()
        for name, found in zip(errors, (solution.direction, plain), strict=True):
            turn = direction_error_deg(torch.from_numpy(found)[None], torch.from_numpy(true)[None])
            errors[name].append((float(turn), float(np.linalg.norm(found / np.linalg.norm(found) - true))))
        angle = errors[OURS][-1][0]
        columns.append(_column(view.crop, chrome_sphere(solution, SIDE), f"{angle:.1f} deg"))
    rows = []
    for name, values in errors.items():
        mean = tuple(np.mean(values, axis=0))
        for label, (degrees, distance) in [*((str(i), v) for i, v in enumerate(values)), ("mean", mean)]:
            rows.append(
                {"photo": label, "method": name, "degrees": round(float(degrees), 2),
                 "distance": round(float(distance), 4), **(provenance or {})}
            )  # fmt: skip
    return sorted(rows, key=lambda row: row["photo"] == "mean"), np.hstack(columns)


def _column(photo: np.ndarray, sphere: np.ndarray, caption: str) -> np.ndarray:
    strip = np.full((20, SIDE, 3), 255, np.uint8)
    cv2.putText(strip, caption, (6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([cv2.resize(photo, (SIDE, SIDE), interpolation=cv2.INTER_AREA), sphere, strip])
