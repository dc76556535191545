# SPDX-License-Identifier: Apache-2.0
"""Training examples: views of objects, drawn once, under ever new lights and materials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from ...geometry import make_pose, random_perturbations, random_rotations
from ...processes.mesh import Mesh
from ...processes.shading import GAMMA, LOWER, UPPER, light_vectors, radiance
from ...processes.shading_geometry import ShadingMesh, draw_geometry, pixel_rays, shading_mesh
from ...solver.training import Batch
from .config import IlluminationConfig, LightDataConfig
from .problem import LightObservation, search_starts

BRIGHTEST = 0.125  # this part of the pixels, the brightest, gets a quarter of the samples: highlights are small
LEVEL = 0.95  # quantile of the pixels' brightness that the exposure is normalised to
SMALLEST_VIEW = 60  # pixels
START_WEIGHTS = (0.55, 0.2, 0.1, 0.15)  # how often a training example starts from each start of `search_starts`
MATERIAL_CLASSES = ("matt", "glossy", "metallic", "any")


@dataclass(frozen=True)
class Views:
    """Surface points of many views of many objects, half precision.

    Attributes:
        told: (V, P, 6) position (diameters from the center) and normal, as the solver is told.
        true: (V, P, 6) the same for the true pose.
        depth: (V, 2) distance of the object's center, told and true, diameters.
    """

    told: Tensor
    true: Tensor
    depth: Tensor


def clear_pixels(depth: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of the object that lie on no outline and on no crease, where a pixel mixes surfaces.

    If hardly any is left, all of the object's pixels.
    """
    seen = depth > 0
    inner = cv2.erode(seen.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    for axis in (0, 1):
        for step in (1, -1):
            inner &= (normal * np.roll(normal, step, axis)).sum(-1) > 0.85
            inner &= np.abs(depth - np.roll(depth, step, axis)) < 0.08
    return inner if inner.sum() >= SMALLEST_VIEW else seen


def camera_of(depth: float, crop_size: int) -> np.ndarray:
    """(3, 3) camera matrix that a ball of diameter one at this depth nearly fills the crop of."""
    focal = crop_size * 0.95 * np.sqrt(max(depth * depth - 0.25, 0.25))
    middle = (crop_size - 1) / 2.0
    return np.array([[focal, 0.0, middle], [0.0, focal, middle], [0.0, 0.0, 1.0]])


def surface_points(
    mesh: ShadingMesh, pose: np.ndarray, camera: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(S, S) bool clear pixels, (S, S, 3) positions from the object's center in diameters, (S, S, 3) normals."""
    depth, normal = draw_geometry(mesh, pose, camera, (size, size))
    position = pixel_rays(camera, (size, size)) * depth[..., None] - pose[:3, 3].astype(np.float32)
    return clear_pixels(depth, normal), position, normal


def draw_views(meshes: Sequence[Mesh], config: LightDataConfig, crop_size: int) -> Views:
    """Draw random views of the meshes.

    Raises:
        ConfigError: hardly any view of these meshes shows enough of them.
    """
    rng = np.random.default_rng(config.seed)
    shaded = [shading_mesh(mesh) for mesh in meshes]
    count, kept = config.views, config.view_pixels
    points = np.empty((2, count, kept, 6), np.float16)
    depths = np.empty((count, 2), np.float32)
    done = 0
    for attempt in range(10 * count):
        if done == count:
            break
        mesh = shaded[attempt % len(shaded)]
        depth = float(np.exp(rng.uniform(*np.log(config.depth_range))))
        pose = make_pose(random_rotations(1, rng)[0], np.array([0.0, 0.0, depth]))
        camera = camera_of(depth, crop_size)
        clear, position, normal = surface_points(mesh, pose, camera, crop_size)
        true_pose, true_position, true_normal = pose, position, normal
        if rng.uniform() < config.wrong_pose:
            turn = random_perturbations(1, np.deg2rad(config.pose_noise_deg) * abs(rng.normal()), rng)[0]
            shift = rng.normal(size=3) * config.pose_noise_deg / 57.3 / 2.0
            true_pose = make_pose(turn @ pose[:3, :3], pose[:3, 3] + shift * [1.0, 1.0, depth * 0.3])
            seen, true_position, true_normal = surface_points(mesh, true_pose, camera, crop_size)
            clear = clear & seen
        where = np.flatnonzero(clear)
        if len(where) < SMALLEST_VIEW:
            continue
        chosen = rng.choice(where, kept, replace=len(where) < kept)
        for i, (p, n) in enumerate(((position, normal), (true_position, true_normal))):
            points[i, done, :, :3], points[i, done, :, 3:] = p.reshape(-1, 3)[chosen], n.reshape(-1, 3)[chosen]
        depths[done] = depth, true_pose[2, 3]
        done += 1
    if done < count:
        raise ConfigError(f"views={count}: only {done} views show enough of the {len(meshes)} meshes. Check them.")
    return Views(torch.from_numpy(points[0]), torch.from_numpy(points[1]), torch.from_numpy(depths))


def view_vectors(position: Tensor, depth: Tensor) -> Tensor:
    """(B, N, 3) unit vectors from the points to the camera; position from the object's center, depth (B,)."""
    towards = -position
    towards[..., 2] -= depth[:, None]
    return towards / torch.linalg.vector_norm(towards, dim=-1, keepdim=True)


def random_materials(count: int, rng: torch.Generator, material: str = "any") -> Tensor:
    """(B, 3) albedo, metallic, roughness of a class of :data:`MATERIAL_CLASSES`; ``any`` mixes them and all between."""
    u = torch.rand(count, 3, generator=rng)
    albedo = 0.1 + 0.85 * u[:, 0]
    ranges = {
        "matt": ((0.0, 0.0), (0.7, 1.0)), "glossy": ((0.0, 0.0), (0.2, 0.5)), "metallic": ((0.7, 1.0), (0.2, 0.7)),
        "mixed": ((0.0, 1.0), (0.15, 1.0)),
    }  # fmt: skip
    names = list(ranges)
    which = torch.randint(4, (count,), generator=rng) if material == "any" else None
    low_high = torch.tensor([ranges[name] for name in names])
    chosen = low_high[which] if which is not None else low_high[names.index(material)].expand(count, 2, 2)
    span = chosen[:, :, 0] + (chosen[:, :, 1] - chosen[:, :, 0]) * u[:, 1:]
    return torch.cat([albedo[:, None], span], dim=1)


def random_lights(
    normal: Tensor, position: Tensor, point: bool, config: LightDataConfig, rng: torch.Generator, tries: int = 6
) -> Tensor:
    """(B, 3) directions or positions, uniform over those that reach at least ``config.lit`` of the points."""
    count = len(normal)
    candidates = torch.randn(count, tries, 3, generator=rng)
    candidates = candidates / torch.linalg.vector_norm(candidates, dim=-1, keepdim=True)
    if point:
        low, high = np.log(config.point_range)
        candidates = candidates * torch.exp(low + (high - low) * torch.rand(count, tries, 1, generator=rng))
    some = slice(None, None, max(1, normal.shape[1] // 32))
    n, p = normal[:, None, some], position[:, None, some]
    unit, _ = light_vectors(candidates.reshape(-1, 1, 3), p.expand(-1, tries, -1, -1).flatten(0, 1), point)
    share = ((n.expand(-1, tries, -1, -1).flatten(0, 1) * unit).sum(-1) > 0.05).float().mean(1).reshape(count, tries)
    first = (share >= config.lit).float().argmax(1)
    best = torch.where((share >= config.lit).any(1), first, share.argmax(1))
    return candidates[torch.arange(count), best]


def sample_pixels(values: Tensor, count: int, rng: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Choose pixels over the whole range of brightness, more of the brightest.

    Args:
        values: (B, P) brightness.
        count: how many to choose.
        rng: chooses at random; None chooses evenly.

    Returns:
        (B, count) int64 indices and (B, count) weights, mean one: the area that a chosen pixel stands for.
    """
    total = values.shape[1]
    order = values.argsort(1)
    top_count = count // 4
    bottom_count = count - top_count
    split = int(round(total * (1.0 - BRIGHTEST)))

    def spread(low: int, high: int, number: int) -> Tensor:
        steps = torch.arange(number, dtype=torch.float32, device=values.device)
        offset = torch.rand(len(values), number, generator=rng).to(values.device) if rng is not None else 0.5
        return (low + (steps + offset) * (high - low) / number).long().clamp(low, max(high - 1, low))

    ranks = [spread(0, split, bottom_count), spread(split, total, top_count)]
    rank = torch.cat([r.expand(len(values), -1) for r in ranks], dim=1)
    part = torch.cat(
        [
            torch.full((bottom_count,), (1.0 - BRIGHTEST) * count / bottom_count),
            torch.full((top_count,), BRIGHTEST * count / top_count),
        ]
    ).to(values)
    return order.gather(1, rank), part.expand(len(values), -1)


def exposure_level(values: Tensor) -> Tensor:
    """(B, P) gamma-encoded values -> (B,) the level that becomes one."""
    rank = int(LEVEL * (values.shape[1] - 1))
    return values.kthvalue(rank + 1, dim=1).values.clamp_min(1e-3)


def make_batch(
    views: Views, index: Tensor, model: IlluminationConfig, config: LightDataConfig, rng: torch.Generator
) -> Batch:
    """One batch of the views ``index`` (B,) under random lights."""
    count = len(index)
    told, true, depth = views.told[index].float(), views.true[index].float(), views.depth[index]
    position, normal = true[..., :3], torch.nn.functional.normalize(true[..., 3:], dim=-1)
    light = random_lights(normal, position, model.point, config, rng)
    material = random_materials(count, rng)
    x = torch.cat([light, torch.zeros(count, 1), material, torch.zeros(count, 1)], dim=1)
    estimate = x[:, None].expand(-1, position.shape[1], -1)
    albedo = material[:, :1].expand(-1, position.shape[1])
    if config.textured > 0:
        textured = torch.rand(count, 1, generator=rng) < config.textured
        waves = torch.randn(count, 3, 2, generator=rng) * 8.0
        phase = 6.3 * torch.rand(count, 1, 2, generator=rng)
        pattern = torch.sin(position @ waves + phase).prod(-1)
        strength = 0.5 * torch.rand(count, 1, generator=rng) * textured
        albedo = albedo * (1.0 - strength * (pattern > 0))
        estimate = torch.cat([estimate[..., :4], albedo[..., None], estimate[..., 5:]], dim=-1)
    bright = radiance(estimate, position, normal, view_vectors(position, depth[:, 1]), model.point)
    distance = torch.linalg.vector_norm(light, dim=1, keepdim=True)
    ambient = config.largest_ambient * torch.rand(count, 1, generator=rng) ** 2 / np.pi
    bright = bright + ambient * albedo / (distance**2 if model.point else 1.0)
    # Exposure: the level of the brighter pixels lies somewhere between dark and overexposed.
    level = bright.kthvalue(int(LEVEL * (bright.shape[1] - 1)) + 1, dim=1, keepdim=True).values.clamp_min(1e-6)
    exposure = (0.25 + 0.95 * torch.rand(count, 1, generator=rng)) ** GAMMA / level
    noise = config.noise * torch.rand(count, 1, generator=rng) * torch.randn(bright.shape, generator=rng)
    values = ((bright * exposure) ** (1.0 / GAMMA) + noise).mul(255.0).round().clamp(0.0, 255.0) / 255.0
    chosen, weight = sample_pixels(values, model.pixels, rng)
    scale = exposure_level(values)
    gain = exposure / scale[:, None] ** GAMMA
    one_albedo = material[:, :1]
    truth = torch.cat(
        [light, torch.log(gain), material, ambient * one_albedo * gain / (distance**2 if model.point else 1.0)], dim=1
    )
    truth[:, 3:] = truth[:, 3:].clamp(torch.tensor(LOWER), torch.tensor(UPPER))

    def pick(tensor: Tensor) -> Tensor:
        return tensor.gather(1, chosen[..., None].expand(-1, -1, tensor.shape[-1]))

    told = pick(told)
    told_position, told_normal = told[..., :3], torch.nn.functional.normalize(told[..., 3:], dim=-1)
    observation = LightObservation(
        values.gather(1, chosen) / scale[:, None], told_position, told_normal,
        view_vectors(told_position, depth[:, 0]), weight, 1.0 / scale, scale, torch.arange(count), chosen,
    )  # fmt: skip
    starts = search_starts(observation, model.point, len(START_WEIGHTS))
    which = torch.multinomial(torch.tensor(START_WEIGHTS), count, replacement=True, generator=rng)
    return observation, starts[torch.arange(count), which], {"estimate": truth}


def light_batches(views: Views, model: IlluminationConfig, config: LightDataConfig) -> Iterator[Batch]:
    """Endless random batches of the views."""
    rng = torch.Generator().manual_seed(config.seed)
    while True:
        index = torch.randint(len(views.depth), (config.batch_size,), generator=rng)
        yield make_batch(views, index, model, config, rng)
