# SPDX-License-Identifier: Apache-2.0
"""Pictures of the illumination demo: what the camera saw, the true light on a sphere, and the estimated one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ..evaluation.figures import draw_text, write_animation
from ..tasks.illumination import IlluminationSolution, chrome_sphere
from .demo_light_run import LightResult
from .demo_light_scene import LightScene

WHITE, AMBER = (255, 255, 255), (255, 190, 60)
SPHERE = 240  # pixels


def draw_pictures(scene: LightScene, results: Sequence[LightResult], out: Path, progress: bool) -> list[Path]:
    """Write an animation and a plot of the errors into ``out`` and return their paths."""
    if not results:
        return []
    rate = scene.recording.rate * len(results) / len(scene.recording)
    written = write_animation(_pictures(scene, results, progress), out / "light", rate)
    written.append(out / "light_errors.png")
    _plot(scene, results, written[-1])
    return written


def _pictures(scene: LightScene, results: Sequence[LightResult], progress: bool) -> Iterator[np.ndarray]:
    for result in tqdm(results, desc="drawing", unit="picture", disable=not progress or None):
        yield picture(scene, result)


def picture(scene: LightScene, result: LightResult) -> np.ndarray:
    """The image with the two spheres beside it. -> (480, 880, 3) uint8 RGB."""
    image = scene.recording.image(result.index)
    status = result.answer["status"]
    error = "" if result.angle_deg is None else f"   {result.angle_deg:.1f} deg off"
    lines = [(f"{result.index / scene.recording.rate:5.2f} s   {status}{error}", WHITE)]
    if result.answer["reason"]:
        lines.append((result.answer["reason"][:70], AMBER))
    draw_text(image, lines)
    true = _sphere(scene, result.index, scene.lights[result.index], scene.positions[result.index])
    black = np.zeros_like(true)
    found = black if result.angle_deg is None else _sphere(
        scene, result.index, np.array(result.answer["direction"]), np.array(result.answer["position"])
    )  # fmt: skip
    for sphere, text in ((true, "true light"), (found, "estimated")):
        cv2.putText(sphere, text, (4, SPHERE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, WHITE, 1, cv2.LINE_AA)
    return np.hstack([image, cv2.resize(np.vstack([true, found]), (SPHERE, image.shape[0]))])


def _sphere(scene: LightScene, index: int, direction: np.ndarray, position: np.ndarray) -> np.ndarray:
    """A light on a shiny sphere in the object's place. -> (SPHERE, SPHERE, 3) uint8 RGB."""
    point = scene.kind == "point"
    solution = IlluminationSolution(
        kind=scene.kind, direction=direction, position=position if point else None, intensity=1.0, ambient=0.0,
        albedo=np.ones(3), roughness=0.5, metallic=0.0, residual_norms=(0.0,),
        history=(position if point else direction)[None], object_center=scene.centers[index],
        object_diameter=scene.mesh.diameter, direction_std_deg=0.0, pixels=0, reason="", solve_time=0.0,
    )  # fmt: skip
    return chrome_sphere(solution, SPHERE)


def _plot(scene: LightScene, results: Sequence[LightResult], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    axis = figure.subplots()
    for status, colour in (("ESTIMATED", "tab:blue"), ("UNCERTAIN", "tab:orange")):
        chosen = [each for each in results if each.answer["status"] == status]
        times = [each.index / scene.recording.rate for each in chosen]
        errors = [float("nan") if each.angle_deg is None else each.angle_deg for each in chosen]
        axis.plot(times, errors, ".", color=colour, label=status.lower())
    axis.set_xlabel("time (s)")
    axis.set_ylabel("direction error (degrees)")
    axis.set_ylim(bottom=0.0)
    axis.legend()
    figure.savefig(path, dpi=110)
