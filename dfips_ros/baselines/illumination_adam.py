# SPDX-License-Identifier: Apache-2.0
"""Light by gradient descent (Adam, Kingma and Ba 2015) through a differentiable shader."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_choice
from ..processes.shading import AMBIENT, LOG_INTENSITY, LOWER, ROUGHNESS, UPPER, encode, image_values, light_vectors

SHADERS = ("lambert", "phong", "metallic_roughness")


def simple_shading(
    x: Tensor, position: Tensor, normal: Tensor, view: Tensor, limit: Tensor, point: bool, phong: bool
) -> Tensor:
    """Image values (B, N) of ``a max(n.l, 0) + s max(n.h, 0)^p + c`` (Lambert; Blinn 1977 with ``phong``).

    Args:
        x: (B, 7): light, logarithms of a, s and p, and c.
        position: (B, N, 3) from the object's center in diameters.
        normal: (B, N, 3).
        view: (B, N, 3) towards the camera.
        limit: (B,) value of a saturated pixel.
        point: whether the light is a point light.
        phong: whether there is a highlight.
    """
    unit, arriving = light_vectors(x[:, None, :3], position, point)
    shade = torch.exp(x[:, 3:4]) * (normal * unit).sum(-1).clamp_min(0.0)
    if phong:
        half = torch.nn.functional.normalize(unit + view, dim=-1)
        base = (normal * half).sum(-1).clamp(1e-4, 1.0)
        shade = shade + torch.exp(x[:, 4:5]) * base ** torch.exp(x[:, 5:6]) * ((normal * unit).sum(-1) > 0)
    return torch.minimum(encode(shade * arriving + x[:, 6:7].clamp_min(0.0)), limit[:, None])


def adam_light(
    pixels: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor],
    initial: Tensor,
    point: bool,
    shader: str = "phong",
    iterations: int = 200,
    learning_rate: float = 0.05,
) -> tuple[Tensor, Tensor]:
    """Descend the squared residual of the image values.

    Args:
        pixels: values (B, N), position, normal and view (B, N, 3), weight (B, N), limit (B,).
        initial: (B, 8) light and material, see :func:`~dfips_ros.processes.shading.radiance`.
        point: whether the light is a point light.
        shader: ``lambert``, ``phong``, or ``metallic_roughness`` (pyrender's own equations).
        iterations: how many.
        learning_rate: Adam's, decaying to a tenth.

    Returns:
        (B, 3) unit directions or positions in diameters, and (B,) residual norms.
    """
    check_choice("shader", shader, SHADERS)
    values, position, normal, view, weight, limit = pixels
    if shader == "metallic_roughness":
        start = initial.clone()
    else:
        strength = initial[:, LOG_INTENSITY : LOG_INTENSITY + 1]
        brightness = strength + torch.log(initial[:, 4:5].clamp_min(0.05) / torch.pi)
        sharpness = torch.log(2.0 / initial[:, ROUGHNESS : ROUGHNESS + 1].clamp_min(0.1) ** 4).clamp(1.0, 5.0)
        start = torch.cat(
            [initial[:, :3], brightness, brightness - 1.0, sharpness, initial[:, AMBIENT : AMBIENT + 1]], dim=1
        )
    x = start.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1 ** (1.0 / iterations))
    lower, upper = torch.tensor(LOWER), torch.tensor(UPPER)

    def norms() -> Tensor:
        if shader == "metallic_roughness":
            simulated = image_values(x, position, normal, view, limit, point)
        else:
            simulated = simple_shading(x, position, normal, view, limit, point, shader == "phong")
        return (weight * (simulated - values).square()).mean(1)

    for _ in range(iterations):
        optimizer.zero_grad()
        norms().sum().backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            if not point:
                x[:, :3] = torch.nn.functional.normalize(x[:, :3], dim=1)
            if shader == "metallic_roughness":
                x[:, 3:] = x[:, 3:].clamp(lower, upper)
    with torch.no_grad():
        return x[:, :3].clone(), norms().sqrt()
