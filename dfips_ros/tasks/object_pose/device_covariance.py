# SPDX-License-Identifier: Apache-2.0
"""How certain poses are, for a batch on a device: what ``covariance`` does, and the change between metres and crops."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...processes.contour import NUM_ROWS, NUM_SURFACE
from ...processes.mesh import Mesh
from .covariance import _CORRELATED_ROWS, _PRIOR_SIGMA
from .device_stages import solve_positive
from .symmetry import Symmetries

ROBUST_SCALE = 0.02  # diameters, as in the estimator
FREE_VARIANCE = np.pi**2 / 3.0  # of an angle that may be anything


def posed(rotation: Tensor, translation: Tensor) -> Tensor:
    """Poses of rotations (B, 3, 3) and translations (B, 3), without a tensor made on the host -> (B, 4, 4)."""
    pose = torch.zeros((len(rotation), 4, 4), dtype=rotation.dtype, device=rotation.device)
    pose[:, :3, :3] = rotation
    pose[:, :3, 3] = translation
    pose[:, 3, 3] = 1.0
    return pose


def to_crop(T_camera_object: Tensor, R_virtual_camera: Tensor, center: Tensor, diameter: float) -> Tensor:
    """Poses (B, 4, 4) in metres and the camera's frame -> of the normalised mesh in the virtual cameras' frames."""
    turned = R_virtual_camera @ T_camera_object[:, :3]
    return posed(turned[..., :3], (turned[..., 3] + turned[..., :3] @ center) / diameter)


def to_metres(T_normalised: Tensor, R_virtual_camera: Tensor, center: Tensor, diameter: float) -> Tensor:
    """The inverse of :func:`to_crop`."""
    rotation = T_normalised[:, :3, :3]
    back = R_virtual_camera.transpose(1, 2)
    shift = T_normalised[:, :3, 3] * diameter - rotation @ center
    return posed(back @ rotation, (back @ shift[..., None])[..., 0])


class DeviceCovariance:
    """Covariances of poses of one mesh, as the estimator reports them.

    Args:
        mesh: the object.
        symmetries: about the axes that may turn nothing is known.
        device: where everything runs.

    Attributes:
        frame: (4,) float64, center and diameter.
        beliefs: information that is there before (6,), and symmetry axes (N, 3) and their arms...
        numbers: ... and what else ``cuda_outcome.finish`` takes.
    """

    def __init__(self, mesh: Mesh, symmetries: Symmetries, device: torch.device) -> None:
        def on_device(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.asarray(array, np.float64)).to(device)

        self.diameter, self.center = mesh.diameter, on_device(mesh.center)
        self.frame = on_device(np.append(mesh.center, mesh.diameter))
        self._prior = on_device(np.diag(_PRIOR_SIGMA**-2.0))
        self._axes = on_device(symmetries.axes)
        self._arms = on_device((mesh.center - symmetries.offsets) / mesh.diameter)
        self.beliefs = on_device(_PRIOR_SIGMA**-2.0), self._axes, self._arms
        self.numbers = NUM_ROWS - NUM_SURFACE, FREE_VARIANCE, _CORRELATED_ROWS, ROBUST_SCALE
        self._identity = torch.eye(6, dtype=torch.float64, device=device)

    def __call__(self, rows: dict[str, Tensor], pose: Tensor, focal: Tensor, R_virtual_camera: Tensor) -> Tensor:
        """Covariances in the order of ROS.

        Args:
            rows: of the comparison at the poses: ``residual``, ``weight`` and ``jacobian``.
            pose: (B, 4, 4) float64, of the normalised mesh in the virtual cameras' frames.
            focal: (B,) of the crops, pixels.
            R_virtual_camera: (B, 3, 3) float64.

        Returns:
            (B, 6, 6) float64: position of the object's origin (m^2), then rotation about the camera's axes (rad^2).
        """
        contour = slice(0, rows["residual"].shape[1] - NUM_SURFACE)
        residual, jacobian = rows["residual"][:, contour].double(), rows["jacobian"][:, contour].double()
        weight = rows["weight"][:, contour] / (1.0 + (residual / ROBUST_SCALE) ** 2)
        pixel = pose[:, 2, 3] / focal
        variance = (weight * residual**2).sum(1) / weight.sum(1).clamp_min(1.0) + (0.3 * pixel) ** 2
        information = (jacobian * weight[..., None]).transpose(1, 2) @ jacobian
        information = information / (_CORRELATED_ROWS * variance)[:, None, None] + self._prior
        local = solve_positive(information, self._identity.expand_as(information))
        rotation, t = pose[:, :3, :3], pose[:, :3, 3]
        for axis, offset in zip(self._axes, self._arms, strict=True):
            turn, arm = rotation @ axis, rotation @ offset
            moves = torch.linalg.cross(turn, arm)
            direction = torch.cat([turn, moves[:, :2], torch.zeros_like(moves[:, :1])], dim=1)
            local = local + FREE_VARIANCE * direction[:, :, None] * direction[:, None]

        arm = rotation @ self.center
        zero, one = torch.zeros_like(arm[:, 0]), torch.ones_like(arm[:, 0])
        x, y, z = arm.unbind(1)
        skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
        shift = self.diameter * torch.stack(
            [one, zero, t[:, 0], zero, one, t[:, 1], zero, zero, t[:, 2]], dim=1
        ).reshape(-1, 3, 3)  # fmt: skip
        back = R_virtual_camera.transpose(1, 2)
        top = torch.cat([back @ skew, back @ shift], dim=2)
        transform = torch.cat([top, torch.cat([back, torch.zeros_like(back)], dim=2)], dim=1)
        out = transform @ local @ transform.transpose(1, 2)
        return (out + out.transpose(1, 2)) / 2.0
