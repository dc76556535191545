# SPDX-License-Identifier: Apache-2.0
"""How far a light is from the true one."""

from __future__ import annotations

import torch
from torch import Tensor


def light_error(lights: Tensor, truth: Tensor, point: bool) -> Tensor:
    """(B, 3), (B, 3) -> (B,): distance of the unit directions, or of the positions in diameters (Ma et al. 2020)."""
    if not point:
        lights, truth = (torch.nn.functional.normalize(x, dim=1) for x in (lights, truth))
    return torch.linalg.vector_norm(lights - truth, dim=1)


def direction_error_deg(lights: Tensor, truth: Tensor) -> Tensor:
    """(B, 3), (B, 3) -> (B,): angle between the directions towards the lights, degrees."""
    a, b = (torch.nn.functional.normalize(x.double(), dim=1) for x in (lights, truth))
    sine = torch.linalg.vector_norm(torch.linalg.cross(a, b), dim=1)
    return torch.rad2deg(torch.atan2(sine, (a * b).sum(1)))
