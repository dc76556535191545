# SPDX-License-Identifier: Apache-2.0
"""The comparison of ``processes.contour`` on a device: tensor operations of fixed shape that never wait for it.

The rows, their features and their Jacobians are the same to rounding; see there for what they mean. At most
``MOST_POINTS`` simulated contour points are matched with the observed ones (a contour that has more is thinned evenly).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from .contour import NUM_SIMULATED
from .device_meshes import DeviceMeshes, has_kernels
from .device_observation import contour_of, normals_at
from .observation import NUM_OBSERVED, SilhouetteObservation

MOST_POINTS = 1024
_MATCH_BLOCK = 1 << 26  # most elements of an intermediate tensor of the matching where there is no kernel


def distance_at(distance: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Bilinear signed distance (B, N) and its gradient (B, N, 2) at (u, v), each (B, N), in images (B, S, S)."""
    size = distance.shape[-1]
    flat = distance.flatten(1)
    uc, vc = u.clamp(1.0, size - 2.001), v.clamp(1.0, size - 2.001)
    x, y = uc.floor(), vc.floor()
    a, b = uc - x, vc - y
    d = torch.arange(-1, 2, device=distance.device)
    corner = (y.long() * size + x.long())[..., None] + torch.cat([d[1:], d[1:] + size])
    middle = ((vc + 0.5).long() * size + (uc + 0.5).long())[..., None] + (d[:, None] * size + d).flatten()
    values = flat.gather(1, torch.cat([corner, middle], dim=-1).flatten(1)).reshape(*u.shape, 13)
    s00, s10, s01, s11 = values[..., :4].unbind(-1)
    s = (1 - b) * ((1 - a) * s00 + a * s10) + b * ((1 - a) * s01 + a * s11)
    n = values[..., 4:]
    # Central differences over two pixels smooth the steps of the pixel grid.
    gx = n[..., 2] - n[..., 0] + 2.0 * (n[..., 5] - n[..., 3]) + n[..., 8] - n[..., 6]
    gy = n[..., 6] - n[..., 0] + 2.0 * (n[..., 7] - n[..., 1]) + n[..., 8] - n[..., 2]
    du, dv = u - uc, v - vc
    beyond = torch.sqrt(du * du + dv * dv)
    outside = beyond > 0
    away = torch.stack([du, dv], dim=-1) / beyond.clamp_min(1e-20)[..., None]
    gradient = torch.where(outside[..., None], away, 0.125 * torch.stack([gx, gy], dim=-1))
    return torch.where(outside, s.clamp_min(0.0) + beyond, s), gradient


def raw_moments(seen: Tensor) -> Tensor:
    """Sums (B, 3, 3) over masks (B, S, S) of ``y^i x^j``, i and j up to 2, from the middle of the image."""
    size = seen.shape[-1]
    x = torch.arange(size, device=seen.device, dtype=torch.float32) - size // 2
    powers = torch.stack([torch.ones_like(x), x, x * x], dim=-1)
    return powers.T @ (seen.float() @ powers)


