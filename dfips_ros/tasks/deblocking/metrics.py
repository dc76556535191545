# SPDX-License-Identifier: Apache-2.0
"""How good a restored image is: PSNR, SSIM and PSNR-B, by the conventions of the published tables.

Arrays are (H, W) grey levels in [0, 255] unless said otherwise.
"""

from __future__ import annotations

import cv2
import numpy as np

from ...errors import ShapeError
from ...processes.jpeg import BLOCK


def _pair(estimate: np.ndarray, ground_truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if estimate.shape != ground_truth.shape or estimate.size == 0:
        raise ShapeError(f"estimate: expected the ground truth's shape {ground_truth.shape}, got {estimate.shape}.")
    return np.asarray(estimate, np.float64), np.asarray(ground_truth, np.float64)


def psnr(estimate: np.ndarray, ground_truth: np.ndarray, peak: float = 255.0) -> float:
    """``10 log10(peak^2 / MSE)`` in dB; infinite where both are equal."""
    a, b = _pair(estimate, ground_truth)
    return _decibels(float(np.mean((a - b) ** 2)), peak)


def _decibels(mean_square: float, peak: float) -> float:
    return float("inf") if mean_square == 0 else float(10 * np.log10(peak**2 / mean_square))


def ssim(estimate: np.ndarray, ground_truth: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004): 11x11 Gaussian window of sigma 1.5, valid part only, K = (0.01, 0.03).

    Raises:
        ShapeError: shapes differ, or a side is below 11 pixels.
    """
    a, b = _pair(estimate, ground_truth)
    if a.ndim != 2 or min(a.shape) < 11:
        raise ShapeError(f"estimate: expected (H, W) with sides of at least 11 pixels for SSIM, got {a.shape}.")
    window = cv2.getGaussianKernel(11, 1.5)

    def mean(image: np.ndarray) -> np.ndarray:
        return cv2.sepFilter2D(image, -1, window, window)[5:-5, 5:-5]

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    index = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return float(index.mean())


def psnr_b(estimate: np.ndarray, ground_truth: np.ndarray) -> float:
    """PSNR with the blocking effect of the estimate counted as error (Yim and Bovik 2011), in dB.

    The squared steps across block borders are compared with those elsewhere; only if they are larger, the surplus
    ``eta (D_b - D_c)`` with ``eta = log2(8) / log2(min(H, W))`` is added to the mean square error.
    """
    a, b = _pair(estimate, ground_truth)
    height, width = a.shape
    across = (a[:, 1:] - a[:, :-1]) ** 2
    down = (a[1:] - a[:-1]) ** 2
    border_x = np.arange(1, width) % BLOCK == 0
    border_y = np.arange(1, height) % BLOCK == 0
    at = across[:, border_x].sum() + down[border_y].sum()
    at_count = max(across[:, border_x].size + down[border_y].size, 1)
    off = across[:, ~border_x].sum() + down[~border_y].sum()
    off_count = max(across[:, ~border_x].size + down[~border_y].size, 1)
    surplus = at / at_count - off / off_count
    effect = np.log2(BLOCK) / np.log2(max(min(height, width), 2)) * max(surplus, 0.0)
    return _decibels(float(np.mean((a - b) ** 2)) + float(effect), 255.0)
