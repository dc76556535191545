# SPDX-License-Identifier: Apache-2.0
"""The illumination problem: what is compared, where estimates live, and the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import CheckpointError, DfipsError
from ...networks.light_gauss_newton import GaussNewtonStep, LightGaussNewtonStage
from ...processes.shading import (
    ALBEDO,
    AMBIENT,
    GAMMA,
    LOG_INTENSITY,
    LOWER,
    METALLIC,
    ROUGHNESS,
    UPPER,
    light_vectors,
)  # fmt: skip
from ...processes.shading_jacobian import image_jacobian
from ...processes.shading_pyrender import PyrenderShading
from ...processes.shading_search import search_lights
from ...solver import (
    Checkpoint,
    FeedbackFeatures,
    FeedbackSolver,
    JointBoxSpace,
    Solution,
    SolverConfig,
    SphereSpace,
    load_checkpoint,
)  # fmt: skip
from .config import IlluminationConfig

MATERIAL = slice(3, 8)
DISTANCE_RANGE = (0.55, 6.0)  # of a point light, diameters
ROW_FEATURES = {False: 27, True: 28}
CONTEXT_FEATURES = 9
MATERIAL_LOSS = 0.05
NEAR_LOSS = 0.2
NEAR = 0.05  # unit directions, or diameters
REFINED, REFINING_STEPS = 3, 6
EQUAL = 0.005  # of a residual norm: what two candidates may differ by and explain a picture equally


@dataclass(frozen=True)
class LightObservation:
    """Pixels of one object each in a batch of images; it is indexed like a tensor.

    Attributes:
        values: (B, N) luminance of the gamma-encoded image over ``scale``.
        position: (B, N, 3) surface points, diameters from the object's center, axes of the virtual camera.
        normal: (B, N, 3) unit.
        view: (B, N, 3) unit, towards the camera.
        weight: (B, N) how much of the object's area a pixel stands for, mean one.
        limit: (B,) value of a saturated pixel.
        scale: (B,) gamma-encoded image value that became one.
        scene: (B,) int64 which scene of a :class:`PyrenderFeedback` an element belongs to.
        pixel: (B, N) int64 index of the pixel in the crop.
    """

    values: Tensor
    position: Tensor
    normal: Tensor
    view: Tensor
    weight: Tensor
    limit: Tensor
    scale: Tensor
    scene: Tensor
    pixel: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Tensor) -> LightObservation:
        return LightObservation(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, device: torch.device | str) -> LightObservation:
        """A copy on a device."""
        return LightObservation(*(getattr(self, f.name).to(device) for f in fields(self)))


class LightSpace:
    """Where the estimates (B, 8) live: a light, then a material within its bounds.

    The part of an update across the light's direction turns it along a great circle; of a point light, the part along
    it is the change of the logarithm of its distance. The material moves within a box.

    Args:
        point: whether the light is a point light.
    """

    def __init__(self, point: bool) -> None:
        self.point = point
        self.update_shape: tuple[int, ...] = (8,)
        self._sphere = SphereSpace()
        self._box = JointBoxSpace(torch.tensor(LOWER), torch.tensor(UPPER))

    def apply(self, estimate: Tensor, update: Tensor) -> Tensor:
        """(B, 8), (B, 8) -> (B, 8)."""
        light, step = estimate[:, :3], update[:, :3]
        distance = torch.linalg.vector_norm(light, dim=1, keepdim=True)
        direction = light / distance
        turned = self._sphere.apply(direction, step)
        if self.point:
            along = (step * direction).sum(1, keepdim=True)
            distance = (distance * torch.exp(along.clamp(-3.0, 3.0))).clamp(*DISTANCE_RANGE)
            turned = distance * turned
        turned = torch.where((step == 0).all(1, keepdim=True), light, turned)  # the same to the last bit
        return torch.cat([turned, self._box.apply(estimate[:, MATERIAL], update[:, MATERIAL])], dim=1)


def light_axes(light: Tensor) -> Tensor:
    """(B, 3, 3): two columns across the direction of the light, the first towards the camera, and one along it."""
    along = light / torch.linalg.vector_norm(light, dim=1, keepdim=True)
    camera = torch.zeros_like(along)
    camera[:, 2] = -1.0
    side = torch.zeros_like(along)
    side[:, 0] = 1.0
    seen = torch.where(along[:, 2:].abs() < 0.999, camera, side)
    first = seen - (seen * along).sum(1, keepdim=True) * along
    first = first / torch.linalg.vector_norm(first, dim=1, keepdim=True)
    return torch.stack([first, torch.linalg.cross(along, first), along], dim=2)


class ShadingFeedback:
    """Shades the surface points with the estimate and compares with the observed pixels.

    Args:
        point: whether the light is a point light.
    """

    def __init__(self, point: bool) -> None:
        self.point = point

    def simulated(self, observation: LightObservation, estimate: Tensor, compiled: Tensor) -> Tensor:
        """Image values (B, N) of the forward process; ``compiled`` are those of our own shading."""
        return compiled

    def plain(self, observation: LightObservation, estimate: Tensor) -> FeedbackFeatures:
        """Compare f(estimate) with the observation, without what only a network needs; estimate (B, 8)."""
        return self._compare(observation, estimate)[0]

    def _compare(self, observation: LightObservation, estimate: Tensor) -> tuple[FeedbackFeatures, Tensor]:
        """Residual, its derivatives in the axes of the light, and the simulated values (B, N)."""
        o, point = observation, self.point
        compiled, jacobian = image_jacobian(estimate, o.position, o.normal, o.view, o.limit, point)
        simulated = self.simulated(o, estimate, compiled)
        residual = simulated - o.values
        norm = ((o.weight * residual.square()).mean(1)).sqrt()
        axes = light_axes(estimate[:, :3])
        scale = torch.linalg.vector_norm(estimate[:, :3], dim=1)
        of_light = jacobian[..., :3] @ axes * scale[:, None, None]
        local = torch.cat([of_light[..., : 3 if point else 2], jacobian[..., MATERIAL]], dim=-1)
        inputs = {"jacobian": local, "residual": residual, "weight": o.weight, "axes": axes}
        return FeedbackFeatures(inputs, norm), simulated

    def __call__(self, observation: LightObservation, estimate: Tensor) -> FeedbackFeatures:
        """Compare f(estimate) with the observation; estimate (B, 8)."""
        o = observation
        compared, simulated = self._compare(o, estimate)
        residual, local, axes = (compared.inputs[name] for name in ("residual", "jacobian", "axes"))
        norm = compared.residual_norm
        unit, _ = light_vectors(estimate[:, None, :3], o.position, self.point)
        half = unit + o.view
        half = half / torch.linalg.vector_norm(half, dim=-1, keepdim=True).clamp_min(1e-6)
        scale = torch.linalg.vector_norm(estimate[:, :3], dim=1)
        limit = o.limit[:, None]
        saturated = (o.values >= 0.985 * limit).to(residual.dtype)
        rows = torch.cat(
            [
                o.normal @ axes, o.view @ axes, o.position @ axes * 2.0,
                torch.stack(
                    [
                        (o.normal * unit).sum(-1), (o.normal * o.view).sum(-1), (o.normal * half).sum(-1),
                        (o.view * half).sum(-1), simulated, o.values, residual * 4.0, saturated,
                        (simulated >= 0.985 * limit).to(residual.dtype), residual.abs().sqrt(),
                    ], dim=-1,
                ), local.clamp(-4.0, 4.0), o.weight[..., None],
            ], dim=-1,
        )  # fmt: skip
        material = estimate[:, MATERIAL] * torch.tensor([0.2, 1.0, 1.0, 1.0, 1.0], device=estimate.device)
        context = torch.cat(
            [material, axes[:, 2:, 2], torch.log(scale)[:, None], norm[:, None] * 5.0, o.limit[:, None] - 1.0], dim=1
        )
        return FeedbackFeatures({**compared.inputs, "rows": rows, "context": context}, norm)


class PyrenderFeedback(ShadingFeedback):
    """As :class:`ShadingFeedback`, but simulated by pyrender; only derivatives come from our own shading.

    Args:
        point: whether the light is a point light.
        scenes: object, pose and camera of each ``LightObservation.scene``.
    """

    def __init__(self, point: bool, scenes: Sequence[PyrenderShading]) -> None:
        super().__init__(point)
        self.scenes = scenes

    def simulated(self, observation: LightObservation, estimate: Tensor, compiled: Tensor) -> Tensor:
        """Image values (B, N), one picture for each element."""
        out = torch.empty_like(compiled)
        for b, x in enumerate(estimate.cpu().double().numpy()):
            exposure = float(observation.scale[b]) ** GAMMA
            picture = self.scenes[int(observation.scene[b])].render(
                x[:3], self.point, float(np.exp(x[LOG_INTENSITY])) * exposure, float(x[ALBEDO]), float(x[METALLIC]),
                float(x[ROUGHNESS]), float(x[AMBIENT]) * exposure / max(float(x[ALBEDO]), 1e-6),
            )  # fmt: skip
            values = torch.from_numpy(picture[..., 0].reshape(-1).astype(np.float32) / 255.0).to(out.device)
            out[b] = values[observation.pixel[b]] / observation.scale[b]
        return out


def least_squares_light(observation: LightObservation, point: bool, start_distance: float = 1.2) -> Tensor:
    """Closed-form light on a matt surface, ``linear value = max(n.g, 0) + c`` (Lambert), as an estimate (B, 8).

    Solved over the pixels that are not saturated, then twice more over those that the light found so far reaches. A
    point light gets the direction, at ``start_distance`` diameters.
    """
    o = observation
    linear = o.values.clamp_min(0.0) ** GAMMA
    rows = torch.cat([o.normal, torch.ones_like(o.normal[..., :1])], dim=-1)
    usable = o.weight * (o.values < 0.985 * o.limit[:, None])
    lit = torch.ones_like(usable)
    solution = torch.zeros(len(o), 4, device=linear.device)
    ridge = torch.diag(torch.tensor([1e-3, 1e-3, 1e-3, 1e-2], device=linear.device))
    for _ in range(4):
        # In shadow only the ambient light is seen: a row (0, 1).
        part = torch.cat([rows[..., :3] * lit[..., None], rows[..., 3:]], dim=-1)
        weighted = part * (usable / usable.shape[1])[..., None]
        matrix = weighted.transpose(1, 2) @ part + ridge
        solution = torch.linalg.solve(matrix, (weighted * linear[..., None]).sum(1))
        lit = ((o.normal @ solution[:, :3, None])[..., 0] > 0).to(linear.dtype)
    strength = torch.linalg.vector_norm(solution[:, :3], dim=1, keepdim=True)
    towards_camera = torch.tensor([0.0, 0.0, -1.0], device=linear.device).expand(len(o), 3)
    direction = torch.where(strength > 1e-6, solution[:, :3] / strength.clamp_min(1e-9), towards_camera)
    albedo, metallic, roughness = 0.5, 0.2, 0.5
    intensity = strength.clamp_min(1e-3) * np.pi / (albedo * (1.0 - metallic) * 0.96)
    if point:
        intensity = intensity * start_distance**2
        direction = direction * start_distance
    fixed = torch.tensor([albedo, metallic, roughness], device=linear.device).expand(len(o), 3)
    ambient = solution[:, 3:].clamp(0.005, UPPER[-1])
    return torch.cat([direction, torch.log(intensity), fixed, ambient], dim=1)


def search_starts(observation: LightObservation, point: bool, count: int) -> Tensor:
    """(B, count, 8) initial estimates: the best of a coarse search, the last one by :func:`least_squares_light`."""
    o = observation
    last = least_squares_light(o, point)[:, None]
    if count == 1:
        last = last[:, :0]
    pixels = [t.cpu().numpy() for t in (o.position, o.normal, o.view, o.values, o.weight, o.limit)]
    found = search_lights(
        pixels[0], pixels[1], pixels[2], pixels[3], pixels[4], pixels[5], point, max(count - 1, 1)
    )  # fmt: skip
    return torch.cat([torch.from_numpy(found).to(last.device), last], dim=1)


def make_solver(config: IlluminationConfig, feedback: ShadingFeedback | None = None) -> FeedbackSolver:
    """An untrained solver; it is a damped Gauss-Newton method until its stages are trained."""
    point = config.point
    light = 3 if point else 2

    def make_stage() -> LightGaussNewtonStage:
        return LightGaussNewtonStage(ROW_FEATURES[point], CONTEXT_FEATURES, light, 5, config.width)

    return FeedbackSolver(feedback or ShadingFeedback(point), LightSpace(point), make_stage, config.solver)


@dataclass(frozen=True)
class RefinedLights:
    """The M best candidates of each of B pictures, refined: first those of the stages, then those of the plain steps.

    Attributes:
        estimates: (B, M, 8).
        norms: (B, M) their residual norms on the pixels that they were refined on.
        history: (B, M, T + 1, 8) estimates before the first stage and after each, before the refinement.
        history_norms: (B, M, T + 1) residual norms of these, on the pixels that the stages compare.
        of_stages: how many are of the stages.
    """

    estimates: Tensor
    norms: Tensor
    history: Tensor
    history_norms: Tensor
    of_stages: int

    @property
    def best(self) -> Tensor:
        """(B,) the candidate with the smallest residual; of nearly equal ones, one of the stages."""
        handicap = torch.ones_like(self.norms)
        handicap[:, self.of_stages :] += EQUAL
        return (handicap * self.norms).argmin(1)


def refine(
    solver: FeedbackSolver, observation: LightObservation, fine: LightObservation, solution: Solution
) -> RefinedLights:
    """The best candidates after a few plain Gauss-Newton steps on more pixels: noise averages out.

    Candidates are what the stages made of S starts and, for a directional light, what as many plain steps make of the
    same starts: the residual says which is right where a picture misleads one of the two. For a point light these
    brought nothing.

    Args:
        solver: whose stages made the solution; its feedback compares.
        observation: (B S) pictures as the stages saw them, each repeated for its S starts.
        fine: (B) the same pictures with more pixels.
        solution: of B S starts.
    """
    feedback: ShadingFeedback = solver.feedback  # type: ignore[assignment]
    point = feedback.point
    light = 3 if point else 2
    rows = torch.arange(len(fine), device=solution.estimate.device)[:, None]

    def plain(steps: int) -> FeedbackSolver:
        config = SolverConfig(steps, shared_weights=True)
        return FeedbackSolver(feedback.plain, solver.space, lambda: GaussNewtonStep(light), config).eval()

    def kept(found: Solution) -> tuple[Tensor, Tensor, Tensor]:
        """Estimates, history and its norms of the best few of each picture."""
        norms = found.residual_norms.unflatten(0, (len(fine), -1))
        best = norms.min(2).values.argsort(dim=1)[:, :REFINED]
        history = torch.stack(found.history, dim=1).unflatten(0, (len(fine), -1))
        return found.estimate.unflatten(0, (len(fine), -1))[rows, best], history[rows, best], norms[rows, best]

    found = [kept(solution)]
    if not point:
        found.append(kept(plain(len(solution.history) - 1).estimate(observation, solution.history[0])))
    estimates, history, norms = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    repeated = fine[rows.expand(estimates.shape[:2]).flatten()]
    refined = plain(REFINING_STEPS).estimate(repeated, estimates.flatten(0, 1))
    final = refined.residual_norms.min(1).values.reshape(estimates.shape[:2])
    return RefinedLights(refined.estimate.reshape(estimates.shape), final, history, norms, found[0][0].shape[1])


def load_solver(path: str | Path, kind: str | None = None) -> tuple[FeedbackSolver, IlluminationConfig, Checkpoint]:
    """The trained solver of a weights file.

    Raises:
        CheckpointError: the file is missing, corrupt, or made for another task, kind of light or network.
    """
    checkpoint = load_checkpoint(path, "illumination")
    try:
        config = IlluminationConfig.from_dict(checkpoint.config)
        solver = make_solver(config)
        solver.stages.load_state_dict({name: value.float() for name, value in checkpoint.weights.items()})
    except (RuntimeError, DfipsError) as cause:
        raise CheckpointError(f"weights '{path}': do not fit this version of dfips_ros ({cause}).") from cause
    if kind is not None and config.kind != kind:
        raise CheckpointError(
            f"weights '{path}': are for a {config.kind} light, asked for was a {kind} one. Pass those of that kind."
        )
    return solver.eval(), config, checkpoint


def illumination_loss(estimate: Tensor, ground_truth: dict[str, Any]) -> Tensor:
    """``e + 0.2 * log(1 + e / 0.05) + 0.05 * |material - true material|_1`` of each element, (B,).

    e = |light - true light|, of unit directions or of positions in diameters. The logarithm keeps the pictures that
    tell the light exactly from being drowned by those that cannot (a box in diffuse light), whose e stays large.
    """
    light = torch.linalg.vector_norm(estimate[:, :3] - ground_truth["estimate"][:, :3] + 1e-8, dim=1)
    scale = torch.tensor([0.3, 1.0, 1.0, 1.0, 1.0], device=estimate.device)
    material = ((estimate - ground_truth["estimate"])[:, MATERIAL].abs() * scale).clamp_max(3.0).sum(1)
    return light + NEAR_LOSS * torch.log1p(light / NEAR) + MATERIAL_LOSS * material
