# SPDX-License-Identifier: Apache-2.0
"""Kinds of estimate space: each turns an unbounded update into a valid estimate.

Every space satisfies ``apply(x, 0) == x`` and keeps estimates inside.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError
from ..geometry import make_pose_torch, so3_exp

MAX_LOG_DEPTH = 10.0  # of one update of a pose


def _check(estimate: Tensor, update: Tensor, estimate_shape: tuple[int, ...], update_shape: tuple[int, ...]) -> None:
    if tuple(estimate.shape[1:]) != estimate_shape or tuple(update.shape[1:]) != update_shape:
        raise ShapeError(
            f"expected an estimate (B, *{estimate_shape}) and an update (B, *{update_shape}), "
            f"got {tuple(estimate.shape)} and {tuple(update.shape)}."
        )


class VectorSpace:
    """R^n: ``x' = x + u``.

    Args:
        size: n.
    """

    def __init__(self, size: int) -> None:
        self.update_shape: tuple[int, ...] = (size,)

    def apply(self, estimate: Tensor, update: Tensor) -> Tensor:
        """(B, n), (B, n) -> (B, n)."""
        _check(estimate, update, self.update_shape, self.update_shape)
        return estimate + update


class _ClipInward(torch.autograd.Function):
    """Clip that passes the gradient of what went too far if descent leads it back, and none that drives it on."""

    @staticmethod
    def forward(ctx, value, lower, upper):  # type: ignore[no-untyped-def]  # noqa: D102
        ctx.save_for_backward(value > upper, value < lower)
        return torch.maximum(torch.minimum(value, upper), lower)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]  # noqa: D102
        above, below = ctx.saved_tensors
        onward = (above & (gradient < 0)) | (below & (gradient > 0))
        return torch.where(onward, torch.zeros_like(gradient), gradient), None, None


class JointBoxSpace:
    """Joint vectors between limits: ``q' = clip(q + u, lower, upper)``; full-turn joints wrap instead.

    The gradient at a joint that was clipped is passed if it leads back inside (straight-through, Bengio et al. 2013):
    with the true one, zero, a network that has driven a joint into its limit would never learn to leave it.

    Args:
        lower: (n,) lower limits, radians or metres.
        upper: (n,) upper limits.
        wraps: (n,) bool, joints without limits, kept in [-pi, pi).
    """

    def __init__(self, lower: Tensor, upper: Tensor, wraps: Tensor | None = None) -> None:
        if lower.shape != upper.shape or lower.ndim != 1 or not bool((lower <= upper).all()):
            raise ConfigError(f"expected limits of shape (n,) with lower <= upper, got {lower} and {upper}.")
        self.lower, self.upper = lower, upper
        self.wraps = torch.zeros(len(lower), dtype=torch.bool) if wraps is None else wraps
        self.update_shape: tuple[int, ...] = (len(lower),)

    def apply(self, estimate: Tensor, update: Tensor) -> Tensor:
        """(B, n), (B, n) -> (B, n)."""
        _check(estimate, update, self.update_shape, self.update_shape)
        moved = estimate + update
        lower, upper, wraps = (t.to(moved.device) for t in (self.lower, self.upper, self.wraps))
        inside = _ClipInward.apply(moved, lower.to(moved), upper.to(moved))
        wrapped = torch.remainder(moved + torch.pi, 2 * torch.pi) - torch.pi
        # A joint that has not moved stays what it was, to the last bit, with the gradient of one that will.
        return torch.where(update == 0, moved, torch.where(wraps, wrapped, inside))


class SphereSpace:
    """Unit vectors in R^3: the tangential part of the update is followed along the great circle."""

    update_shape: tuple[int, ...] = (3,)

    def apply(self, estimate: Tensor, update: Tensor) -> Tensor:
        """(B, 3), (B, 3) -> (B, 3) of unit length."""
        _check(estimate, update, (3,), self.update_shape)
        tangent = update - (update * estimate).sum(-1, keepdim=True) * estimate
        rotation = so3_exp(torch.linalg.cross(estimate, tangent))
        moved = (rotation @ estimate[..., None])[..., 0]
        return moved / torch.linalg.vector_norm(moved, dim=-1, keepdim=True)


class ImageSpace:
    """Images: ``x' = x + u``, clipped to a range.

    Args:
        shape: (C, H, W), or any other shape of one image.
        low: smallest value.
        high: largest value.
    """

    def __init__(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> None:
        if not low < high:
            raise ConfigError(f"expected low < high, got low={low}, high={high}.")
        self.update_shape = shape
        self.low, self.high = low, high

    def apply(self, estimate: Tensor, update: Tensor) -> Tensor:
        """(B, *shape), (B, *shape) -> (B, *shape)."""
        _check(estimate, update, self.update_shape, self.update_shape)
        return (estimate + update).clamp(self.low, self.high)


class Se3ImageSpace:
    """Poses of an object of unit size before a camera, moved in image space.

    With u = (w, v_x, v_y, v_z): ``R' = exp(w) R``, ``z' = z exp(v_z)``, ``x' = z' (x + v_x) / z`` and likewise y.
    The rotation turns about the object's origin and leaves its image position; v_x and v_y move the image by that
    many object diameters at the current depth; v_z is a change of log-depth, so depth stays positive.
    One update changes it by a factor of ``exp(10)`` at most, so that it stays a number.
    (The parametrisation is in the spirit of DeepIM, Li et al. 2018, section 3.4.)
    """

    update_shape: tuple[int, ...] = (6,)

    def apply(self, estimate: Tensor, update: Tensor) -> Tensor:
        """T_camera_object (B, 4, 4), (B, 6) -> (B, 4, 4)."""
        _check(estimate, update, (4, 4), self.update_shape)
        rotation = so3_exp(update[:, :3]) @ estimate[:, :3, :3]
        translation = estimate[:, :3, 3]
        z = translation[:, 2:]
        growth = torch.exp(update[:, 5:].clamp(-MAX_LOG_DEPTH, MAX_LOG_DEPTH))
        xy = growth * (translation[:, :2] + update[:, 3:5])
        return make_pose_torch(rotation, torch.cat([xy, growth * z], dim=-1))
