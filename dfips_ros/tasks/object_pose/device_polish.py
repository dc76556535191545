# SPDX-License-Identifier: Apache-2.0
"""The polish on a device: :class:`~.gauss_newton.ContourGaussNewton` for a batch, without ever waiting for the device.

All dampings of a step are tried at the same time, and the first that raises the IoU is taken. Elements that have
stopped cost next to nothing: their images are not drawn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import ConfigError
from ...processes.device_contour import MOST_POINTS, distance_at, jacobian_of, known_iou, simulated_iou
from ...processes.device_meshes import DeviceMeshes, has_kernels
from ...processes.device_observation import contour_of
from ...processes.observation import SilhouetteObservation
from ...solver import Solution
from .device_stages import chosen, expanded, moved, on_device, solve_positive
from .gauss_newton import GaussNewtonConfig
from .problem import MeshSet

_REACH = 14.0  # pixels that a normal is followed for the simulated contour
_STEPS = int(2 * _REACH)  # half a pixel each
_STRIDE_ROWS = 512  # a contour of at least twice so many pixels is thinned
_LEAST_POINTS = 8


def crossings(seen: Tensor, contour: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where masks end along the normals of contour points.

    Args:
        seen: (B, S, S) bool.
        contour: (B, N, 4) u, v and normal.

    Returns:
        Signed distance along the normal (B, N), the last pixel inside as a flat place (B, N) int64, and whether there
        is a crossing nearby (B, N) bool.
    """
    size = seen.shape[-1]
    flat = seen.flatten(1)
    u, v, nu, nv = (c[..., None] for c in contour.unbind(-1))
    here = flat.gather(1, (v.long() * size + u.long())[..., 0])
    direction = torch.where(here, 1.0, -1.0)[..., None]
    step = 0.5 * torch.arange(1, _STEPS + 1, device=seen.device)
    # Truncated towards zero, as a conversion to integers does it.
    x = (u + direction * step * nu + 0.5).long()
    y = (v + direction * step * nv + 0.5).long()
    outside = (x < 0) | (y < 0) | (x >= size) | (y >= size)
    place = y.clamp(0, size - 1) * size + x.clamp(0, size - 1)
    there = flat.gather(1, place.flatten(1)).reshape(place.shape)
    k = torch.arange(_STEPS, device=seen.device)
    first = torch.where(outside | (there != here[..., None]), k, _STEPS).amin(-1)
    index = first.clamp_max(_STEPS - 1)[..., None]
    found = (first < _STEPS) & ~outside.gather(-1, index)[..., 0]
    before = torch.where(here[..., None], (index - 1), index).clamp_min(0)
    inside = place.gather(-1, before)[..., 0]
    start = (v + 0.5).long() * size + (u + 0.5).long()
    inside = torch.where(here & (first == 0), start[..., 0], inside)
    return direction[..., 0] * 0.5 * (index[..., 0] + 1), inside, found


