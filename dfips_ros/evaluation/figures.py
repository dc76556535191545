# SPDX-License-Identifier: Apache-2.0
"""Pictures: overlays of an estimate on its image, animations of them, and plots of errors over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

AXIS_COLOURS = ((235, 64, 52), (70, 190, 75), (58, 120, 240))  # RGB of x, y, z, as in RViz
STATE_COLOURS = {"TRACKING": (40, 230, 120), "LOST": (245, 70, 60), "INITIALISING": (250, 200, 60)}
TAG_SHADES = {"occluded": ("#f2c14e", 0.28), "hidden": ("#5d6470", 0.35)}
SUBPIXEL_BITS = 4


def draw_contour(image: np.ndarray, silhouette: np.ndarray, colour: tuple[int, int, int], thickness: int = 2) -> None:
    """Draw the outline of a silhouette (H, W) bool into ``image`` (H, W, 3) uint8 RGB, in place."""
    outlines, _ = cv2.findContours(
        np.ascontiguousarray(silhouette, dtype=np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(image, outlines, -1, (0, 0, 0), thickness + 2, cv2.LINE_AA)
    cv2.drawContours(image, outlines, -1, colour, thickness, cv2.LINE_AA)


def draw_axes(
    image: np.ndarray,
    T_camera_object: np.ndarray,
    camera_matrix: np.ndarray,
    length: float,
    origin: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0),
) -> None:
    """Draw the object's axes into ``image`` (H, W, 3) uint8 RGB, in place: x red, y green, z blue.

    Args:
        image: the picture.
        T_camera_object: (4, 4) pose, optical frame.
        camera_matrix: (3, 3) pixels.
        length: of each axis, metres.
        origin: object point where they start, metres.
    """
    start = np.asarray(origin, dtype=np.float64)
    points = np.vstack([start, start + length * np.eye(3)]) @ T_camera_object[:3, :3].T + T_camera_object[:3, 3]
    if (points[:, 2] < 1e-3).any():
        return
    pixels = points @ np.asarray(camera_matrix).T
    pixels = np.clip(pixels[:, :2] / pixels[:, 2:], -10_000, 10_000)
    fixed = np.round(pixels * 2**SUBPIXEL_BITS).astype(int)
    far_first = np.argsort(-points[1:, 2])
    for axis in far_first:
        ends = (tuple(map(int, fixed[0])), tuple(map(int, fixed[1 + axis])))
        cv2.line(image, *ends, (0, 0, 0), 5, cv2.LINE_AA, SUBPIXEL_BITS)
        cv2.line(image, *ends, AXIS_COLOURS[axis], 3, cv2.LINE_AA, SUBPIXEL_BITS)


def axes_origin(vertices: np.ndarray) -> np.ndarray:
    """Where to draw an object's axes: its origin, or the middle of its box if that is outside. (V, 3) -> (3,)."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    inside = bool((low <= 0).all() and (high >= 0).all())
    return np.zeros(3) if inside else (low.astype(np.float64) + high) / 2


def draw_text(image: np.ndarray, lines: Sequence[tuple[str, tuple[int, int, int]]]) -> None:
    """Write lines of (text, RGB colour) into the upper left corner of ``image``, in place, on a dark strip."""
    scale = image.shape[1] / 640
    step = int(20 * scale)
    strip = image[: step * len(lines) + int(8 * scale)]
    strip[:] = (strip * 0.45).astype(np.uint8)
    for row, (text, colour) in enumerate(lines):
        spot = (int(8 * scale), int((row + 0.8) * step))
        cv2.putText(image, text, spot, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * scale, colour, 1, cv2.LINE_AA)


def draw_inset(image: np.ndarray, mask: np.ndarray, share: float = 0.22) -> None:
    """Put a small copy of the observed mask into the lower right corner of ``image``, in place."""
    width = int(image.shape[1] * share)
    height = int(round(width * mask.shape[0] / mask.shape[1]))
    small = cv2.resize((mask > 0).astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_AREA)
    inset = np.repeat((40 + small * (215 / 255)).astype(np.uint8)[..., None], 3, axis=2)
    cv2.rectangle(inset, (0, 0), (width - 1, height - 1), (200, 200, 200), 1)
    image[-height - 6 : -6, -width - 6 : -6] = inset


def draw_overlay(
    image: np.ndarray,
    silhouette: np.ndarray | None,
    T_camera_object: np.ndarray | None,
    camera_matrix: np.ndarray,
    axis_length: float,
    origin: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0),
    state: str = "TRACKING",
    lines: Sequence[str] = (),
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Contour, axes, text and the observed mask over a colour image.

    Args:
        image: (H, W, 3) uint8 RGB; it is not changed.
        silhouette: (H, W) bool of the object at the estimate, or None.
        T_camera_object: (4, 4) the estimate, or None (then neither contour nor axes are drawn).
        camera_matrix: (3, 3) pixels.
        axis_length: metres.
        origin: object point where the axes start.
        state: "TRACKING", "LOST" or "INITIALISING": the colour of contour and first line.
        lines: text.
        mask: (H, W) the observation, shown small.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    picture = np.ascontiguousarray(image).copy()
    colour = STATE_COLOURS.get(state, (220, 220, 220))
    if T_camera_object is not None:
        if silhouette is not None:
            draw_contour(picture, silhouette, colour)
        draw_axes(picture, T_camera_object, camera_matrix, axis_length, origin)
    if mask is not None:
        draw_inset(picture, mask)
    if lines:
        draw_text(picture, [(lines[0], colour), *((line, (235, 235, 235)) for line in lines[1:])])
    return picture


