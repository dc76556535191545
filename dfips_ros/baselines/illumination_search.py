# SPDX-License-Identifier: Apache-2.0
"""Light by derivative-free search (Nelder and Mead 1965) through any shading process."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from ..processes.shading import LOWER, UPPER

STEPS = (0.3, 0.3, 0.3, 0.5, 0.2, 0.2, 0.2, 0.05)  # first simplex: light, then log-intensity, material, ambient


def nelder_mead_light(
    residual_norm: Callable[[np.ndarray], float], initial: np.ndarray, point: bool, evaluations: int = 400
) -> tuple[np.ndarray, float]:
    """Search light and material.

    Args:
        residual_norm: estimate (8,) -> size of simulated - observed.
        initial: (8,) light and material, see :func:`~dfips_ros.processes.shading.radiance`.
        point: whether the light is a point light.
        evaluations: at most so many calls of ``residual_norm``.

    Returns:
        (3,) unit direction or position in diameters, and the residual norm.
    """

    def valid(x: np.ndarray) -> np.ndarray:
        out = np.concatenate([x[:3], np.clip(x[3:], LOWER, UPPER)])
        if not point:
            out[:3] /= max(float(np.linalg.norm(out[:3])), 1e-9)
        return out

    start = np.asarray(initial, np.float64)
    simplex = np.vstack([start, start + np.diag(np.where(start + STEPS > [9.0] * 3 + list(UPPER), -1.0, 1.0) * STEPS)])
    found = minimize(
        lambda x: residual_norm(valid(x)), start, method="Nelder-Mead",
        options={"maxfev": evaluations, "initial_simplex": simplex, "adaptive": True, "xatol": 1e-4, "fatol": 1e-6},
    )  # fmt: skip
    return valid(found.x)[:3], float(found.fun)