def central_moments(seen: Tensor) -> Tensor:
    """Area, centroid and second central moments (uu, vv, uv), pixels: (B, S, S) bool -> (B, 6), zero if empty."""
    m = raw_moments(seen)
    area = m[:, 0, 0]
    n = area.clamp_min(1.0)
    mu, mv = m[:, 0, 1] / n, m[:, 1, 0] / n
    uu, vv, uv = m[:, 0, 2] / n - mu * mu, m[:, 2, 0] / n - mv * mv, m[:, 1, 1] / n - mu * mv
    middle = (seen.shape[-1] // 2) * (area > 0)
    return torch.stack([area, mu + middle, mv + middle, uu, vv, uv], dim=-1)


def observed_moments(observation: SilhouetteObservation) -> Tensor:
    """:func:`central_moments` (B, 6) of the known part of the observed masks."""
    if not has_kernels(observation.mask.device):
        return central_moments((observation.mask > 0) & (observation.valid > 0))
    from . import cuda_observation

    return cuda_observation.observed_moments(observation)


def known_iou(seen: Tensor, observation: SilhouetteObservation) -> Tensor:
    """IoU (..., B) of simulated masks (..., B, S, S) bool and observed ones, over the known pixels; 0 without any."""
    mask, valid = observation.mask > 0, observation.valid > 0
    common = (seen & mask & valid).sum((-2, -1), dtype=torch.int32)
    either = ((seen | mask) & valid).sum((-2, -1), dtype=torch.int32)
    return common / either.clamp_min(1)


def simulated_iou(inverse: Tensor, observation: SilhouetteObservation) -> Tensor:
    """IoU (B,) of B simulated inverse depths (B, S, S) and observations, as :func:`known_iou`."""
    if not has_kernels(inverse.device):
        return known_iou(inverse > 0, observation)
    from .cuda_silhouette import image_sums, overlap

    return overlap(image_sums(inverse, observation)[0])


def _matched(points: Tensor, count: Tensor, contour: Tensor) -> Tensor:
    """Which of the points (B, K, 4), of which ``count`` (B,) exist, fits each of the contour (B, N, 4) -> (B, N)."""
    exists = torch.arange(points.shape[1], device=points.device) < count[:, None]
    parts = []
    step = max(1, _MATCH_BLOCK // (points.shape[1] * contour.shape[1]))
    for p, e, q in zip(points.split(step), exists.split(step), contour.split(step), strict=True):
        away = p[:, None, :, :2] - q[:, :, None, :2]
        cost = (away * away).sum(-1) * (2.5 - 1.5 * (q[..., 2:] @ p[..., 2:].transpose(1, 2)))
        parts.append(torch.where(e[:, None], cost, 3e38).argmin(-1))
    return torch.cat(parts)


def compare(
    meshes: DeviceMeshes,
    observation: SilhouetteObservation,
    estimate: Tensor,
    moments: Tensor | None = None,
    offset: Tensor | None = None,
) -> dict[str, Tensor]:
    """Simulate the silhouettes at the estimated poses and compare them with the observed ones.

    Args:
        meshes: normalised meshes (center at the origin, diameter one).
        observation: B observations, on the device.
        estimate: (B, 4, 4) poses of the normalised meshes in the crop's camera.
        moments: :func:`observed_moments` of the observation; computed by default.
        offset: (B,) in [0, 1): where the sampling of contour points starts; 0.5 by default.

    Returns:
        As ``processes.contour.compare``, with ``inverse_depth`` (B, S, S) in place of ``depth``.
    """
    size = observation.mask.shape[-1]
    pose, camera = estimate.float(), observation.camera
    inverse = meshes.inverse_depth(observation.mesh_index, pose, camera, size)
    moments = observed_moments(observation) if moments is None else moments
    if has_kernels(pose.device):
        from .cuda_contour import comparison

        return comparison(inverse, observation, pose.contiguous(), meshes.surface, moments, offset)
    offset = torch.full_like(pose[:, 0, 0], 0.5) if offset is None else offset
    seen, valid = inverse > 0, observation.valid > 0
    flat, flat_valid = inverse.flatten(1), valid.flatten(1)
    contour = contour_of(seen)
    count = contour.count[:, None]
    listed = torch.arange(MOST_POINTS, device=pose.device, dtype=torch.int32).expand(len(pose), -1)
    thinned = torch.where(count <= MOST_POINTS, listed, (listed.long() * count // MOST_POINTS).int())
    # One list: first the points that are sampled evenly, then all of them, for the matching.
    place = torch.cat([contour.sampled(NUM_SIMULATED, offset), contour.pixel(thinned)], dim=1)
    normals = normals_at(seen, place)
    place_y = torch.div(place, size, rounding_mode="floor")
    points = torch.cat([torch.stack([place % size, place_y], dim=-1).float(), normals], dim=-1)
    best = NUM_SIMULATED + _matched(
        points[:, NUM_SIMULATED:], contour.count.clamp_max(MOST_POINTS), observation.contour
    )
    chosen = torch.cat([torch.arange(NUM_SIMULATED, device=pose.device).expand(len(pose), -1), best], dim=1)
    points = points.gather(1, chosen[..., None].expand(-1, -1, 4))  # simulated, then matched with the observed ones
    on_contour = place.gather(1, chosen)
    z_contour = 1.0 / flat.gather(1, on_contour).clamp_min(1e-12)

    surface = meshes.surface[observation.mesh_index]
    rotation, t = pose[:, :3, :3], pose[:, :3, 3]
    moved = surface[..., :3] @ rotation.transpose(1, 2) + t[:, None]
    turned = surface[..., 3:] @ rotation.transpose(1, 2)
    z_surface = moved[..., 2]
    focal, cx, cy = camera[:, 0, 0, None], camera[:, 0, 2, None], camera[:, 1, 2, None]
    safe = z_surface.clamp_min(0.05)
    # A pose that is not a number must not reach for pixels that are not there.
    u_surface = torch.nan_to_num(focal * moved[..., 0] / safe + cx)
    v_surface = torch.nan_to_num(focal * moved[..., 1] / safe + cy)
    pixel = (v_surface + 0.5).clamp(0, size - 1).long() * size + (u_surface + 0.5).clamp(0, size - 1).long()

    u_own = torch.cat([points[:, :NUM_SIMULATED, 0], u_surface], dim=1)
    v_own = torch.cat([points[:, :NUM_SIMULATED, 1], v_surface], dim=1)
    s, gradient = distance_at(observation.signed_distance, u_own, v_own)
    length = torch.sqrt((gradient * gradient).sum(-1))
    known = (flat_valid.gather(1, torch.cat([on_contour[:, :NUM_SIMULATED], pixel], dim=1))) & (length >= 0.1)
    unit = torch.where(known[..., None], gradient / length.clamp_min(1e-20)[..., None], gradient)

    s0, s2 = s[:, :NUM_SIMULATED] + 0.5, s[:, NUM_SIMULATED:]
    g0, g2 = unit[:, :NUM_SIMULATED], unit[:, NUM_SIMULATED:]
    n0, n1, n2 = points[:, :NUM_SIMULATED, 2:], points[:, NUM_SIMULATED:, 2:], turned[..., :2]
    g1 = observation.contour[..., 2:]
    e1 = points[:, NUM_SIMULATED:, :2] - observation.contour[..., :2]
    front = flat.gather(1, pixel)
    visible = (front > 0) & (z_surface < 1.0 / front.clamp_min(1e-12) + 0.03)
    gradients = torch.cat([g0, g1, g2], dim=1)
    normals = torch.cat([n0, n1, n2], dim=1)
    there = torch.cat(
        [
            known[:, :NUM_SIMULATED] & (count > 0), (observation.contour_valid > 0) & (count > 0), z_surface >= 0.05,
        ], dim=1,
    )  # fmt: skip
    out = _rows(
        there,
        r=torch.cat([s0, (e1 * g1).sum(-1), s2.clamp_min(0.0) * known[:, NUM_SIMULATED:]], dim=1),
        gradient=gradients,
        u=torch.cat([points[..., 0], u_surface], dim=1), v=torch.cat([points[..., 1], v_surface], dim=1),
        z=torch.cat([z_contour, z_surface], dim=1), camera=(focal, cx, cy), t=t,
        normal=torch.cat([normals, pad(turned[..., 2:], (0, 0, NUM_SIMULATED + NUM_OBSERVED, 0))], dim=-1),
        toward=torch.cat([s0[..., None] * g0, e1, s2[..., None] * g2], dim=1),
        cosine=(normals * gradients).sum(-1),
        extra=torch.cat([length[:, :NUM_SIMULATED], torch.ones_like(g1[..., 0]), visible.float()], dim=1),
    )  # fmt: skip
    iou = known_iou(seen, observation)
    context = _context(1.0 - iou, central_moments(seen & valid), moments, t[:, 2] / focal[:, 0], t[:, 2])
    return {**out, "context": context, "norm": 1.0 - iou, "inverse_depth": inverse}


def jacobian_of(
    gradient: Tensor, u: Tensor, v: Tensor, z: Tensor, camera: tuple[Tensor, Tensor, Tensor], t: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """How distances in the image change with the update of ``Se3ImageSpace``.

    Args:
        gradient: (B, N, 2) unit directions in the image.
        u, v, z: (B, N) points in pixels and their depths.
        camera: focal length, cx and cy, (B, 1) each.
        t: (B, 3) translations.

    Returns:
        Jacobians (B, N, 6), the points less the translation (B, N, 3), and diameters per pixel (B, N).
    """
    focal, cx, cy = camera
    scale = z / focal
    px, py, pz = (u - cx) * scale - t[:, 0, None], (v - cy) * scale - t[:, 1, None], z - t[:, 2, None]
    jx, jy = gradient.unbind(-1)
    jz = -(jx * (u - cx) + jy * (v - cy)) / focal
    along = jx * t[:, 0, None] + jy * t[:, 1, None] + jz * t[:, 2, None]
    jacobian = torch.stack([py * jz - pz * jy, pz * jx - px * jz, px * jy - py * jx, jx, jy, along], dim=-1)
    return jacobian, torch.stack([px, py, pz], dim=-1), scale


def _rows(
    there: Tensor, r: Tensor, gradient: Tensor, u: Tensor, v: Tensor, z: Tensor,
    camera: tuple[Tensor, Tensor, Tensor], t: Tensor, normal: Tensor, toward: Tensor, cosine: Tensor, extra: Tensor,
) -> dict[str, Tensor]:  # fmt: skip
    jacobian, arm, scale = jacobian_of(gradient, u, v, z, camera, t)
    residual = r * scale
    i = torch.arange(r.shape[1], device=r.device)
    kind = (i >= NUM_SIMULATED).int() + (i >= NUM_SIMULATED + NUM_OBSERVED).int()
    kinds = (kind[:, None] == torch.arange(3, device=r.device)).float()
    features = torch.cat(
        [
            kinds.expand(len(r), -1, -1), 4.0 * residual[..., None], gradient, 2.0 * arm, normal,
            4.0 * toward * scale[..., None], cosine[..., None], extra[..., None],
        ], dim=-1,
    )  # fmt: skip
    zero = torch.zeros((), device=r.device)
    return {
        "rows": torch.where(there[..., None], features, zero),
        "jacobian": torch.where(there[..., None], jacobian, zero),
        "residual": torch.where(there, residual, zero), "weight": there.float(),
    }  # fmt: skip


def _context(norm: Tensor, simulated: Tensor, observed: Tensor, scale: Tensor, depth: Tensor) -> Tensor:
    area = 0.5 * torch.log((simulated[:, 0] + 1.0) / (observed[:, 0] + 1.0))
    square = (scale * scale)[:, None]
    return torch.cat(
        [
            norm[:, None], area[:, None], 4.0 * (simulated - observed)[:, 1:3] * scale[:, None],
            20.0 * simulated[:, 3:] * square, 20.0 * observed[:, 3:] * square, simulated[:, :1] * square,
            observed[:, :1] * square, 1.0 / depth[:, None], torch.log(1.0 / (64.0 * scale))[:, None],
        ], dim=1,
    )  # fmt: skip