def system(
    inverse: Tensor, observation: SilhouetteObservation, reach: Tensor, reached: Tensor, pose: Tensor, robust: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normal equations of robust contour distances in both directions.

    Args:
        inverse: (B, S, S) simulated inverse depth.
        observation: B observations.
        reach, reached: from :func:`crossings` of the observed masks.
        pose: (B, 4, 4).
        robust: pixels; residuals of this size get half the weight.

    Returns:
        Matrices (B, 6, 6) and vectors (B, 6) float64, and how many contour pixels there were (B,).
    """
    size = inverse.shape[-1]
    seen, flat = inverse > 0, inverse.flatten(1)
    contour = contour_of(seen)
    count = contour.count[:, None]
    stride = torch.div(count, _STRIDE_ROWS, rounding_mode="floor").clamp_min(1)
    j = torch.arange(MOST_POINTS, device=inverse.device, dtype=torch.int32) * stride
    place = contour.pixel(j)
    found, inside, crosses = crossings(seen, observation.contour)
    place = torch.cat([place, inside], dim=1)
    x, y = (place % size).float(), torch.div(place, size, rounding_mode="floor").float()
    s, gradient = distance_at(observation.signed_distance, x[:, :MOST_POINTS], y[:, :MOST_POINTS])
    length = torch.sqrt((gradient * gradient).sum(-1))
    unit = gradient / length.clamp_min(0.3)[..., None]
    valid = observation.valid.flatten(1).gather(1, place[:, :MOST_POINTS]) > 0
    simulated = (j < count) & valid & (length > 0.3)
    observed = (observation.contour_valid > 0) & reached & crosses & (flat.gather(1, inside) > 0)
    known = torch.cat([simulated, observed], dim=1)
    r = torch.where(known, torch.cat([s + 0.5, found - reach], dim=1), 0.0)
    z = 1.0 / torch.where(known, flat.gather(1, place), 1.0)
    camera = observation.camera
    jacobian, _, scale = jacobian_of(
        torch.cat([unit, observation.contour[..., 2:]], dim=1), x, y, z,
        (camera[:, 0, 0, None], camera[:, 0, 2, None], camera[:, 1, 2, None]), pose[:, :3, 3].float(),
    )  # fmt: skip
    weight = known / (1.0 + r.abs() / robust)
    jacobian, residual = jacobian.double(), (r * scale).double()
    weighted = (jacobian * weight[..., None]).transpose(1, 2)
    return weighted @ jacobian, (weighted @ residual[..., None])[..., 0], contour.count


class DevicePolish:
    """Levenberg-damped Gauss-Newton on contour distances for a batch; an ``Estimator`` of silhouette observations.

    Args:
        meshes: what may be seen.
        config: see :class:`GaussNewtonConfig`.
        device: where everything runs.
    """

    def __init__(self, meshes: MeshSet, config: GaussNewtonConfig, device: torch.device) -> None:
        self.meshes = DeviceMeshes(meshes.packed, meshes.surface, device)
        self.config, self.device = config, device

    @torch.no_grad()
    def estimate(self, observation: SilhouetteObservation, initial: Tensor | None = None) -> Solution:
        """Minimise from ``initial`` (B, 4, 4), poses of the normalised objects in the crops' cameras.

        A single observation may have several initial poses. The history has an entry for every step that may be taken;
        poses are in float64.

        Raises:
            ConfigError: no initial estimate was given.
        """
        if initial is None:
            raise ConfigError("initial: contour Gauss-Newton needs an initial estimate (B, 4, 4), got None.")
        history, norms = self.unroll(observation, initial)
        return Solution(history[-1], history.unbind(0), norms)

    @torch.no_grad()
    def unroll(self, observation: SilhouetteObservation, initial: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`estimate` -> the history (T+1, B, 4, 4) and 1 - IoU (B, T+1)."""
        pose = torch.as_tensor(initial).to(self.device, torch.float64).contiguous()
        observation = expanded(on_device(observation, self.device), len(pose))
        return (self._with_kernels if has_kernels(self.device) else self._with_torch)(observation, pose)

    def _draw(self, observation: SilhouetteObservation, poses: Tensor, active: Tensor | None = None) -> Tensor:
        """Inverse depths (A * B, S, S) at poses (A * B, 4, 4), the observation last."""
        size = observation.mask.shape[-1]
        return self.meshes.inverse_depth(observation.mesh_index, poses, observation.camera, size, active)

    def _with_torch(
        self, observation: SilhouetteObservation, pose: Tensor
    ) -> tuple[Tensor, Tensor]:
        reach, _, reached = crossings(observation.mask > 0, observation.contour)
        c, shape = self.config, (self.config.attempts, *observation.mask.shape)
        inverse = self._draw(observation, pose)
        best = simulated_iou(inverse, observation)
        damping = torch.full_like(best, c.damping, dtype=torch.float64)
        running = torch.ones_like(best, dtype=torch.bool)
        history, ious = [pose], [best]
        for _ in range(c.iterations):
            matrix, vector, points = system(inverse, observation, reach, reached, pose, c.robust_pixels)
            running = running & (points >= _LEAST_POINTS) & (best < c.enough)
            trials = moved(pose.repeat(c.attempts, 1, 1), self._damped_updates(matrix, vector, damping))
            drawn = self._draw(observation, trials, running).reshape(shape)
            trials = trials.reshape(c.attempts, -1, 4, 4)
            trial_ious = known_iou(drawn > 0, observation)
            helps = running & (trial_ious > best)  # (A, B)
            before, next_damping = best, damping
            for a in reversed(range(c.attempts)):  # the first attempt that helps wins
                pose, inverse = chosen(helps[a], trials[a], pose), chosen(helps[a], drawn[a], inverse)
                best = torch.where(helps[a], trial_ious[a], best)
                next_damping = torch.where(helps[a], damping * 5.0 ** (a - 1), next_damping)
            damping = next_damping.clamp_min(1e-4)
            running = helps.any(0) & ~(best - before < c.least_gain)
            history.append(pose)
            ious.append(best)
        return torch.stack(history), 1.0 - torch.stack(ious, dim=1)

    def _with_kernels(self, observation: SilhouetteObservation, pose: Tensor) -> tuple[Tensor, Tensor]:
        from ...processes.cuda_polish import Limits, Polishing
        from ...processes.cuda_silhouette import image_sums

        c, size, count = self.config, observation.mask.shape[-1], len(pose)
        made = Polishing(
            observation, pose,
            Limits(
                iterations=c.iterations, attempts=c.attempts, damping=c.damping, least_gain=c.least_gain,
                enough=c.enough, robust=c.robust_pixels, steps=_STEPS, least_points=_LEAST_POINTS,
                stride_rows=_STRIDE_ROWS,
            ),
        )  # fmt: skip
        index, cameras = observation.mesh_index, observation.camera
        first = self.meshes.inverse_depth(index, pose, cameras, size, onto=made.images[:count])
        image_sums(first, observation, made.sums[0, :count], made.row_counts[:count])
        for t in range(c.iterations):
            made.step(t)
            active, present = made.active[t], made.present[t]
            self.meshes.inverse_depth(index, made.trials[t], cameras, size, active, made.images, present)
            image_sums(made.images, observation, made.sums[t + 1], made.row_counts, (active, present))
        made.end()
        return made.history, made.norms

    def _damped_updates(self, matrix: Tensor, vector: Tensor, damping: Tensor) -> Tensor:
        """Steps (A * B, 6) with each of the dampings that are tried."""
        factor = 5.0 ** torch.arange(self.config.attempts, device=matrix.device, dtype=torch.float64)
        diagonal = matrix.diagonal(dim1=1, dim2=2)
        lift = (factor[:, None] * damping)[..., None] * (diagonal + 1e-3) + 1e-6  # (A, B, 6)
        identity = torch.eye(6, device=matrix.device, dtype=torch.float64)
        damped = matrix + lift[..., None] * identity
        steps = -solve_positive(damped.flatten(0, 1), vector.repeat(self.config.attempts, 1)[..., None])[..., 0]
        return torch.cat([steps[:, :3].clamp(-0.7, 0.7), steps[:, 3:].clamp(-0.4, 0.4)], dim=1)
