# SPDX-License-Identifier: Apache-2.0
"""The shading forward process: a light and a material give the brightness of surface points.

The equations are those of pyrender's fragment shader (``shaders/mesh.frag`` of pyrender 0.1.45, a metallic-roughness
material after glTF 2.0), so a test compares the two; here they are batched, differentiable torch operations on points:

``radiance = I / d^2 * (n.l) * ((1 - F) c / pi + F G D / (4 (n.l) (n.v) + 0.001)) + ambient``

with c = 0.96 albedo (1 - metallic), F after Schlick from f0 = 0.04 (1 - metallic) + albedo metallic, G after Smith, D
the GGX distribution; d = 1 for directional light. The image value is ``min(radiance^(1 / 2.2), limit)``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GAMMA = 2.2
DIELECTRIC = 0.04  # reflectance of what is no metal, and the smallest roughness that the shader knows
DARKEST = 1e-4  # linear values below are encoded as this one, where the slope of the gamma curve has no bound
# Entries of a light estimate (B, 8) behind its direction or position.
LOG_INTENSITY, ALBEDO, METALLIC, ROUGHNESS, AMBIENT = range(3, 8)
ESTIMATE_SIZE = 8
LOWER = (-6.0, 0.02, 0.0, 0.08, 0.0)  # bounds of the entries behind the light
UPPER = (10.0, 1.0, 1.0, 1.0, 3.0)


def encode(linear: Tensor) -> Tensor:
    """Linear radiance -> gamma-encoded image value, ``x^(1/2.2)``."""
    return linear.clamp_min(DARKEST) ** (1.0 / GAMMA)


def decode(value: Tensor) -> Tensor:
    """Gamma-encoded image value -> linear radiance, the inverse of :func:`encode`."""
    return value.clamp_min(0.0) ** GAMMA


def reflected(
    normal: Tensor, view: Tensor, light: Tensor, albedo: Tensor, metallic: Tensor, roughness: Tensor
) -> Tensor:
    """``(n.l) BRDF``: radiance per unit of light.

    Args:
        normal: (..., 3) unit normals.
        view: (..., 3) unit vectors from the points towards the camera.
        light: (..., 3) unit vectors from the points towards the light.
        albedo: of the material, 0 to 1; like the next two, it broadcasts against (...).
        metallic: 0 to 1.
        roughness: 0 to 1.

    Returns:
        (...) radiance.
    """
    roughness = roughness.clamp(DIELECTRIC, 1.0)
    metallic = metallic.clamp(0.0, 1.0)
    half = light + view
    half = half / torch.linalg.vector_norm(half, dim=-1, keepdim=True).clamp_min(1e-6)
    nl = (normal * light).sum(-1).clamp(0.001, 1.0)
    nv = (normal * view).sum(-1).abs().clamp(0.001, 1.0)
    nh = (normal * half).sum(-1).clamp(0.0, 1.0)
    vh = (view * half).sum(-1).clamp(0.0, 1.0)
    f0 = DIELECTRIC * (1.0 - metallic) + albedo * metallic
    missing = 1.0 - vh
    fresnel = f0 + (1.0 - f0) * (missing * missing) * (missing * missing) * missing
    k = (roughness + 1.0) ** 2 / 8.0
    shadowing = nv / (nv * (1.0 - k) + k) * nl / (nl * (1.0 - k) + k)
    a2 = (roughness * roughness) ** 2
    spread = nh * nh * (a2 - 1.0) + 1.0
    distribution = a2 / (math.pi * spread * spread)
    diffuse = (1.0 - fresnel) * albedo * (1.0 - DIELECTRIC) * (1.0 - metallic) / math.pi
    return nl * (diffuse + fresnel * shadowing * distribution / (4.0 * nl * nv + 0.001))


def light_vectors(light: Tensor, position: Tensor, point: bool) -> tuple[Tensor, Tensor]:
    """Unit vectors towards the light, and how much of it arrives.

    Args:
        light: (B, N, 3) or (B, 1, 3): direction, or position of a point light in diameters from the object's center.
        position: (B, N, 3) of the surface points, diameters from the object's center.
        point: whether it is a point light.

    Returns:
        (B, N or 1, 3) unit vectors and (B, N or 1) attenuation, ``1 / d^2`` or one.
    """
    towards = light - position if point else light
    square = (towards * towards).sum(-1).clamp_min(1e-6)
    unit = towards * torch.rsqrt(square)[..., None]
    return unit, 1.0 / square if point else torch.ones_like(square)


def radiance(estimate: Tensor, position: Tensor, normal: Tensor, view: Tensor, point: bool) -> Tensor:
    """Linear radiance of surface points.

    Args:
        estimate: (B, 8), or (B, N, 8) with entries for each point: direction or position of the light (camera axes,
            diameters from the object's center), logarithm of its intensity, albedo, metallic, roughness, ambient.
        position: (B, N, 3), diameters from the object's center, camera axes.
        normal: (B, N, 3) unit.
        view: (B, N, 3) unit, towards the camera.
        point: whether the light is a point light.

    Returns:
        (B, N).
    """
    x = estimate if estimate.ndim == 3 else estimate[:, None]
    light, attenuation = light_vectors(x[..., :3], position, point)
    part = reflected(normal, view, light, x[..., ALBEDO], x[..., METALLIC], x[..., ROUGHNESS])
    return torch.exp(x[..., LOG_INTENSITY]) * attenuation * part + x[..., AMBIENT]


def image_values(
    estimate: Tensor, position: Tensor, normal: Tensor, view: Tensor, limit: Tensor, point: bool
) -> Tensor:
    """:func:`radiance` as image values, clipped at ``limit`` (B,), the value of a saturated pixel. -> (B, N)."""
    values = encode(radiance(estimate, position, normal, view, point))
    return torch.minimum(values, limit[:, None])
