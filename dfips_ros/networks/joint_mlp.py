# SPDX-License-Identifier: Apache-2.0
"""A stage for joint vectors: a small network proposes a step and how far to trust it, least squares does the rest.

``u = argmin |r + J u|^2 + sum_j d_j (u_j - m_j)^2 = (J^T J + D)^-1 (D m - J^T r)``: the network reads the comparison
and answers m (the step that it would take) and log d (how firmly, joint by joint). With large d the step is the
network's own, which finds the right basin from far away; with small d it is a Gauss-Newton step, which is exact
nearby, and m settles what redundancy leaves open.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..solver import FeedbackFeatures

LOG_DAMPING_RANGE = (-9.0, 4.0)
INITIAL_LOG_DAMPING = -2.0
JUMP_SPREAD = 1.0  # of the jumps of an untrained stage
EXPLORATION = 0.05  # share of training examples in which any proposal is taken

Judge = Callable[[dict[str, Tensor], Tensor, Tensor, Tensor], Tensor]


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

    A pose can be reached in several ways, and the mean of two ways is none. So the network makes K proposals, the
    forward process tries each of them, and the best one is taken. In training only that one is pulled towards the
    target (winner takes all, Guzman-Rivera et al. 2012), now and then another one, so that none is left behind.

    Args:
        inputs: number of features F.
        joints: n.
        width: hidden width.
        layers: hidden layers.
        jumps: proposals that are joint positions, wherever the estimate is.
        steps: proposals that are damped least-squares steps from the estimate.
        judge: inputs of the stage, jumps (B, J, n), proposed steps (B, S, n) and their damping (B, S, n) -> the loss of
            each (B, J + S) where it leads, by the forward process.
    """

    def __init__(self, inputs: int, joints: int, width: int, layers: int, jumps: int, steps: int, judge: Judge) -> None:
        super().__init__()
        self.joints, self.jumps, self.steps, self.judge = joints, jumps, steps, judge
        parts: list[nn.Module] = []
        size = inputs
        for _ in range(layers):
            parts += [nn.Linear(size, width), nn.ReLU()]
            size = width
        last = nn.Linear(size, (jumps + 2 * steps) * joints)
        nn.init.normal_(last.weight, std=0.1 / size**0.5)
        nn.init.zeros_(last.bias)
        nn.init.normal_(last.bias.data[: jumps * joints], std=JUMP_SPREAD)
        self.network = nn.Sequential(*parts, last)

    def forward(self, features: FeedbackFeatures) -> Tensor:
        """Update (B, n).

        Inputs ``features`` (B, F); ``hessian`` (B, n, n) and ``gradient`` (B, n) of the steps; ``centre``, ``home`` and
        ``turn`` (B, n) of the jumps; ``scale`` (B, n); and what ``judge`` reads.
        """
        inputs = features.inputs
        jumps, proposals, dampings = self._proposals(inputs)
        with torch.autocast(jumps.device.type, enabled=False):
            best = self._best(inputs, jumps, proposals, dampings)
            row = torch.arange(len(best), device=best.device)
            if self.steps == 0:
                return jumps[row, best] * inputs["scale"]
            number = (best - self.jumps).clamp_min(0)
            step = _DampedLeastSquares.apply(
                inputs["hessian"], inputs["gradient"], proposals[row, number], dampings[row, number]
            )
            if self.jumps > 0:
                step = torch.where((best < self.jumps)[:, None], jumps[row, best.clamp_max(self.jumps - 1)], step)
            return step * inputs["scale"]

    def ranked(self, features: FeedbackFeatures, count: int) -> Tensor:
        """The best ``count`` of all proposals as updates (count, B, n), best first."""
        inputs = features.inputs
        jumps, proposals, dampings = self._proposals(inputs)
        order = self.judge(inputs, jumps, proposals, dampings).topk(count, dim=1, largest=False).indices
        updates = torch.cat([jumps, damped_steps(inputs["hessian"], inputs["gradient"], proposals, dampings)], dim=1)
        row = torch.arange(len(order), device=order.device)
        return torch.stack([updates[row, best] * inputs["scale"] for best in order.unbind(1)])

    def _proposals(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Jumps (B, J, n) as ways from the estimate, proposed steps (B, S, n), their damping (B, S, n)."""
        out = self.network(inputs["features"]).to(inputs["hessian"].dtype)
        jumps = out[:, : self.jumps * self.joints].reshape(len(out), self.jumps, self.joints)
        steps = out[:, self.jumps * self.joints :].reshape(len(out), self.steps, 2, self.joints)
        with torch.autocast(out.device.type, enabled=False):
            dampings = torch.exp((steps[:, :, 1] + INITIAL_LOG_DAMPING).clamp(*LOG_DAMPING_RANGE))
        return _ways(jumps, inputs), steps[:, :, 0], dampings

    @torch.no_grad()
    def _best(self, inputs: dict[str, Tensor], jumps: Tensor, proposals: Tensor, dampings: Tensor) -> Tensor:
        count, several = len(jumps), self.jumps + self.steps
        if several == 1:
            return torch.zeros(count, dtype=torch.int64, device=jumps.device)
        best = self.judge(inputs, jumps.detach(), proposals.detach(), dampings.detach()).argmin(1)
        if not (jumps.requires_grad or proposals.requires_grad):
            return best
        other = torch.randint(several, (count,), device=best.device)
        return torch.where(torch.rand(count, device=best.device) < EXPLORATION, other, best)


def _ways(offsets: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """The ways to ``centre + offset`` (B, J, n), without full turns where ``turn`` is one, as seen from ``home``."""
    place = offsets + inputs["centre"][:, None]
    place = place - inputs["turn"][:, None] * torch.round(place.detach() / (2.0 * torch.pi))
    return place + inputs["home"][:, None]


def damped_steps(hessian: Tensor, gradient: Tensor, proposals: Tensor, dampings: Tensor) -> Tensor:
    """The steps (B, S, n) for proposals and their damping (B, S, n)."""
    factor = torch.linalg.cholesky_ex(hessian[:, None] + torch.diag_embed(dampings))[0]
    return torch.cholesky_solve((dampings * proposals - gradient[:, None])[..., None], factor)[..., 0]
