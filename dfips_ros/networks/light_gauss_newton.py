# SPDX-License-Identifier: Apache-2.0
"""A stage that learns to weight and damp a Gauss-Newton step on the parameters of a light and a material.

With the residual r_i of every pixel and its derivatives J_i, a set network gives every pixel a weight w_i, and the
whole set, for each parameter, a damping lambda and a proposed step a with its precision p:

``u = (J^T W J + diag(J^T W J) * lambda + q^2 P + eps)^-1 (q^2 P a - J^T W r)``

where q is the root mean square of the residual. What is proposed enters as a Gaussian prior would: parameters that the
picture determines follow the picture, parameters that it leaves open (a box shows three brightnesses) follow the
proposal, and it fades as the residual does. Untrained it is a damped, robust Gauss-Newton step. Two or three parameters
move the light, in axes that turn with the present estimate, so the network need not learn each direction anew; the
update is given in the camera's axes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..solver import FeedbackFeatures

EPSILON = 1e-4
TURN_KNEE = 1.0  # radians; larger turns of the light are compressed
FINE_DAMPING, FINE_ROBUST = 2.5e-3, 40.0  # of the step without a network


class LightGaussNewtonStage(nn.Module):
    """Pixels of a comparison -> one update of the light and the material.

    Args:
        row_features: size of a pixel's description.
        context_features: size of the description of the whole comparison.
        light_parameters: 2 (direction) or 3 (direction and logarithm of the distance).
        material_parameters: how many parameters follow.
        width: hidden width.
    """

    def __init__(
        self, row_features: int, context_features: int, light_parameters: int, material_parameters: int, width: int = 64
    ) -> None:
        super().__init__()
        self.light = light_parameters
        self.size = light_parameters + material_parameters
        self.row_in = nn.Sequential(nn.Linear(row_features, width), nn.ReLU(), nn.Linear(width, width))
        self.row_mix = nn.Linear(width, width)
        self.context_mix = nn.Linear(2 * width + context_features, width)
        self.row_out = nn.Linear(width, 1)
        last = nn.Linear(96, 3 * self.size)
        inputs = 2 * width + context_features + 2 * self.size
        self.head = nn.Sequential(nn.Linear(inputs, 160), nn.ReLU(), nn.Linear(160, 96), nn.ReLU(), last)
        self.base_damping = nn.Parameter(torch.full((self.size,), -6.0))
        self.base_precision = nn.Parameter(torch.full((self.size,), -4.0))
        for layer in (self.row_out, last):
            nn.init.normal_(layer.weight, std=1e-3)
            nn.init.zeros_(layer.bias)

    def forward(self, features: FeedbackFeatures) -> Tensor:
        """Inputs ``rows`` (B, N, F), ``jacobian`` (B, N, P), ``residual`` and ``weight`` (B, N), ``context`` (B, C),
        ``axes`` (B, 3, 3) whose columns are the axes of the light's parameters -> update (B, 3 + materials)."""
        inputs = features.inputs
        known, context = inputs["weight"], inputs["context"]
        hidden = torch.relu(self.row_in(inputs["rows"]))
        shared = self.context_mix(torch.cat([_pooled(hidden, known), context], dim=-1))
        hidden = torch.relu(self.row_mix(hidden) + shared[:, None])
        pooled = _pooled(hidden, known).float()
        log_weight = self.row_out(hidden).float()[..., 0]
        # The system itself is never rounded to bfloat16, in which training may run.
        with torch.autocast(known.device.type, enabled=False):
            local = self._step(pooled, context.float(), log_weight, inputs["jacobian"], inputs["residual"], known)
            return _in_camera_axes(local, inputs["axes"], self.light)

    def _step(
        self,
        pooled: Tensor,
        context: Tensor,
        log_weight: Tensor,
        jacobian: Tensor,
        residual: Tensor,
        known: Tensor,
    ) -> Tensor:
        robust = known / (1.0 + 10.0 * residual.abs())
        weight = torch.exp(log_weight.clamp(-6.0, 5.0)) * robust
        plain, _ = _normal_equations(robust, jacobian, residual)
        variance = (known * residual.square()).mean(1, keepdim=True)
        matrix, vector = _normal_equations(weight, jacobian, residual)
        diagonal = matrix.diagonal(dim1=1, dim2=2)
        free = _solved(matrix, vector, 0.01 * diagonal).detach().clamp(-2.0, 2.0)
        stiffness = torch.log(plain.diagonal(dim1=1, dim2=2) + 1e-4)
        out = self.head(torch.cat([pooled, context, free, stiffness], dim=-1)).split(self.size, dim=1)
        damping = torch.exp((self.base_damping + out[0]).clamp(-9.0, 6.0))
        precision = variance * torch.exp((self.base_precision + out[1]).clamp(-9.0, 9.0))
        return _solved(matrix, vector - precision * 2.0 * out[2], diagonal * damping + precision)


class GaussNewtonStep(nn.Module):
    """The same step without a network: ``u = -(J^T W J + eps)^-1 J^T W r``, w = 1 / (1 + 40 |r|), slightly damped.

    Args:
        light_parameters: 2 (direction) or 3 (direction and logarithm of the distance).
    """

    def __init__(self, light_parameters: int) -> None:
        super().__init__()
        self.light = light_parameters

    def forward(self, features: FeedbackFeatures) -> Tensor:
        """Inputs as of :class:`LightGaussNewtonStage`, without ``rows`` and ``context``."""
        inputs = features.inputs
        weight = inputs["weight"] / (1.0 + FINE_ROBUST * inputs["residual"].abs())
        matrix, vector = _normal_equations(weight, inputs["jacobian"], inputs["residual"])
        local = _solved(matrix, vector, FINE_DAMPING * matrix.diagonal(dim1=1, dim2=2))
        return _in_camera_axes(local, inputs["axes"], self.light)


def _in_camera_axes(local: Tensor, axes: Tensor, light: int) -> Tensor:
    """(B, light + materials) in the axes of the light -> (B, 3 + materials); large turns are compressed."""
    turn = torch.linalg.vector_norm(local[:, :2], dim=1, keepdim=True)
    moves = [local[:, :2] / torch.sqrt(1.0 + (turn / TURN_KNEE) ** 2), local[:, 2:light]]
    moved = torch.cat([*moves, torch.zeros_like(local[:, : 3 - light])], dim=1)
    return torch.cat([(axes @ moved[..., None])[..., 0], local[:, light:]], dim=1)


def _pooled(hidden: Tensor, known: Tensor) -> Tensor:
    """Largest and weighted mean value over the pixels. (B, N, D), (B, N) -> (B, 2 D)."""
    share = (known / known.sum(1, keepdim=True).clamp_min(1e-6)).to(hidden.dtype)
    return torch.cat([hidden.amax(1), (share[:, None] @ hidden)[:, 0]], dim=-1)


def _normal_equations(weight: Tensor, jacobian: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    weighted = jacobian * (weight / weight.shape[1])[..., None]
    return weighted.transpose(1, 2) @ jacobian, (weighted * residual[..., None]).sum(1)


def _solved(matrix: Tensor, vector: Tensor, damping: Tensor) -> Tensor:
    factor, _ = torch.linalg.cholesky_ex(matrix + torch.diag_embed(damping + EPSILON))
    return -torch.cholesky_solve(vector[..., None], factor)[..., 0]
