# SPDX-License-Identifier: Apache-2.0
"""Image values of the shading process with their derivatives: compiled on the CPU, by autograd elsewhere."""

from __future__ import annotations

import math

import numba as nb
import numpy as np
import torch
from torch import Tensor

from .shading import DARKEST, DIELECTRIC, GAMMA, image_values


@nb.njit(cache=True, nogil=True, fastmath=True)
def _shade(estimate, position, normal, view, limit, point, values, jacobian):
    """The chain rule through the equations of :mod:`~dfips_ros.processes.shading`, pixel by pixel."""
    one, zero = np.float32(1.0), np.float32(0.0)
    least, tiny = np.float32(0.001), np.float32(1e-6)
    gamma, plain = np.float32(1.0 / GAMMA), np.float32((1.0 - DIELECTRIC) / math.pi)
    f_plain, pi, darkest = np.float32(DIELECTRIC), np.float32(math.pi), np.float32(DARKEST)
    for b in range(len(estimate)):
        x = estimate[b]
        strength, albedo, metal, ambient = math.exp(x[3]), x[4], min(max(x[5], zero), one), x[7]
        rough = min(max(x[6], f_plain), one)
        k = (rough + one) * (rough + one) / np.float32(8.0)
        a2 = rough * rough * rough * rough
        f0 = f_plain * (one - metal) + albedo * metal
        for i in range(position.shape[1]):
            tx, ty, tz = x[0], x[1], x[2]
            if point:
                tx, ty, tz = tx - position[b, i, 0], ty - position[b, i, 1], tz - position[b, i, 2]
            near = one / math.sqrt(max(tx * tx + ty * ty + tz * tz, tiny))  # 1 / distance
            ux, uy, uz = tx * near, ty * near, tz * near
            nx, ny, nz = normal[b, i, 0], normal[b, i, 1], normal[b, i, 2]
            vx, vy, vz = view[b, i, 0], view[b, i, 1], view[b, i, 2]
            hx, hy, hz = ux + vx, uy + vy, uz + vz
            short = one / max(math.sqrt(hx * hx + hy * hy + hz * hz), tiny)
            hx, hy, hz = hx * short, hy * short, hz * short
            raw_nl = nx * ux + ny * uy + nz * uz
            raw_nh = nx * hx + ny * hy + nz * hz
            raw_vh = vx * hx + vy * hy + vz * hz
            nl, nh, vh = min(max(raw_nl, least), one), min(max(raw_nh, zero), one), min(max(raw_vh, zero), one)
            nv = min(max(abs(nx * vx + ny * vy + nz * vz), least), one)
            miss = one - vh
            miss4 = miss * miss * miss * miss
            fresnel = f0 + (one - f0) * miss4 * miss
            below_l, below_v = nl * (one - k) + k, nv * (one - k) + k
            gl, gv = nl / below_l, nv / below_v
            spread = nh * nh * (a2 - one) + one
            peak = a2 / (pi * spread * spread)
            below = np.float32(4.0) * nl * nv + least
            diffuse = (one - fresnel) * albedo * (one - metal) * plain
            mirror = gl * gv * peak / below  # the highlight over the Fresnel factor
            part = nl * (diffuse + fresnel * mirror)
            arriving = strength * near * near if point else strength
            linear = arriving * part + ambient
            value = max(linear, darkest) ** gamma
            seen = value < limit[b] and linear > darkest
            values[b, i] = min(value, limit[b])
            if not seen:
                for j in range(8):
                    jacobian[b, i, j] = zero
                continue
            slope = value * gamma / linear
            by_fresnel = nl * (mirror - albedo * (one - metal) * plain)
            d_nl, d_nh, d_vh = zero, zero, zero
            if raw_nl >= least and raw_nl <= one:
                inner = k / (below_l * below_l) * gv * peak / below - mirror * np.float32(4.0) * nv / below
                d_nl = diffuse + fresnel * mirror + nl * fresnel * inner
            if raw_nh >= zero and raw_nh <= one:
                d_nh = nl * fresnel * mirror * np.float32(-4.0) * nh * (a2 - one) / spread
            if raw_vh >= zero and raw_vh <= one:
                d_vh = by_fresnel * np.float32(-5.0) * (one - f0) * miss4
            gx = d_nl * nx + (d_nh * (nx - raw_nh * hx) + d_vh * (vx - raw_vh * hx)) * short
            gy = d_nl * ny + (d_nh * (ny - raw_nh * hy) + d_vh * (vy - raw_vh * hy)) * short
            gz = d_nl * nz + (d_nh * (nz - raw_nh * hz) + d_vh * (vz - raw_vh * hz)) * short
            along = gx * ux + gy * uy + gz * uz
            if point:
                along += np.float32(2.0) * part  # further away, less arrives
            scale = slope * arriving
            jacobian[b, i, 0] = scale * near * (gx - along * ux)
            jacobian[b, i, 1] = scale * near * (gy - along * uy)
            jacobian[b, i, 2] = scale * near * (gz - along * uz)
            jacobian[b, i, 3] = scale * part
            white = (one - fresnel) * plain * nl
            f_albedo, f_metal = metal * (one - miss4 * miss), (albedo - f_plain) * (one - miss4 * miss)
            jacobian[b, i, 4] = scale * (white * (one - metal) + by_fresnel * f_albedo)
            jacobian[b, i, 5] = scale * (-white * albedo + by_fresnel * f_metal)
            d_k = -((one - nl) / below_l + (one - nv) / below_v)
            d_a2 = one / a2 - np.float32(2.0) * nh * nh / spread
            d_rough = d_k * (rough + one) / np.float32(4.0) + d_a2 * np.float32(4.0) * rough * rough * rough
            jacobian[b, i, 6] = scale * nl * fresnel * mirror * d_rough
            jacobian[b, i, 7] = slope


def image_jacobian(
    estimate: Tensor, position: Tensor, normal: Tensor, view: Tensor, limit: Tensor, point: bool
) -> tuple[Tensor, Tensor]:
    """Image values (B, N) and their derivatives (B, N, 8) with respect to the estimate (B, 8).

    Arguments as of :func:`~dfips_ros.processes.shading.image_values`.
    """
    if estimate.device.type != "cpu" or estimate.dtype != torch.float32:
        return autograd_jacobian(estimate, position, normal, view, limit, point)
    tensors = (estimate, position, normal, view, limit)
    arrays = [np.ascontiguousarray(tensor.detach().numpy(), np.float32) for tensor in tensors]
    values = np.empty(position.shape[:2], np.float32)
    jacobian = np.empty((*values.shape, 8), np.float32)
    _shade(arrays[0], arrays[1], arrays[2], arrays[3], arrays[4], point, values, jacobian)
    return torch.from_numpy(values), torch.from_numpy(jacobian)


def autograd_jacobian(
    estimate: Tensor, position: Tensor, normal: Tensor, view: Tensor, limit: Tensor, point: bool
) -> tuple[Tensor, Tensor]:
    """The same by torch's automatic differentiation, on any device."""
    with torch.inference_mode(False), torch.enable_grad():  # a clone made in here may be differentiated
        inputs = [tensor.clone() if tensor.is_inference() else tensor for tensor in (position, normal, view, limit)]
        x = estimate.clone().detach()[:, None].expand(-1, position.shape[1], -1).contiguous().requires_grad_()
        values = image_values(x, inputs[0], inputs[1], inputs[2], inputs[3], point)
        (jacobian,) = torch.autograd.grad(values.sum(), x)
    return values.detach(), jacobian
