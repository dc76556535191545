# SPDX-License-Identifier: Apache-2.0
"""A stage that learns to weight and damp a Gauss-Newton step (learned weighted Gauss-Newton).

With rows (r_i, J_i) of the explicit comparison, a set network gives every row a weight w_i and a correction c_i, and
the whole set six dampings and a small additive step a:

``u = -(J^T W J + diag(J^T W J) * lambda + eps)^-1 J^T W (r + c) + a``

Untrained it is a damped, robust Gauss-Newton step. The update is not bounded; only a rotation of more than about
70 degrees is compressed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..solver import FeedbackFeatures
from .damping import EPSILON, ROTATION_KNEE


class ContourGaussNewtonStage(nn.Module):
    """Rows of a least-squares system -> one pose update.

    Args:
        row_features: size of a row's description.
        context_features: size of the description of the whole comparison.
        width: hidden width.
    """

    def __init__(self, row_features: int, context_features: int, width: int = 64) -> None:
        super().__init__()
        self.row_in = nn.Sequential(
            nn.Linear(row_features, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.row_mix = nn.Linear(width, width)
        self.context_mix = nn.Linear(2 * width + context_features, width)
        self.row_out = nn.Linear(width, 2)
        last = nn.Linear(96, 12)
        inputs = 2 * width + context_features + 12
        self.head = nn.Sequential(nn.Linear(inputs, 160), nn.ReLU(), nn.Linear(160, 96), nn.ReLU(), last)
        self.base_damping = nn.Parameter(torch.full((6,), -2.0))
        for layer in (self.row_out, last):
            nn.init.normal_(layer.weight, std=1e-3)
            nn.init.zeros_(layer.bias)

    def forward(self, features: FeedbackFeatures) -> Tensor:
        """Inputs ``rows`` (B, N, F), ``jacobian`` (B, N, 6), ``residual`` and ``weight`` (B, N), ``context`` (B, C)
        -> update (B, 6)."""
        inputs = features.inputs
        rows, jacobian, residual = inputs["rows"], inputs["jacobian"], inputs["residual"]
        known, context = inputs["weight"], inputs["context"]
        hidden = torch.relu(self.row_in(rows))
        mask = known[..., None].to(hidden.dtype)
        hidden = hidden * mask
        shared = self.context_mix(torch.cat([_pool(hidden, known), context], dim=-1))
        hidden = torch.relu(self.row_mix(hidden) + shared[:, None]) * mask
        pooled = _pool(hidden, known).float()
        log_weight, correction = self.row_out(hidden).float().unbind(-1)
        # The system itself is never rounded to bfloat16, in which training may run.
        with torch.autocast(rows.device.type, enabled=False):
            return self._step(pooled, context, log_weight, correction, jacobian, residual, known)

    def _step(
        self,
        pooled: Tensor,
        context: Tensor,
        log_weight: Tensor,
        correction: Tensor,
        jacobian: Tensor,
        residual: Tensor,
        known: Tensor,
    ) -> Tensor:
        robust = 1.0 / (1.0 + 10.0 * residual.abs())
        weight = torch.exp(log_weight.clamp(-6.0, 5.0)) * robust * known
        plain, _ = _normal_equations(known * robust, jacobian, residual)
        matrix, vector = _normal_equations(weight, jacobian, residual + 0.1 * correction)
        diagonal = matrix.diagonal(dim1=1, dim2=2)
        free = _solve(matrix, vector, 0.01 * diagonal).detach().clamp(-2.0, 2.0)
        stiffness = torch.log(plain.diagonal(dim1=1, dim2=2) + 1e-4)
        out = self.head(torch.cat([pooled, context, free, stiffness], dim=-1))
        damping = torch.exp((self.base_damping + out[:, :6]).clamp(-9.0, 6.0))
        update = _solve(matrix, vector, diagonal * damping) + 0.3 * out[:, 6:]
        angle = torch.linalg.vector_norm(update[:, :3], dim=1, keepdim=True)
        compressed = update[:, :3] / torch.sqrt(1.0 + (angle / ROTATION_KNEE) ** 2)
        return torch.cat([compressed, update[:, 3:]], dim=1)


def _pool(hidden: Tensor, known: Tensor) -> Tensor:
    """Largest and mean value over the known rows of what is zero elsewhere. (B, N, D), (B, N) -> (B, 2 D)."""
    return torch.cat([hidden.amax(1), hidden.sum(1) / known.sum(1, keepdim=True).clamp_min(1.0)], dim=-1)


def _normal_equations(weight: Tensor, jacobian: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    weighted = jacobian * (weight / weight.shape[1])[..., None]
    return weighted.transpose(1, 2) @ jacobian, (weighted * residual[..., None]).sum(1)


def _solve(matrix: Tensor, vector: Tensor, damping: Tensor) -> Tensor:
    factor, _ = torch.linalg.cholesky_ex(matrix + torch.diag_embed(damping + EPSILON))
    return -torch.cholesky_solve(vector[..., None], factor)[..., 0]
