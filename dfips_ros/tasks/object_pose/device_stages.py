# SPDX-License-Identifier: Apache-2.0
"""The learned stages unrolled on a device, without ever waiting for it: for a GPU, and for thousands of poses at once.

The same solver as :class:`~dfips_ros.solver.FeedbackSolver` with :class:`ContourGaussNewtonStage` (a test compares the
two). Nothing here has a size that depends on the data, so that a CUDA graph can record it; where the solver would leave
elements out, all are worked on and the outcome is chosen afterwards.
"""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor
from torch.nn.functional import linear

from ...errors import ConfigError
from ...geometry import so3_exp
from ...networks.contour_gauss_newton import EPSILON, ROTATION_KNEE, ContourGaussNewtonStage
from ...processes.device_contour import compare, observed_moments, simulated_iou
from ...processes.device_meshes import DeviceMeshes, has_kernels
from ...processes.observation import SilhouetteObservation
from ...solver import FeedbackFeatures, FeedbackSolver, Solution
from .problem import ContourFeedback, MeshSet, difference_images

_FAR = 1e6  # diameters; no pose goes there
MOST_FUSED_WIDTH = 128  # of a network; a wider one takes too much memory of the one program that reads all rows
_INPUTS = ("rows", "jacobian", "residual", "weight", "context")


def solve_positive(matrix: Tensor, right: Tensor) -> Tensor:
    """``matrix^-1 right`` of positive definite matrices by Gauss-Jordan elimination: (B, N, N), (B, N, M) -> (B, N, M).

    The solvers of PyTorch may wait for the device, which a CUDA graph forbids.
    """
    size = matrix.shape[-1]
    m = torch.cat([matrix, right], dim=-1)
    row = torch.arange(size, device=matrix.device)[:, None]
    for k in range(size):
        pivot = m[:, k : k + 1] / m[:, k : k + 1, k : k + 1]
        m = torch.where(row == k, pivot, m - m[:, :, k : k + 1] * pivot)
    return m[..., size:]


def moved(pose: Tensor, update: Tensor) -> Tensor:
    """``Se3ImageSpace.apply`` without a tensor made on the host: (B, 4, 4), (B, 6) -> (B, 4, 4)."""
    growth = torch.exp(update[:, 5:].clamp(-10.0, 10.0))
    xy = growth * (pose[:, :2, 3] + update[:, 3:5])
    translation = torch.cat([xy, growth * pose[:, 2:3, 3]], dim=1)
    top = torch.cat([so3_exp(update[:, :3]) @ pose[:, :3, :3], translation[..., None]], dim=2)
    return torch.cat([top, pose[:, 3:]], dim=1)


def _pool(hidden: Tensor, known: Tensor) -> Tensor:
    return torch.cat([hidden.amax(1), hidden.sum(1) / known.sum(1, keepdim=True).clamp_min(1.0)], dim=-1)


