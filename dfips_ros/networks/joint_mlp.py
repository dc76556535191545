# SPDX-License-Identifier: Apache-2.0
"""A stage for joint vectors: a small network proposes a step and how far to trust it, least squares does the rest.

``u = argmin |r + J u|^2 + sum_j d_j (u_j - m_j)^2 = (J^T J + D)^-1 (D m - J^T r)``: the network reads the comparison
and answers m (the step that it would take) and log d (how firmly, joint by joint). With large d the step is the
network's own, which finds the right basin from far away; with small d it is a Gauss-Newton step, which is exact
nearby, and m settles what redundancy leaves open.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..solver import FeedbackFeatures

LOG_DAMPING_RANGE = (-9.0, 4.0)
INITIAL_LOG_DAMPING = -2.0


class _DampedLeastSquares(torch.autograd.Function):
    """``u = (H + D)^-1 (D m - g)`` for H (B, n, n), g, m and d (B, n); gradients for m and d alone."""

    @staticmethod
    def forward(ctx, hessian, gradient, proposal, damping):  # type: ignore[no-untyped-def]  # noqa: D102
        factor = torch.linalg.cholesky_ex(hessian + torch.diag_embed(damping))[0]
        step = torch.cholesky_solve((damping * proposal - gradient)[..., None], factor)[..., 0]
        ctx.save_for_backward(factor, step, proposal, damping)
        return step

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]  # noqa: D102
        factor, step, proposal, damping = ctx.saved_tensors
        back = torch.cholesky_solve(gradient[..., None], factor)[..., 0]
        return None, None, back * damping, back * (proposal - step)


class JointMlpStage(nn.Module):
    """Comparison of two poses -> update of the joints.

    Args:
        inputs: number of features F.
        joints: n.
        width: hidden width.
        layers: hidden layers.
    """

    def __init__(self, inputs: int, joints: int, width: int, layers: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        size = inputs
        for _ in range(layers):
            parts += [nn.Linear(size, width), nn.ReLU()]
            size = width
        last = nn.Linear(size, 2 * joints)
        nn.init.normal_(last.weight, std=0.1 / size**0.5)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(*parts, last)

    def forward(self, features: FeedbackFeatures) -> Tensor:
        """Inputs ``features`` (B, F), ``hessian`` (B, n, n), ``gradient`` (B, n), ``scale`` (B, n) -> update (B, n)."""
        out = self.network(features.inputs["features"])
        with torch.autocast(out.device.type, enabled=False):
            hessian, gradient = features.inputs["hessian"], features.inputs["gradient"]
            proposal, log_damping = out.to(hessian.dtype).chunk(2, dim=1)
            damping = torch.exp((log_damping + INITIAL_LOG_DAMPING).clamp(*LOG_DAMPING_RANGE))
            step = _DampedLeastSquares.apply(hessian, gradient, proposal, damping)
            return step * features.inputs["scale"]
