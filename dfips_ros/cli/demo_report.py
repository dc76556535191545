# SPDX-License-Identifier: Apache-2.0
"""Compare what the tracker said with the truth, and say it in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry import make_pose, matrix_from_quaternion_xyzw, rotation_angle
from .demo_parts import DemoPart
from .demo_run import PartRecord

OUTLIER_ROTATION_DEG = 20.0
OUTLIER_DIAMETERS = 0.1


@dataclass(frozen=True)
class FrameResult:
    """One frame of the camera and the tracker's answer to it.

    Attributes:
        index: frame number.
        time: seconds since the first frame.
        tag: "clean", "occluded" or "hidden".
        state: of the tracker, "" when no answer came.
        T_camera_object: (4, 4) its estimate, None unless it is tracking and gave one for this frame.
        latency_ms: publication of the mask to arrival of the answer.
        rotation_error_deg, translation_error_mm, depth_error_mm: against the nearest symmetric truth.
        iou: of the estimate's silhouette and the true one.
    """

    index: int
    time: float
    tag: str
    state: str
    T_camera_object: np.ndarray | None
    latency_ms: float
    rotation_error_deg: float
    translation_error_mm: float
    depth_error_mm: float
    iou: float


def nearest_truth(estimate: np.ndarray, truth: np.ndarray, symmetries: np.ndarray) -> np.ndarray:
    """Of the poses that look like ``truth`` (4, 4), the one whose rotation is nearest to ``estimate``."""
    candidates = truth @ symmetries
    angles = rotation_angle(np.broadcast_to(estimate[:3, :3], candidates[:, :3, :3].shape), candidates[:, :3, :3])
    return candidates[int(np.argmin(angles))]


def compare(part: DemoPart, record: PartRecord) -> list[FrameResult]:
    """One result per published frame, in order."""
    answers = {answer["stamp_ns"]: answer for answer in record.received}
    first = record.published[0]["stamp_ns"] if record.published else 0
    return [
        _compare_frame(part, event, answers.get(event["stamp_ns"]), (event["stamp_ns"] - first) * 1e-9)
        for event in record.published
    ]


def _compare_frame(part: DemoPart, event: dict, answer: dict | None, time: float) -> FrameResult:
    index, nan = event["index"], float("nan")
    tag = part.tags[index]
    if answer is None:
        return FrameResult(index, time, tag, "", None, nan, nan, nan, nan, nan)
    latency = (answer["received_ns"] - answer["stamp_ns"]) * 1e-6
    if answer["state"] != "TRACKING" or not answer["has_pose"]:
        return FrameResult(index, time, tag, answer["state"], None, latency, nan, nan, nan, nan)
    estimate = make_pose(matrix_from_quaternion_xyzw(answer["quaternion_xyzw"]), np.array(answer["position"]))
    truth = nearest_truth(estimate, part.truth[index], part.symmetries)
    center = np.append(part.mesh.center, 1.0)
    offset = ((estimate - truth) @ center)[:3]
    ray = (truth @ center)[:3]
    along = float(offset @ ray / np.linalg.norm(ray))
    seen, wanted = part.silhouette(estimate), part.reference(index)
    iou = float((seen & wanted).sum() / max((seen | wanted).sum(), 1))
    return FrameResult(
        index, time, tag, answer["state"], estimate, latency,
        float(np.degrees(rotation_angle(estimate[:3, :3], truth[:3, :3]))),
        1e3 * float(np.linalg.norm(offset)), 1e3 * along, iou,
    )  # fmt: skip


def summarise(part: DemoPart, record: PartRecord, results: Sequence[FrameResult]) -> dict:
    """The figures of one part, ready for JSON; a figure that does not exist is None."""
    tracked = [r for r in results if r.T_camera_object is not None]
    judged = [r for r in tracked if r.tag != "hidden"]
    visible = [r for r in results if r.tag != "hidden"]
    first = next((r.index for r in results if r.T_camera_object is not None), None)
    missing = [r.index for r in results if r.state == ""]
    seconds = results[-1].time - results[0].time if len(results) > 1 else 0.0
    outliers = [
        r for r in judged
        if r.rotation_error_deg > OUTLIER_ROTATION_DEG
        or r.translation_error_mm > 1e3 * OUTLIER_DIAMETERS * part.mesh.diameter
    ]  # fmt: skip
    posed = [a for a in record.received if a["state"] == "TRACKING" and a["has_pose"]]
    first_answer = posed[0] if posed else None
    first_pose = None
    if first_answer is not None and record.published:
        first_pose = (first_answer["received_ns"] - record.published[0]["stamp_ns"]) * 1e-6
    return {
        "part": part.name,
        "title": part.title,
        "source": part.source,
        "note": part.note,
        "frames": len(results),
        "seconds": _round(seconds, 3),
        "rate_hz": _round((len(results) - 1) / seconds, 2) if seconds > 0 else None,
        "answers": len(results) - len(missing),
        "dropped": len(missing),
        "dropped_after_first_pose": len([i for i in missing if first is not None and i > first]),
        "dropped_while_tracking": _dropped_while_tracking(results),
        "first_pose_ms": _round(first_pose, 1),
        "tracked_share": _round(len(judged) / len(visible), 4) if visible else None,
        "latency_ms": statistics([r.latency_ms for r in tracked], (50, 99)),
        "camera_late_ms": statistics([e["late_ms"] for e in record.published], (50, 99)),
        "solve_ms": statistics([1e3 * a["solve_time"] for a in posed], (50, 99)),
        "mask_iou": statistics([r.iou for r in judged], (50, 5)),
        "rotation_error_deg": statistics([r.rotation_error_deg for r in judged], (50, 95)),
        "translation_error_mm": statistics([r.translation_error_mm for r in judged], (50, 95)),
        "depth_error_mm": statistics([abs(r.depth_error_mm) for r in judged], (50, 95)),
        "outliers": len(outliers),
        **_losses(results),
        "memory_mb": _round(record.memory_mb, 1),
        "memory_peak_mb": _round(record.memory_peak_mb, 1),
        "processor_share": _round(record.processor_seconds / record.wall_seconds, 3)
        if record.processor_seconds is not None
        else None,
        "startup_seconds": _round(record.startup_seconds, 2),
    }


def _dropped_while_tracking(results: Sequence[FrameResult]) -> int:
    """Frames that were dropped although the frame being solved was tracked, not searched from nothing.

    A search takes longer than a frame lasts. The frame that was being solved is the last one that was answered; it was
    a search unless the answer before it was TRACKING as well.
    """
    dropped, answers = 0, ["", ""]
    for result in results:
        if result.state == "":
            dropped += answers == ["TRACKING", "TRACKING"]
        else:
            answers = [answers[1], result.state]
    return dropped


def _losses(results: Sequence[FrameResult]) -> dict:
    """How often the object was lost and found again, and how long that took after it was visible again."""
    lost = recovered = lost_while_visible = 0
    waits: list[float] = []
    tracking, seen_before = False, False
    away_since: float | None = None  # lost although visible, since then
    for result in results:
        if result.state != "":
            now = result.state == "TRACKING"
            if tracking and not now:
                lost += 1
                lost_while_visible += result.tag != "hidden"
            if now and not tracking and seen_before:
                recovered += 1
                waits.append(0.0 if away_since is None else result.time - away_since)
            tracking, seen_before = now, seen_before or now
        if tracking or result.tag == "hidden":
            away_since = None
        elif away_since is None:
            away_since = result.time
    return {
        "lost": lost,
        "lost_while_visible": lost_while_visible,
        "recovered": recovered,
        "recovery_seconds": _round(max(waits), 3) if waits else None,
        "state_at_end": next((r.state for r in reversed(results) if r.state), ""),
    }


def failures(summary: dict) -> list[str]:
    """Why a part counts as failed; empty when it is fine."""
    found = []
    if summary["answers"] == 0:
        found.append("the tracker never answered")
    elif summary["first_pose_ms"] is None:
        found.append("the tracker never found the object")
    elif summary["state_at_end"] != "TRACKING":
        found.append("the tracker lost the object and did not find it again")
    return [f"{summary['title']}: {reason}." for reason in found]


def statistics(values: Sequence[float], percentiles: tuple[int, ...]) -> dict:
    """Median and percentiles of the finite values; None where there are none."""
    known = np.array([v for v in values if np.isfinite(v)])
    names = {p: "median" if p == 50 else f"p{p}" for p in percentiles}
    return {name: _round(np.percentile(known, p), 4) if len(known) else None for p, name in names.items()}


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), digits)


# Label, then what stands in the cell: a key, a sub-key, a format.
ROWS: tuple[tuple[str, tuple[tuple[str, str | None, str], ...]], ...] = (
    ("frames", (("frames", None, "d"),)),
    ("rate [Hz]", (("rate_hz", None, ".1f"),)),
    ("dropped frames / of them while tracking", (("dropped", None, "d"), ("dropped_while_tracking", None, "d"))),
    ("first pose after [ms]", (("first_pose_ms", None, ".0f"),)),
    ("latency [ms] median / p99", (("latency_ms", "median", ".1f"), ("latency_ms", "p99", ".1f"))),
    ("solve [ms] median / p99", (("solve_ms", "median", ".1f"), ("solve_ms", "p99", ".1f"))),
    ("mask IoU median / p5", (("mask_iou", "median", ".3f"), ("mask_iou", "p5", ".3f"))),
    ("rotation error [deg] median / p95",
     (("rotation_error_deg", "median", ".2f"), ("rotation_error_deg", "p95", ".2f"))),
    ("translation error [mm] median / p95",
     (("translation_error_mm", "median", ".1f"), ("translation_error_mm", "p95", ".1f"))),
    ("  of it along the line of sight", (("depth_error_mm", "median", ".1f"), ("depth_error_mm", "p95", ".1f"))),
    ("wrong poses (> 20 deg or > 0.1 diameters)", (("outliers", None, "d"),)),
    ("share of visible frames tracked", (("tracked_share", None, ".1%"),)),
    ("lost / recovered", (("lost", None, "d"), ("recovered", None, "d"))),
    ("slowest recovery [s]", (("recovery_seconds", None, ".2f"),)),
    ("memory of the node [MB] now / peak", (("memory_mb", None, ".0f"), ("memory_peak_mb", None, ".0f"))),
)  # fmt: skip


def table(summaries: Sequence[dict]) -> str:
    """All parts side by side, in plain text."""
    lines = [["", *(s["title"] for s in summaries)]]
    for label, cells in ROWS:
        lines.append([label, *(" / ".join(_cell(s, *cell) for cell in cells) for s in summaries)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in lines]  # fmt: skip
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join(line.rstrip() for line in text)


def _cell(summary: dict, key: str, part: str | None, form: str) -> str:
    value = summary[key] if part is None else summary[key][part]
    return "-" if value is None else format(value, form)
