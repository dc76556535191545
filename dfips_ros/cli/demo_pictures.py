# SPDX-License-Identifier: Apache-2.0
"""The demo's pictures: overlay animation, one still, plot of the errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..evaluation.figures import TrackingSeries, axes_origin, draw_overlay, plot_tracking, write_animation
from .demo_parts import CAMERA_RATE, DemoPart
from .demo_report import FrameResult

AXIS_SHARE = 0.45  # of the diameter


def draw_pictures(part: DemoPart, results: Sequence[FrameResult], out: Path, progress: bool) -> list[Path]:
    """Write the pictures of a part into ``out`` and return their paths."""
    if not results:
        return []
    written = write_animation(_overlays(part, results, progress), out / f"{part.name}_overlay", CAMERA_RATE)
    still = _still(part, results)
    if still is not None:
        written.append(out / f"{part.name}_overlay.png")
        _write_png(written[-1], overlay(part, still))
    written.append(out / f"{part.name}_errors.png")
    plot_tracking(_series(results), f"{part.title}: {part.note}", written[-1])
    return written


def overlay(part: DemoPart, result: FrameResult) -> np.ndarray:
    """The estimate over the camera's image. -> (H, W, 3) uint8 RGB."""
    state = result.state or "no answer"
    lines = [f"{part.title}   {result.time:5.2f} s   {state}", ""]
    silhouette = None
    if result.T_camera_object is not None:
        silhouette = part.silhouette(result.T_camera_object)
        lines[1] = (
            f"IoU {result.iou:.3f}   rotation {result.rotation_error_deg:.1f} deg   "
            f"translation {result.translation_error_mm:.1f} mm   latency {result.latency_ms:.1f} ms"
        )
    return draw_overlay(
        part.recording.image(result.index),
        silhouette,
        result.T_camera_object,
        part.recording.camera_matrix,
        AXIS_SHARE * part.mesh.diameter,
        axes_origin(part.mesh.vertices),
        result.state or "LOST",
        lines,
        part.recording.mask(result.index),
    )


def _overlays(part: DemoPart, results: Sequence[FrameResult], progress: bool) -> Iterator[np.ndarray]:
    for result in tqdm(results, desc=f"drawing {part.title}", unit="frame", disable=not progress or None):
        yield overlay(part, result)


def _still(part: DemoPart, results: Sequence[FrameResult]) -> FrameResult | None:
    """A telling frame: tracked while something is in front of the object, else the middle one."""
    tracked = [r for r in results if r.T_camera_object is not None]
    occluded = [r for r in tracked if r.tag == "occluded"]
    chosen = occluded or tracked
    return chosen[len(chosen) // 2] if chosen else None


def _series(results: Sequence[FrameResult]) -> TrackingSeries:
    judged = [r.tag != "hidden" for r in results]
    nan = float("nan")
    return TrackingSeries(
        time=np.array([r.time for r in results]),
        rotation_error_deg=np.array([r.rotation_error_deg if j else nan for r, j in zip(results, judged, strict=True)]),
        translation_error_mm=np.array(
            [r.translation_error_mm if j else nan for r, j in zip(results, judged, strict=True)]
        ),
        iou=np.array([r.iou if j else nan for r, j in zip(results, judged, strict=True)]),
        latency_ms=np.array([r.latency_ms for r in results]),
        tags=[r.tag for r in results],
        states=[r.state for r in results],
    )


def _write_png(path: Path, image: np.ndarray) -> None:
    import cv2

    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
