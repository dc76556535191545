# SPDX-License-Identifier: Apache-2.0
"""What the parts of a solver promise each other.

An inverse problem has a hidden estimate x, an observation y and a known forward process f with y = f(x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class ForwardProcess(Protocol):
    """The known map from estimate to observation, ``y = f(x)``; nothing else is assumed of it."""

    def __call__(self, estimate: Tensor) -> Tensor:
        """(B, *X) -> (B, *Y)."""
        ...


@runtime_checkable
class EstimateSpace(Protocol):
    """Where estimates live, and how an unbounded update moves them."""

    update_shape: tuple[int, ...]

    def apply(self, estimate: Tensor, update: Tensor) -> Tensor:
        """Retraction: (B, *X) moved by the tangent step (B, *update_shape) -> (B, *X); zero moves nothing."""
        ...


@dataclass(frozen=True)
class FeedbackFeatures:
    """The outcome of one explicit comparison of simulated and observed.

    Attributes:
        inputs: what a stage network reads, tensors with the batch first.
        residual_norm: (B,) size of ``simulated - observation``; the adaptive update watches it.
    """

    inputs: dict[str, Tensor]
    residual_norm: Tensor

    def where(self, mask: Tensor, other: FeedbackFeatures) -> FeedbackFeatures:
        """Rows of this one where ``mask`` (B,) is true, rows of ``other`` elsewhere."""
        import torch

        def pick(a: Tensor, b: Tensor) -> Tensor:
            return torch.where(mask.reshape(-1, *([1] * (a.ndim - 1))), a, b)

        inputs = {name: pick(value, other.inputs[name]) for name, value in self.inputs.items()}
        return FeedbackFeatures(inputs, pick(self.residual_norm, other.residual_norm))

    def scattered(self, index: Tensor, part: FeedbackFeatures) -> FeedbackFeatures:
        """A copy whose rows ``index`` (N,) are those of ``part`` (N rows)."""
        inputs = {name: value.index_copy(0, index, part.inputs[name]) for name, value in self.inputs.items()}
        return FeedbackFeatures(inputs, self.residual_norm.index_copy(0, index, part.residual_norm))


class Feedback(Protocol):
    """Runs the forward process on an estimate and compares with the observation, in observation space.

    An observation is a tensor (B, *Y), or any batch that can be indexed by an int64 tensor like one.
    """

    def __call__(self, observation: Any, estimate: Tensor) -> FeedbackFeatures:
        """Compare f(estimate) with the observation."""
        ...


@dataclass(frozen=True)
class Solution:
    """What an estimator found.

    Attributes:
        estimate: (B, *X).
        history: T+1 estimates, the initial one first.
        residual_norms: (B, T+1), the residual's size at each of them.
    """

    estimate: Tensor
    history: tuple[Tensor, ...]
    residual_norms: Tensor


@runtime_checkable
class Estimator(Protocol):
    """Anything that solves the inverse problem: learned, classical, or both in a row."""

    def estimate(self, observation: Any, initial: Tensor | None = None) -> Solution:
        """Solve for a batch of observations, from ``initial`` (B, *X) where the method needs one."""
        ...