def write_animation(frames: Iterable[np.ndarray], stem: Path, rate: float, webp_width: int = 480) -> list[Path]:
    """Write ``stem.mp4`` (every frame, where OpenCV can) and ``stem.webp`` (smaller, for browsers and READMEs).

    Args:
        frames: (H, W, 3) uint8 RGB pictures of one size.
        stem: path without suffix.
        rate: frames per second.
        webp_width: width of the WebP in pixels; it holds every second frame.

    Returns:
        The files that were written.
    """
    from PIL import Image

    video = None
    small: list[Image.Image] = []
    movie = stem.with_suffix(".mp4")
    for index, frame in enumerate(frames):
        if index == 0:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            video = cv2.VideoWriter(str(movie), code, rate, (frame.shape[1], frame.shape[0]))
        if video is not None and video.isOpened():
            video.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        if index % 2 == 0:
            height = round(webp_width * frame.shape[0] / frame.shape[1])
            small.append(Image.fromarray(cv2.resize(frame, (webp_width, height), interpolation=cv2.INTER_AREA)))
    written = []
    if video is not None:
        opened = video.isOpened()
        video.release()
        if opened:
            written.append(movie)
    if small:
        file = stem.with_suffix(".webp")
        small[0].save(
            file,
            save_all=True,
            append_images=small[1:],
            duration=round(2000 / rate),
            loop=0,
            quality=60,
            method=2,
        )
        written.append(file)
    return written


@dataclass(frozen=True)
class TrackingSeries:
    """What a plot of one tracked sequence shows, each (N,), NaN where there is no value.

    Attributes:
        time: seconds.
        rotation_error_deg, translation_error_mm, iou, latency_ms: per frame.
        tags: "clean", "occluded" or "hidden" per frame: shaded in the plot.
        states: the tracker's state per frame, "" where none came.
    """

    time: np.ndarray
    rotation_error_deg: np.ndarray
    translation_error_mm: np.ndarray
    iou: np.ndarray
    latency_ms: np.ndarray
    tags: Sequence[str]
    states: Sequence[str]


def plot_tracking(series: TrackingSeries, title: str, path: Path) -> None:
    """Plot rotation error, translation error, silhouette IoU and latency over time as one PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = (
        ("rotation error [deg]", series.rotation_error_deg, "#c0392b"),
        ("translation error [mm]", series.translation_error_mm, "#2c6fbb"),
        ("silhouette IoU", series.iou, "#2e8b57"),
        ("latency [ms]", series.latency_ms, "#6c5b7b"),
    )
    figure, axes = plt.subplots(len(rows), 1, sharex=True, figsize=(9.0, 8.0), layout="constrained")
    figure.suptitle(title, fontsize=12)
    for axis, (label, values, colour) in zip(axes, rows, strict=True):
        _shade_events(axis, series)
        axis.plot(series.time, values, color=colour, linewidth=1.3, marker=".", markersize=2.5)
        axis.set_ylabel(label, fontsize=9)
        axis.grid(True, color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        known = values[np.isfinite(values)]
        if len(known) == 0:
            continue
        if label.endswith("IoU"):
            axis.set_ylim(max(min(0.5, float(known.min()) - 0.02), 0.0), 1.0)
        else:
            # One wrong moment must not flatten the rest: show up to the 99th percentile, and say so.
            top = max(float(np.percentile(known, 99)) * 1.6, 1e-3)
            axis.set_ylim(0.0, top)
            if known.max() > top:
                axis.text(0.995, 0.92, f"peak {known.max():.0f}", transform=axis.transAxes, ha="right", fontsize=8)
    axes[-1].set_xlabel("time [s]")
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower right", ncols=len(handles), fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _shade_events(axis: object, series: TrackingSeries) -> None:
    """Shade occluded and hidden spans, and mark frames at which the tracker was not tracking."""
    for tag, (colour, alpha) in TAG_SHADES.items():
        for number, (begin, end) in enumerate(_spans([t == tag for t in series.tags], series.time)):
            axis.axvspan(begin, end, color=colour, alpha=alpha, linewidth=0, label=tag if number == 0 else None)  # type: ignore[attr-defined]
    away = [s != "TRACKING" for s in series.states]
    for number, (begin, end) in enumerate(_spans(away, series.time)):
        label = "no pose" if number == 0 else None
        axis.axvspan(begin, end, ymin=0.0, ymax=0.03, color="#e74c3c", linewidth=0, label=label)  # type: ignore[attr-defined]


def _spans(flags: Sequence[bool], time: np.ndarray) -> list[tuple[float, float]]:
    """Begin and end of each run of True."""
    edges = np.flatnonzero(np.diff(np.r_[0, np.asarray(flags, dtype=int), 0]))
    step = float(time[1] - time[0]) if len(time) > 1 else 0.1
    return [(float(time[a]), float(time[b - 1]) + step) for a, b in zip(edges[::2], edges[1::2], strict=True)]