def _layer(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def read_rows(weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The set network of a stage: log-weights and corrections (B, N, 2), and what describes all rows (B, D)."""
    known, context = inputs["weight"], inputs["context"]
    mask = known[..., None]
    hidden = torch.relu(_layer(weights, "row_in.0", inputs["rows"]))
    hidden = torch.relu(_layer(weights, "row_in.2", hidden)) * mask
    shared = _layer(weights, "context_mix", torch.cat([_pool(hidden, known), context], dim=-1))
    hidden = torch.relu(_layer(weights, "row_mix", hidden) + shared[:, None]) * mask
    return _layer(weights, "row_out", hidden), torch.cat([_pool(hidden, known), context], dim=-1)


def read_system(weights: dict[str, Tensor], described: Tensor, extras: Tensor) -> Tensor:
    """The head of a stage: dampings and additive step (B, 12)."""
    out = torch.relu(_layer(weights, "head.0", torch.cat([described, extras], dim=-1)))
    return _layer(weights, "head.4", torch.relu(_layer(weights, "head.2", out)))


def stage_update(weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
    """``ContourGaussNewtonStage.forward`` with the weights of its ``state_dict`` -> update (B, 6)."""
    row_out, described = read_rows(weights, inputs)
    log_weight, correction = row_out.unbind(-1)
    jacobian, residual = inputs["jacobian"], inputs["residual"]
    robust = inputs["weight"] / (1.0 + 10.0 * residual.abs()) / residual.shape[1]
    weight = torch.exp(log_weight.clamp(-6.0, 5.0)) * robust
    weighted = (jacobian * weight[..., None]).transpose(1, 2)
    matrix, vector = weighted @ jacobian, weighted @ (residual + 0.1 * correction)[..., None]
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    identity = torch.eye(6, device=matrix.device)
    free = -solve_positive(matrix + (0.01 * diagonal + EPSILON)[:, None] * identity, vector)[..., 0]
    stiffness = torch.log((jacobian * jacobian * robust[..., None]).sum(1) + 1e-4)
    out = read_system(weights, described, torch.cat([free.clamp(-2.0, 2.0), stiffness], dim=-1))
    damping = torch.exp((weights["base_damping"] + out[:, :6]).clamp(-9.0, 6.0))
    step = solve_positive(matrix + (diagonal * damping + EPSILON)[:, None] * identity, vector)[..., 0]
    update = 0.3 * out[:, 6:] - step
    angle = torch.sqrt((update[:, :3] ** 2).sum(1, keepdim=True))
    return torch.cat([update[:, :3] / torch.sqrt(1.0 + (angle / ROTATION_KNEE) ** 2), update[:, 3:]], dim=1)


def chosen(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Elements of ``a`` where ``mask`` (B,) is true, of ``b`` elsewhere; (B, *X) each."""
    return torch.where(mask.reshape(-1, *([1] * (a.ndim - 1))), a, b)


def expanded(observation: SilhouetteObservation, count: int) -> SilhouetteObservation:
    """One observation, ``count`` times; others as they are."""
    if len(observation) != 1 or count == 1:
        return observation
    parts = {f.name: getattr(observation, f.name) for f in fields(observation)}
    parts = {name: part.expand(count, *part.shape[1:]).contiguous() for name, part in parts.items()}
    return SilhouetteObservation(**parts)


def on_device(observation: SilhouetteObservation, device: torch.device) -> SilhouetteObservation:
    """The same in tensors on a device; what is there already is not copied."""
    parts = {f.name: torch.as_tensor(getattr(observation, f.name)) for f in fields(observation)}
    return SilhouetteObservation(**{name: part.to(device, non_blocking=True) for name, part in parts.items()})


class DeviceFeedback:
    """``ContourFeedback`` on a device: what training on a GPU compares with, in the place of the CPU's.

    Args:
        meshes: what may be seen; an observation's ``mesh_index`` picks one.
        device: where everything runs.
    """

    def __init__(self, meshes: MeshSet, device: torch.device) -> None:
        self.meshes = meshes
        self.device_meshes = DeviceMeshes(meshes.packed, meshes.surface, device)
        self.sampling: torch.Generator | None = None  # set while training: contour points are drawn at random

    def __call__(self, observation: SilhouetteObservation, estimate: Tensor) -> FeedbackFeatures:
        """B observations and poses (B, 4, 4) of the normalised object -> features on the device."""
        device = self.device_meshes.device
        offset = None
        if self.sampling is not None:
            offset = torch.rand(len(estimate), generator=self.sampling, device=self.sampling.device).to(device)
        out = compare(self.device_meshes, on_device(observation, device), estimate, offset=offset)
        return FeedbackFeatures({name: out[name] for name in _INPUTS}, out["norm"])


class DeviceImageFeedback:
    """``ImageFeedback`` on a device, for training there.

    Args:
        meshes: what may be seen; an observation's ``mesh_index`` picks one.
        device: where everything runs.
    """

    def __init__(self, meshes: MeshSet, device: torch.device) -> None:
        self.meshes = meshes
        self.device_meshes = DeviceMeshes(meshes.packed, meshes.surface, device)
        self.sampling: torch.Generator | None = None  # nothing is sampled

    def __call__(self, observation: SilhouetteObservation, estimate: Tensor) -> FeedbackFeatures:
        """B observations and poses (B, 4, 4) of the normalised object -> features on the device."""
        seen = on_device(observation, self.device_meshes.device)
        inverse = self.device_meshes.inverse_depth(seen.mesh_index, estimate, seen.camera, seen.mask.shape[-1])
        images, scale = difference_images(seen, 1.0 / inverse.clamp_min(1e-12) * (inverse > 0), estimate)
        return FeedbackFeatures({"images": images, "scale": scale}, 1.0 - simulated_iou(inverse, seen))


class DeviceStages:
    """A :class:`FeedbackSolver` of the contour kind on a device; an ``Estimator``.

    Args:
        solver: whose weights, meshes and configuration are taken; later changes of its weights are not noticed.
        device: where everything runs.

    Raises:
        ConfigError: the solver's feedback or stages are of another kind.
    """

    def __init__(self, solver: FeedbackSolver, device: torch.device) -> None:
        stages = [stage for stage in solver.stages if isinstance(stage, ContourGaussNewtonStage)]
        if len(stages) != len(solver.stages) or not isinstance(solver.feedback, ContourFeedback):
            raise ConfigError(
                "DeviceStages: expected contour feedback and contour stages. Unroll other solvers with "
                "FeedbackSolver.estimate."
            )
        self.config, self.device = solver.config, device
        meshes = solver.feedback.meshes
        self.meshes = DeviceMeshes(meshes.packed, meshes.surface, device)
        self._weights = [{k: w.detach().clone().to(device) for k, w in stage.state_dict().items()} for stage in stages]

    @torch.no_grad()
    def estimate(
        self, observation: SilhouetteObservation, initial: Tensor | None = None, num_stages: int | None = None
    ) -> Solution:
        """As :meth:`FeedbackSolver.estimate`; a single observation may have several initial poses.

        Raises:
            ConfigError: no initial estimate was given.
        """
        if initial is None:
            raise ConfigError("initial: the feedback solver needs an initial estimate (B, 4, 4), got None.")
        best, history, norms = self.unroll(observation, initial, num_stages)
        return Solution(best, history.unbind(0), norms)

    def unroll(
        self, observation: SilhouetteObservation, initial: Tensor, num_stages: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`estimate` -> what was found (B, 4, 4), the history (T+1, B, 4, 4), and residual norms (B, T+1)."""
        estimate = torch.as_tensor(initial).to(self.device, torch.float32)
        observation = expanded(on_device(observation, self.device), len(estimate))
        moments = observed_moments(observation)
        count = self.config.num_stages if num_stages is None else num_stages
        fused = has_kernels(self.device) and len(self._weights[0]["row_mix.bias"]) <= MOST_FUSED_WIDTH
        return (self._with_kernels if fused else self._with_torch)(observation, estimate, count, moments)

    def _with_torch(
        self, observation: SilhouetteObservation, estimate: Tensor, count: int, moments: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        c = self.config
        features = compare(self.meshes, observation, estimate, moments)
        history, norms = [estimate], [features["norm"]]
        best, best_norm = estimate, norms[0]
        for t in range(count):
            weights, norm = self._weights[min(t, len(self._weights) - 1)], norms[-1]
            wanted = torch.ones_like(norm, dtype=torch.bool) if c.enough == 0.0 else ~(norm <= c.enough)
            update = stage_update(weights, features)
            for k in range(c.max_scalings + 1 if c.adaptive else 1):
                trial = moved(history[-1], update * c.scaling**k)
                found = self._compare(observation, trial, moments, t == count - 1)
                accepted = wanted & (trial.abs().amax((1, 2)) < _FAR)  # not a number is not less either
                if c.adaptive:
                    accepted = accepted & (found["norm"] <= norm * (1.0 + c.tolerance))
                estimate = chosen(accepted, trial, estimate)
                features = {name: chosen(accepted, new, features[name]) for name, new in found.items()}
                wanted = wanted & ~accepted
            history.append(estimate)
            norms.append(features["norm"])
            better = norms[-1] <= best_norm if c.keep_best else torch.ones_like(wanted)
            best, best_norm = chosen(better, estimate, best), chosen(better, norms[-1], best_norm)
        return best, torch.stack(history), torch.stack(norms, dim=1)

    def _with_kernels(
        self, observation: SilhouetteObservation, estimate: Tensor, count: int, moments: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        from ...processes.cuda_contour import comparison
        from ...processes.cuda_silhouette import image_sums
        from ...processes.cuda_stages import Rule, Unrolling

        c, size = self.config, observation.mask.shape[-1]
        rule = Rule(
            scales=c.max_scalings + 1 if c.adaptive else 1, scaling=c.scaling, limit=1.0 + c.tolerance,
            enough=c.enough or -1.0,  # no norm is below zero
            far=_FAR, adaptive=c.adaptive, keep_best=c.keep_best, epsilon=EPSILON, knee=ROTATION_KNEE,
        )  # fmt: skip
        made = Unrolling(estimate.contiguous(), size, count, rule)
        index, cameras, surface = observation.mesh_index, observation.camera, self.meshes.surface
        images, sums = made.images[: len(estimate)], made.sums[0, : len(estimate)]
        self.meshes.inverse_depth(index, estimate, cameras, size, onto=images)
        comparison(images, observation, estimate.contiguous(), surface, moments, None, sums, (None, made.features))
        for t in range(count):
            made.step(self._weights[min(t, len(self._weights) - 1)], t)
            trials, sums = made.trials[t], made.sums[t + 1]
            self.meshes.inverse_depth(index, trials, cameras, size, onto=made.images)
            if t < count - 1:
                kept = made.present[t], made.features
                comparison(made.images, observation, trials, surface, moments, None, sums, kept)
            else:  # after the last update the residual norm is enough
                image_sums(made.images, observation, sums)
        return made.best(), made.history, made.norms

    def _compare(
        self, observation: SilhouetteObservation, estimate: Tensor, moments: Tensor, norm_alone: bool
    ) -> dict[str, Tensor]:
        """The features of estimates; after the last update their residual norm is enough."""
        if not norm_alone:
            out = compare(self.meshes, observation, estimate, moments)
            return {name: out[name] for name in (*_INPUTS, "norm")}
        size = observation.mask.shape[-1]
        inverse = self.meshes.inverse_depth(observation.mesh_index, estimate, observation.camera, size)
        return {"norm": 1.0 - simulated_iou(inverse, observation)}
