# SPDX-License-Identifier: Apache-2.0
"""Pose by gradient descent through a differentiable silhouette: what SoftRas and NMR share.

Adam moves the pose ``apply(initial, u)`` down the slope of one minus the IoU of simulated and observed silhouette,
``1 - sum(S Y) / sum(S + Y - S Y)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_range
from ..errors import ConfigError
from ..solver import Se3ImageSpace, Solution

NEAR = 1e-3


@dataclass(frozen=True)
class DescentConfig:
    """Settings that every descent has.

    Attributes:
        iterations: gradient steps.
        size: side of the simulated image, pixels.
        learning_rate: Adam's, at the first step; it falls to a tenth.
        keep_start: the answer is the initial pose where, drawn as at the last step, it fits better than what was found.
    """

    iterations: int = 300
    size: int = 64
    learning_rate: float = 0.06
    keep_start: bool = False

    def __post_init__(self) -> None:
        check_range("iterations", self.iterations, 1)
        check_range("size", self.size, 8, 1024)
        check_range("learning_rate", self.learning_rate, 1e-9)


class SilhouetteDescent(ABC):
    """Pose from a silhouette by gradient descent; an ``Estimator`` of batches of (mask, camera).

    It works where the initial poses are: on the CPU or a CUDA device.

    Args:
        vertices: (V, 3) of the object, centered, of diameter one.
        faces: (F, 3); about a thousand are enough.
        config: see :class:`DescentConfig`.
    """

    judged_from = 0.0  # part of the descent before which images are not comparable with later ones

    def __init__(self, vertices: Tensor, faces: Tensor, config: DescentConfig) -> None:
        self.vertices, self.faces, self.descent = vertices, faces, config
        self.space = Se3ImageSpace()

    @abstractmethod
    def silhouette(self, corners: Tensor, inverse_depth: Tensor, progress: float) -> Tensor:
        """Simulated silhouette (size, size), differentiable in ``corners``.

        Args:
            corners: (F, 3, 2) projected triangles in normalised image coordinates, [-1, 1] across the image.
            inverse_depth: (F, 3) of the corners, per diameter.
            progress: 0 at the first step, 1 at the last one.
        """

    def estimate(self, observation: tuple[Tensor, Tensor], initial: Tensor | None = None) -> Solution:
        """Descend from ``initial``.

        Args:
            observation: masks (B, S, S) float in [0, 1] and cameras (B, 3, 3) of S x S images.
            initial: (B, 4, 4).

        Raises:
            ConfigError: no initial estimate was given.
        """
        if initial is None:
            raise ConfigError("initial: descent needs an initial estimate (B, 4, 4), got None.")
        masks, cameras = (part.to(initial) for part in observation)
        parts = [self._descend(m, k, x) for m, k, x in zip(masks, cameras, initial, strict=True)]
        norms = torch.stack([n for _, n in parts])
        history = (initial, torch.stack([x for x, _ in parts]))
        return Solution(history[-1], history, norms)

    def _descend(self, mask: Tensor, camera: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        c = self.descent
        target = torch.nn.functional.interpolate(mask[None, None], (c.size, c.size), mode="area")[0, 0]
        pose = initial.detach().clone()[None]
        update = pose.new_zeros(1, 6).requires_grad_(True)
        optimizer = torch.optim.Adam([update], lr=c.learning_rate)
        losses = []
        best, least = pose[0].clone(), float("inf")
        for i in range(c.iterations):
            progress = i / max(c.iterations - 1, 1)
            optimizer.param_groups[0]["lr"] = c.learning_rate * 0.1**progress
            moved = self.space.apply(pose, update)
            loss = self._loss(moved[0], target, camera, mask.shape[-1], progress)
            optimizer.zero_grad()
            loss.backward()
            losses.append(float(loss.detach()))
            if progress >= self.judged_from and losses[-1] < least:
                best, least = moved[0].detach().clone(), losses[-1]
            optimizer.step()
        if c.keep_start:
            with torch.no_grad():
                start, end = (self._loss(x, target, camera, mask.shape[-1], 1.0) for x in (pose[0], best))
            best = pose[0].clone() if start <= end else best
        return best, initial.new_tensor([losses[0], min(losses)])

    def _loss(self, pose: Tensor, target: Tensor, camera: Tensor, side: int, progress: float) -> Tensor:
        """One minus the IoU at a pose (4, 4)."""
        image = self.silhouette(*self._project(pose, camera, side), progress)
        return 1.0 - (image * target).sum() / (image + target - image * target).sum().clamp_min(1e-6)

    def _project(self, pose: Tensor, camera: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Corners (F, 3, 2) of the triangles in normalised image coordinates, and their inverse depths (F, 3)."""
        faces = self.faces.to(pose.device)
        points = self.vertices.to(pose) @ pose[:3, :3].T + pose[:3, 3]
        z = points[:, 2:].clamp_min(NEAR)
        image = points[:, :2] / z * camera[0, 0] + camera[:2, 2]
        return ((image + 0.5) * (2.0 / side) - 1.0)[faces], (1.0 / z[:, 0])[faces]
