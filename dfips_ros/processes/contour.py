# SPDX-License-Identifier: Apache-2.0
"""Explicit comparison of a simulated and an observed silhouette, as rows of a Gauss-Newton system.

Every row says how far one point of the simulated object is from the observed contour (``residual``, simulated minus
observed, positive outside) and how that distance changes with the pose (``jacobian``). There are three kinds:

* simulated contour points against the observation's signed distance;
* observed contour points against the nearest simulated contour point, along the observed normal;
* points of the object's surface, hidden ones too, that project outside the observed silhouette (a hinge).

Units: the object has diameter one, and distances are measured in diameters at the depth of the point, so rows do not
change with the size of the image or the object. Jacobians are with respect to the update of ``Se3ImageSpace``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numba as nb
import numpy as np

from .observation import NUM_OBSERVED, SilhouetteObservation, as_array, boundary, mask_normal
from .rasterizer import PackedMeshes, parallel_lock, raster_one, to_depth

if TYPE_CHECKING:
    from torch import Tensor

ROW_FEATURES = 16
GLOBAL_FEATURES = 14
NUM_SIMULATED, NUM_SURFACE = 96, 96
NUM_ROWS = NUM_SIMULATED + NUM_OBSERVED + NUM_SURFACE


@nb.njit(cache=True, nogil=True)
def distance_at(distance, u, v):
    """Bilinear signed distance and its gradient at (u, v); beyond the image the distance keeps growing."""
    height, width = distance.shape
    uc = min(max(u, np.float32(1.0)), np.float32(width - 2.001))
    vc = min(max(v, np.float32(1.0)), np.float32(height - 2.001))
    x, y = int(uc), int(vc)
    a, b = uc - x, vc - y
    s00, s10 = distance[y, x], distance[y, x + 1]
    s01, s11 = distance[y + 1, x], distance[y + 1, x + 1]
    s = (1 - b) * ((1 - a) * s00 + a * s10) + b * ((1 - a) * s01 + a * s11)
    # Central differences over two pixels smooth the steps of the pixel grid.
    xr, yr = int(uc + np.float32(0.5)), int(vc + np.float32(0.5))
    gx = np.float32(0.0)
    gy = np.float32(0.0)
    for k in range(-1, 2):
        weight = np.float32(2.0 if k == 0 else 1.0)
        yk = min(max(yr + k, 0), height - 1)
        xk = min(max(xr + k, 0), width - 1)
        gx += weight * (distance[yk, min(xr + 1, width - 1)] - distance[yk, max(xr - 1, 0)])
        gy += weight * (distance[min(yr + 1, height - 1), xk] - distance[max(yr - 1, 0), xk])
    gx *= np.float32(0.125)
    gy *= np.float32(0.125)
    du, dv = u - uc, v - vc
    beyond = math.sqrt(du * du + dv * dv)
    if beyond > 0:
        s = max(s, np.float32(0.0)) + beyond
        gx, gy = du / beyond, dv / beyond
    return np.float32(s), np.float32(gx), np.float32(gy)


@nb.njit(cache=True, nogil=True)
def _write_row(
    f, jacobian, residual, weight, i, kind, r_px, gu, gv, u, v, z, focal, cx, cy, t, nx, ny, nz, eu, ev, cosine, extra
):
    scale = z / focal  # diameters per pixel at the point's depth
    x = (u - cx) * scale
    y = (v - cy) * scale
    px, py, pz = x - t[0], y - t[1], z - t[2]
    jx, jy = gu, gv
    jz = -(gu * (u - cx) + gv * (v - cy)) / focal
    residual[i] = r_px * scale
    weight[i] = 1.0
    jacobian[i, 0] = py * jz - pz * jy
    jacobian[i, 1] = pz * jx - px * jz
    jacobian[i, 2] = px * jy - py * jx
    jacobian[i, 3] = jx
    jacobian[i, 4] = jy
    jacobian[i, 5] = jx * t[0] + jy * t[1] + jz * t[2]
    f[i, :] = 0.0
    f[i, kind] = 1.0
    f[i, 3] = 4.0 * residual[i]
    f[i, 4], f[i, 5] = gu, gv
    f[i, 6], f[i, 7], f[i, 8] = 2.0 * px, 2.0 * py, 2.0 * pz
    f[i, 9], f[i, 10], f[i, 11] = nx, ny, nz
    f[i, 12], f[i, 13] = 4.0 * eu * scale, 4.0 * ev * scale
    f[i, 14] = cosine
    f[i, 15] = extra


@nb.njit(cache=True, nogil=True)
def _clear_row(f, jacobian, residual, weight, i):
    f[i, :] = 0.0
    jacobian[i, :] = 0.0
    residual[i] = 0.0
    weight[i] = 0.0


@nb.njit(cache=True, nogil=True)
def _simulated_rows(depth, valid, distance, focal, cx, cy, t, offset, outline, count, out):
    f, jacobian, residual, weight = out
    us, vs, nus, nvs, _ = outline
    for i in range(NUM_SIMULATED):
        if count == 0:
            _clear_row(f, jacobian, residual, weight, i)
            continue
        j = min(int((i + offset) * count / NUM_SIMULATED), count - 1)
        nu, nv = nus[j], nvs[j]
        x, y = int(us[j]), int(vs[j])
        s, gu, gv = distance_at(distance, us[j], vs[j])
        length = math.sqrt(gu * gu + gv * gv)
        if valid[y, x] == 0 or length < 0.1:
            _clear_row(f, jacobian, residual, weight, i)
            continue
        gu, gv = gu / length, gv / length
        r = s + np.float32(0.5)
        _write_row(
            f, jacobian, residual, weight, i, 0, r, gu, gv, us[j], vs[j], depth[y, x], focal, cx, cy, t,
            nu, nv, np.float32(0.0), r * gu, r * gv, nu * gu + nv * gv, length,
        )  # fmt: skip


@nb.njit(cache=True, nogil=True)
def _match(u, v, nu, nv, count, qu, qv, gu, gv, cost):
    """The simulated contour point for an observed one with normal (gu, gv); ``cost`` is scratch."""
    for j in range(count):
        du, dv = u[j] - qu, v[j] - qv
        # Contours that face the same way are the better match: opposite ones look twice as far.
        cost[j] = (du * du + dv * dv) * (np.float32(2.5) - np.float32(1.5) * (nu[j] * gu + nv[j] * gv))
    m0 = m1 = m2 = m3 = np.float32(1e30)  # four at a time, as each comparison waits for the one before
    for j in range(0, count - 3, 4):
        m0, m1 = min(m0, cost[j]), min(m1, cost[j + 1])
        m2, m3 = min(m2, cost[j + 2]), min(m3, cost[j + 3])
    least = min(min(m0, m1), min(m2, m3))
    for j in range(count - count % 4, count):
        least = min(least, cost[j])
    for j in range(count):
        if cost[j] == least:
            return j
    return 0


@nb.njit(cache=True, nogil=True)
def _observed_rows(depth, contour, contour_valid, focal, cx, cy, t, outline, count, out):
    f, jacobian, residual, weight = out
    us, vs, nus, nvs, cost = outline
    for i in range(NUM_OBSERVED):
        row = NUM_SIMULATED + i
        if count == 0 or contour_valid[i] == 0.0:
            _clear_row(f, jacobian, residual, weight, row)
            continue
        qu, qv, gu, gv = contour[i, 0], contour[i, 1], contour[i, 2], contour[i, 3]
        best = _match(us, vs, nus, nvs, count, qu, qv, gu, gv, cost)
        x, y = int(us[best]), int(vs[best])
        eu, ev = np.float32(x - qu), np.float32(y - qv)
        cosine = nus[best] * gu + nvs[best] * gv
        _write_row(
            f, jacobian, residual, weight, row, 1, eu * gu + ev * gv, gu, gv, np.float32(x), np.float32(y), depth[y, x],
            focal, cx, cy, t, nus[best], nvs[best], np.float32(0.0), eu, ev, cosine, np.float32(1.0),
        )  # fmt: skip


@nb.njit(cache=True, nogil=True)
def _surface_rows(depth, valid, distance, focal, cx, cy, pose, t, surface, out):
    f, jacobian, residual, weight = out
    size = depth.shape[0]
    for i in range(NUM_SURFACE):
        row = NUM_SIMULATED + NUM_OBSERVED + i
        p = surface[i]
        x = pose[0, 0] * p[0] + pose[0, 1] * p[1] + pose[0, 2] * p[2] + t[0]
        y = pose[1, 0] * p[0] + pose[1, 1] * p[1] + pose[1, 2] * p[2] + t[1]
        z = pose[2, 0] * p[0] + pose[2, 1] * p[1] + pose[2, 2] * p[2] + t[2]
        if z < 0.05:
            _clear_row(f, jacobian, residual, weight, row)
            continue
        nx = pose[0, 0] * p[3] + pose[0, 1] * p[4] + pose[0, 2] * p[5]
        ny = pose[1, 0] * p[3] + pose[1, 1] * p[4] + pose[1, 2] * p[5]
        nz = pose[2, 0] * p[3] + pose[2, 1] * p[4] + pose[2, 2] * p[5]
        u = focal * x / z + cx
        v = focal * y / z + cy
        s, gu, gv = distance_at(distance, np.float32(u), np.float32(v))
        iu = min(max(int(u + 0.5), 0), size - 1)
        iv = min(max(int(v + 0.5), 0), size - 1)
        seen = 1.0 if z < depth[iv, iu] + 0.03 else 0.0
        length = math.sqrt(gu * gu + gv * gv)
        known = valid[iv, iu] > 0 and length > 0.1
        if known:
            gu, gv = gu / length, gv / length
        r = max(s, np.float32(0.0)) if known else np.float32(0.0)
        _write_row(
            f, jacobian, residual, weight, row, 2, r, gu, gv, np.float32(u), np.float32(v), np.float32(z), focal, cx,
            cy, t, nx, ny, nz, s * gu, s * gv, nx * gu + ny * gv, seen,
        )  # fmt: skip


@nb.njit(cache=True, nogil=True)
def moments(mask, valid):
    """Area, centroid and second central moments (uu, vv, uv) of the known part of a mask, pixels."""
    area, mu, mv, uu, vv, uv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for y in range(mask.shape[0]):
        n, nx, nxx = 0, 0, 0
        for x in range(mask.shape[1]):
            if mask[y, x] > 0 and valid[y, x] > 0:
                n += 1
                nx += x
                nxx += x * x
        area += n
        mu += nx
        mv += n * y
        uu += nxx
        vv += n * y * y
        uv += nx * y
    if area > 0:
        mu /= area
        mv /= area
        uu, vv, uv = uu / area - mu * mu, vv / area - mv * mv, uv / area - mu * mv
    return area, mu, mv, uu, vv, uv


@nb.njit(cache=True, nogil=True)
def known_iou(depth, mask, valid):
    """IoU of what is seen in ``depth`` and ``mask``, over the known pixels; 0 where both are empty."""
    common, either = 0, 0
    for y in range(mask.shape[0]):
        seen, observed, known = depth[y], mask[y], valid[y]
        both, one = np.int32(0), np.int32(0)  # counted without branches, in the width of a pixel: several at a time
        for x in range(mask.shape[1]):
            a, b, k = np.int32(seen[x] > np.float32(0.0)), np.int32(observed[x] > 0), np.int32(known[x] > 0)
            both += a & b & k
            one += (a | b) & k
        common += both
        either += one
    return common / either if either > 0 else 0.0


@nb.njit(cache=True, nogil=True)
def _global_features(depth, mask, valid, focal, t, observed, out):
    """Fill ``out`` and return 1 - IoU of the known pixels; ``observed`` are the moments of the mask."""
    norm = 1.0 - known_iou(depth, mask, valid)
    scale = t[2] / focal
    sa, su, sv, suu, svv, suv = moments(depth, valid)
    oa, ou, ov, ouu, ovv, ouv = observed
    square = scale * scale
    out[0] = norm
    out[1] = 0.5 * math.log((sa + 1.0) / (oa + 1.0))
    out[2], out[3] = 4.0 * (su - ou) * scale, 4.0 * (sv - ov) * scale
    out[4], out[5], out[6] = 20.0 * suu * square, 20.0 * svv * square, 20.0 * suv * square
    out[7], out[8], out[9] = 20.0 * ouu * square, 20.0 * ovv * square, 20.0 * ouv * square
    out[10], out[11] = sa * square, oa * square
    out[12] = 1.0 / t[2]
    out[13] = math.log(1.0 / (64.0 * scale))
    return norm


@nb.njit(cache=True, nogil=True)
def contour_rows(depth, valid, distance, contour, contour_valid, camera, t, offset, points, out):
    """The rows of both contours at a pose with translation ``t``, whose ``depth`` is given, into ``out``."""
    focal, cx, cy = camera[0, 0], camera[0, 2], camera[1, 2]
    count = boundary(depth, points)
    outline = np.empty((5, count), np.float32)
    for j in range(count):
        outline[0, j], outline[1, j] = points[j, 0], points[j, 1]
        outline[2, j], outline[3, j] = mask_normal(depth, points[j, 0], points[j, 1])
    split = (outline[0], outline[1], outline[2], outline[3], outline[4])
    _simulated_rows(depth, valid, distance, focal, cx, cy, t, offset, split, count, out)
    _observed_rows(depth, contour, contour_valid, focal, cx, cy, t, split, count, out)


@nb.njit(cache=True, nogil=True)
def compare_one(
    vertices, faces, front, surface, pose, camera, mask, valid, distance, contour, contour_valid, offset,
    observed_moments, projected, points, depth, f, jacobian, residual, weight, context,
):  # fmt: skip
    """:func:`compare` for one element, into given arrays -> 1 - IoU.

    ``observed_moments`` are :func:`moments` of the mask; ``projected`` (V, 3) and ``points`` (S * S, 2) int32 are
    scratch memory.
    """
    focal, cx, cy = camera[0, 0], camera[0, 2], camera[1, 2]
    raster_one(vertices, faces, front, pose, focal, focal, cx, cy, projected, depth)
    to_depth(depth)
    t = pose[:3, 3].copy()
    out = (f, jacobian, residual, weight)
    contour_rows(depth, valid, distance, contour, contour_valid, camera, t, offset, points, out)
    _surface_rows(depth, valid, distance, focal, cx, cy, pose, t, surface, out)
    return _global_features(depth, mask, valid, focal, t, observed_moments, context)


@nb.njit(cache=True, nogil=True)
def _compare_item(b, mesh, surface, index, poses, observed, offset, out):
    vertices, faces, vertex_start, face_start, front = mesh
    camera, mask, valid, distance, contour, contour_valid = observed
    depth, f, jacobian, residual, weight, glob, norm = out
    m = index[b]
    part = vertices[vertex_start[m] : vertex_start[m + 1]]
    size = mask.shape[1]
    norm[b] = compare_one(
        part, faces[face_start[m] : face_start[m + 1]], front[m], surface[m], poses[b], camera[b], mask[b], valid[b],
        distance[b], contour[b], contour_valid[b], offset[b], moments(mask[b], valid[b]),
        np.empty((part.shape[0], 3), np.float32), np.empty((size * size, 2), np.int32),
        depth[b], f[b], jacobian[b], residual[b], weight[b], glob[b],
    )  # fmt: skip


@nb.njit(cache=True, nogil=True)
def _compare_serial(mesh, surface, index, poses, observed, offset, out):
    for b in range(len(index)):
        _compare_item(b, mesh, surface, index, poses, observed, offset, out)


@nb.njit(cache=True, nogil=True, parallel=True)
def _compare_parallel(mesh, surface, index, poses, observed, offset, out):
    for b in nb.prange(len(index)):
        _compare_item(b, mesh, surface, index, poses, observed, offset, out)


def compare(
    meshes: PackedMeshes,
    surface: np.ndarray,
    observation: SilhouetteObservation,
    estimate: Tensor,
    offset: np.ndarray | None = None,
) -> dict[str, Tensor]:
    """Simulate the silhouettes at the estimated poses and compare them with the observed ones.

    Args:
        meshes: normalised meshes (center at the origin, diameter one).
        surface: (M, NUM_SURFACE, 6) float32 points and normals on each mesh.
        observation: B observations.
        estimate: (B, 4, 4) poses of the normalised meshes in the crop's camera.
        offset: (B,) in [0, 1): where the sampling of contour points starts; 0.5 by default.

    Returns:
        ``rows`` (B, N, 16), ``jacobian`` (B, N, 6), ``residual`` (B, N), ``weight`` (B, N) of 0 or 1,
        ``context`` (B, 14), ``norm`` (B,) = 1 - IoU, ``depth`` (B, S, S).
    """
    import torch

    count, size = len(estimate), observation.mask.shape[-1]
    out = (
        np.empty((count, size, size), np.float32), np.empty((count, NUM_ROWS, ROW_FEATURES), np.float32),
        np.empty((count, NUM_ROWS, 6), np.float32), np.empty((count, NUM_ROWS), np.float32),
        np.empty((count, NUM_ROWS), np.float32), np.empty((count, GLOBAL_FEATURES), np.float32),
        np.empty(count, np.float32),
    )  # fmt: skip
    offset = np.full(count, 0.5, np.float32) if offset is None else offset.astype(np.float32)
    poses = np.ascontiguousarray(estimate.detach().cpu().numpy(), np.float32)
    arguments = (meshes.arrays, surface, as_array(observation.mesh_index), poses, observation.arrays(), offset, out)
    if count < 2 or nb.get_num_threads() < 2:
        _compare_serial(*arguments)
    else:
        with parallel_lock:
            _compare_parallel(*arguments)
    names = ("depth", "rows", "jacobian", "residual", "weight", "context", "norm")
    return {name: torch.from_numpy(array) for name, array in zip(names, out, strict=True)}


@nb.njit(cache=True, nogil=True)
def _contours_item(mesh, index, pose, observed, out):
    vertices, faces, vertex_start, face_start, front = mesh
    camera, mask, valid, distance, contour, contour_valid = observed
    m, size = index[0], mask.shape[1]
    part = vertices[vertex_start[m] : vertex_start[m + 1]]
    focal, cx, cy = camera[0, 0, 0], camera[0, 0, 2], camera[0, 1, 2]
    depth, points = np.empty((size, size), np.float32), np.empty((size * size, 2), np.int32)
    raster_one(
        part, faces[face_start[m] : face_start[m + 1]], front[m], pose, focal, focal, cx, cy,
        np.empty((part.shape[0], 3), np.float32), depth,
    )  # fmt: skip
    to_depth(depth)
    contour_rows(
        depth, valid[0], distance[0], contour[0], contour_valid[0], camera[0], pose[:3, 3].copy(), np.float32(0.5),
        points, out,
    )  # fmt: skip
    return 1.0 - known_iou(depth, mask[0], valid[0])


def compare_contours(
    meshes: PackedMeshes, observation: SilhouetteObservation, pose: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The contours' part of :func:`compare` for one observation.

    Args:
        meshes: normalised meshes.
        observation: one.
        pose: (4, 4) float32.

    Returns:
        Jacobian (N, 6), residual (N,) and weight (N,) of the rows of both contours, and 1 - IoU.
    """
    count = NUM_SIMULATED + NUM_OBSERVED
    out = (
        np.empty((count, ROW_FEATURES), np.float32), np.empty((count, 6), np.float32), np.empty(count, np.float32),
        np.empty(count, np.float32),
    )  # fmt: skip
    norm = _contours_item(meshes.arrays, as_array(observation.mesh_index), pose, observation.arrays(), out)
    return out[1], out[2], out[3], float(norm)
