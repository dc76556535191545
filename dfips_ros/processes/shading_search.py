# SPDX-License-Identifier: Apache-2.0
"""Coarse search for a light: of many directions (and distances) those that explain an image best.

For a given light and roughness the linear image values are nearly a sum of three pictures, ``v = a D + s S + c``:
Lambert's, the GGX highlight's, and the ambient light's. The three amplitudes that fit best, none negative, come from
normal equations, so a candidate costs one pass over the pixels. (Separable least squares, Golub and Pereyra 1973.)
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from ..geometry import fibonacci_directions
from .shading import DIELECTRIC, GAMMA

ROUGHNESSES = (0.15, 0.25, 0.4, 0.65)
DISTANCES = (0.75, 1.1, 1.7)  # of point lights, diameters
DIRECTIONS = {False: 300, True: 150}  # of point lights, at each distance
SEPARATION_DEG = 20.0


def candidate_lights(point: bool) -> np.ndarray:
    """(L, 3) directions spread evenly over the sphere, or positions at :data:`DISTANCES`; float32."""
    directions = fibonacci_directions(DIRECTIONS[point])
    if not point:
        return directions.astype(np.float32)
    return np.concatenate([d * directions for d in DISTANCES]).astype(np.float32)


@nb.njit(cache=True, nogil=True)
def _amplitudes(a, b, x):
    """Least squares without negative amplitudes, by coordinate descent on normal equations of size 3; ``x`` -> cost."""
    x[:] = 0.0
    for _ in range(12):
        for i in range(3):
            if a[i, i] > 1e-12:
                rest = b[i]
                for j in range(3):
                    if j != i:
                        rest -= a[i, j] * x[j]
                x[i] = max(rest / a[i, i], 0.0)
    cost = 0.0
    for i in range(3):
        cost -= 2.0 * b[i] * x[i]
        for j in range(3):
            cost += x[i] * a[i, j] * x[j]
    return cost


@nb.njit(cache=True, nogil=True, fastmath=True)
def _search_one(position, normal, view, linear, weight, lights, point, roughnesses, costs, which, amplitudes):
    """Fills for each light the cost, the best roughness and the amplitudes (a, s, c)."""
    count, kinds = len(linear), len(roughnesses)
    a, b, x = np.empty((kinds, 3, 3)), np.empty((kinds, 3)), np.empty(3)
    square = 0.0
    for i in range(count):
        square += weight[i] * linear[i] * linear[i]
    for c in range(len(lights)):
        a[:] = 0.0
        b[:] = 0.0
        lit = 0
        for i in range(count):
            lx, ly, lz = lights[c, 0], lights[c, 1], lights[c, 2]
            arriving = 1.0
            if point:
                lx, ly, lz = lx - position[i, 0], ly - position[i, 1], lz - position[i, 2]
                arriving = 1.0 / max(lx * lx + ly * ly + lz * lz, 1e-4)
                root = math.sqrt(arriving)
                lx, ly, lz = lx * root, ly * root, lz * root
            w, y = weight[i], linear[i]
            nl = normal[i, 0] * lx + normal[i, 1] * ly + normal[i, 2] * lz
            diffuse, nh, nv = 0.0, 0.0, 1.0
            if nl > 0.0:
                lit += 1
                diffuse = nl / math.pi * arriving
                hx, hy, hz = lx + view[i, 0], ly + view[i, 1], lz + view[i, 2]
                length = math.sqrt(max(hx * hx + hy * hy + hz * hz, 1e-9))
                nh = max(normal[i, 0] * hx + normal[i, 1] * hy + normal[i, 2] * hz, 0.0) / length
                nv = max(abs(normal[i, 0] * view[i, 0] + normal[i, 1] * view[i, 1] + normal[i, 2] * view[i, 2]), 0.001)
            for r in range(kinds):
                specular = 0.0
                if nl > 0.0:
                    rough = roughnesses[r]
                    a2 = rough * rough * rough * rough
                    k = (rough + 1.0) * (rough + 1.0) / 8.0
                    spread = nh * nh * (a2 - 1.0) + 1.0
                    shadowing = nv / (nv * (1.0 - k) + k) * nl / (nl * (1.0 - k) + k)
                    specular = nl * shadowing * a2 / (math.pi * spread * spread * (4.0 * nl * nv + 0.001)) * arriving
                a[r, 0, 0] += w * diffuse * diffuse
                a[r, 0, 1] += w * diffuse * specular
                a[r, 0, 2] += w * diffuse
                a[r, 1, 1] += w * specular * specular
                a[r, 1, 2] += w * specular
                a[r, 2, 2] += w
                b[r, 0] += w * diffuse * y
                b[r, 1] += w * specular * y
                b[r, 2] += w * y
        costs[c], which[c] = np.inf, 0
        if lit * 20 < count:  # a light that reaches hardly anything explains anything
            continue
        for r in range(kinds):
            a[r, 1, 0], a[r, 2, 0], a[r, 2, 1] = a[r, 0, 1], a[r, 0, 2], a[r, 1, 2]
            cost = square + _amplitudes(a[r], b[r], x)
            if cost < costs[c]:
                costs[c], which[c] = cost, r
                amplitudes[c] = x


@nb.njit(cache=True, nogil=True)
def _search(position, normal, view, linear, weight, lights, point, roughnesses, cosine, found, amplitudes_out):
    """Keep for each element the ``found.shape[1]`` best lights that lie apart from each other."""
    count = len(lights)
    costs, which, amplitudes = np.empty(count), np.empty(count, np.int64), np.zeros((count, 3))
    for e in range(len(linear)):
        _search_one(
            position[e], normal[e], view[e], linear[e], weight[e], lights, point, roughnesses, costs, which, amplitudes
        )
        for s in range(found.shape[1]):
            best = np.argmin(costs)
            found[e, s, 0], found[e, s, 1] = best, which[best]
            amplitudes_out[e, s] = amplitudes[best]
            l0 = lights[best] / math.sqrt((lights[best] ** 2).sum())
            for c in range(count):
                dot = (lights[c, 0] * l0[0] + lights[c, 1] * l0[1] + lights[c, 2] * l0[2]) / math.sqrt(
                    (lights[c] ** 2).sum()
                )
                if dot > cosine:
                    costs[c] = np.inf


def search_lights(
    position: np.ndarray,
    normal: np.ndarray,
    view: np.ndarray,
    values: np.ndarray,
    weight: np.ndarray,
    limit: np.ndarray,
    point: bool,
    starts: int,
) -> np.ndarray:
    """The lights that explain the pixels best, at least 20 degrees apart, with a material that goes with each.

    Args:
        position: (B, N, 3) surface points, diameters from the object's center.
        normal: (B, N, 3) unit.
        view: (B, N, 3) unit, towards the camera.
        values: (B, N) gamma-encoded.
        weight: (B, N) of the pixels.
        limit: (B,) value of a saturated pixel.
        point: whether the light is a point light.
        starts: S, how many lights to return.

    Returns:
        (B, S, 8) float32 estimates, the best first.
    """
    y = np.maximum(values, 0.0).astype(np.float32)
    # Weighted so that errors count as in the gamma-encoded image; a saturated pixel tells little.
    slope = np.maximum(y, 0.15) ** (1.0 - GAMMA) / GAMMA
    trust = weight * slope**2 * np.where(y >= 0.985 * limit[:, None], 0.1, 1.0)
    lights = candidate_lights(point)
    found = np.zeros((len(y), starts, 2), np.int64)
    amplitudes = np.zeros((len(y), starts, 3))
    arrays = [np.ascontiguousarray(a, np.float32) for a in (position, normal, view)]
    _search(
        arrays[0], arrays[1], arrays[2], y**GAMMA, trust.astype(np.float32), lights, point, np.array(ROUGHNESSES),
        math.cos(math.radians(SEPARATION_DEG)), found, amplitudes,
    )  # fmt: skip
    return _estimates(lights[found[..., 0]], np.array(ROUGHNESSES)[found[..., 1]], amplitudes)


def _estimates(lights: np.ndarray, roughness: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """A material and an intensity that have the amplitudes of Lambert's part and of the highlight."""
    diffuse, specular, ambient = (amplitudes[..., i] for i in range(3))
    ratio = specular / np.maximum(diffuse, 1e-6)
    plain = np.clip(DIELECTRIC / np.maximum(0.92 * ratio, 1e-6), 0.1, 0.95)  # albedo, if it is no metal
    metal = 0.6  # albedo, if it is one
    odds = np.clip((ratio * 0.92 * metal - DIELECTRIC) / metal, 0.0, 20.0)
    is_metal = ratio > DIELECTRIC / (0.92 * 0.1)
    albedo = np.where(is_metal, metal, np.where(specular > 0, plain, 0.5))
    metallic = np.where(is_metal, odds / (1.0 + odds), 0.0)
    by_diffuse = diffuse / (0.92 * albedo)
    by_specular = specular / (DIELECTRIC * (1.0 - metallic) + albedo * metallic)
    intensity = np.maximum(np.where(is_metal, by_specular, by_diffuse), 1e-2)
    rough = np.where(specular > 0, roughness, 0.8)
    rest = np.stack([np.log(intensity), albedo, metallic, rough, np.clip(ambient, 0.002, 3.0)], axis=-1)
    return np.concatenate([lights, rest], axis=-1).astype(np.float32)
