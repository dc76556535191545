# SPDX-License-Identifier: Apache-2.0
"""Rows of a results CSV as Markdown tables; no number in a document is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ALL = "all"  # subset of the inputs: no choice was made
_POSE_COLUMNS = {
    "trials": ("n", "{:.0f}"),
    "rotation_mean": ("rot mean °", "{:.2f}"), "rotation_median": ("median °", "{:.2f}"),
    "rotation_p90": ("p90 °", "{:.1f}"), "rotation_p95": ("p95 °", "{:.1f}"), "rotation_p99": ("p99 °", "{:.1f}"),
    "translation_mean": ("trans mean d", "{:.4f}"), "translation_median": ("median d", "{:.4f}"),
    "translation_p90": ("p90 d", "{:.3f}"), "translation_p95": ("p95 d", "{:.3f}"),
    "translation_p99": ("p99 d", "{:.3f}"),
    "mssd_recall": ("MSSD", "{:.3f}"), "mspd_recall": ("MSPD", "{:.3f}"),
    "outliers_percent": ("outliers %", "{:.1f}"), "ms_median": ("ms", "{:.1f}"), "ms_p99": ("p99 ms", "{:.1f}"),
}  # fmt: skip
_SEARCH_COLUMNS = {
    "trials": ("n", "{:.0f}"), "refused": ("refused", "{:.0f}"), "ambiguous_percent": ("ambiguous %", "{:.1f}"),
    "within_5deg_percent": ("within 5°, all %", "{:.1f}"),
    "within_5deg_unambiguous_percent": ("within 5°, unambiguous %", "{:.1f}"),
    "ambiguous_listed_percent": ("ambiguous that list others %", "{:.1f}"),
    "best_listed_within_5deg_percent": ("best listed within 5° %", "{:.1f}"),
    "rotation_mean": ("rot mean °", "{:.2f}"), "rotation_median": ("median °", "{:.2f}"),
    "translation_mean": ("trans mean d", "{:.4f}"), "translation_median": ("median d", "{:.4f}"),
    "iou_mean": ("IoU mean", "{:.3f}"), "ms_median": ("ms", "{:.1f}"), "ms_p99": ("p99 ms", "{:.1f}"),
}  # fmt: skip
_SEQUENCE_COLUMNS = {
    "frames": ("frames", "{:.0f}"), "judged": ("judged", "{:.0f}"), "tracked_percent": ("tracked %", "{:.1f}"),
    "to_the_end": ("without reset to the end", "{}"),
    "mssd_recall": ("MSSD recall", "{:.3f}"), "mspd_recall": ("MSPD recall", "{:.3f}"),
    "rotation_median": ("rot median °", "{:.2f}"), "rotation_p95": ("p95 °", "{:.2f}"),
    "translation_median": ("trans median d", "{:.4f}"), "translation_p95": ("p95 d", "{:.4f}"),
    "outliers_percent": ("outliers %", "{:.1f}"),
    "lost": ("lost", "{:.0f}"), "lost_visible": ("of it while visible", "{:.0f}"),
    "recovered": ("recovered", "{:.0f}"), "first_pose_frame": ("first pose in frame", "{:.0f}"),
    "first_pose_ms": ("after ms", "{:.0f}"), "ms_median": ("ms", "{:.1f}"), "ms_p99": ("p99 ms", "{:.1f}"),
}  # fmt: skip
_PROVENANCE = ("config", "seed", "commit", "machine", "date", "version", "hardware")


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of a results CSV.

    Rows of ``dfips evaluate object_pose`` from an initial pose are grouped by kind of mask, initial error and subset of
    the inputs; those of its other protocols have a table each; other rows are printed column by column. What all rows
    have in common (configuration, commit, machine) is said once, below. d are diameters of the object.
    """
    if not rows:
        return ""
    parts: list[str] = []
    if "initial_error_deg" in rows[0]:
        groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
        for r in rows:
            groups.setdefault((str(r["masks"]), str(r["initial_error_deg"]), str(r.get("subset", ALL))), []).append(r)
        for (masks, angle, subset), own in groups.items():
            title = f"Initial rotation off by up to {float(angle):g}°, {masks} masks"
            parts.append(f"### {title}\n" if subset == ALL else f"### {title}: {subset}, slow methods too\n")
            parts.append(_pose_table(own))
    elif "ambiguous_percent" in rows[0]:
        parts.append("### From nothing\n")
        parts.append(_formatted(rows, {"masks": "masks"}, _SEARCH_COLUMNS))
    elif "to_the_end" in rows[0]:
        parts.append("### Tracking without reset\n")
        parts.append(_formatted(rows, {"sequence": "sequence", "source": "source"}, _SEQUENCE_COLUMNS))
    else:
        names = [n for n in rows[0] if n not in _PROVENANCE]
        parts.append(_table(names, [[str(r.get(n, "")) for n in names] for r in rows]))
    parts.append(_common(rows))
    return "\n".join(part for part in parts if part)


def _pose_table(rows: Sequence[Mapping[str, Any]]) -> str:
    return _formatted(rows, {"method": "method"}, _POSE_COLUMNS)


def _formatted(
    rows: Sequence[Mapping[str, Any]], labels: Mapping[str, str], columns: Mapping[str, tuple[str, str]]
) -> str:
    """A table of labels (column name -> header) and formatted figures (column name -> header and format)."""
    header = [*labels.values(), *(title for title, _ in columns.values())]
    body = [
        [str(r[name]) for name in labels] + [_cell(r[name], form) for name, (_, form) in columns.items()] for r in rows
    ]
    return _table(header, body)


def _cell(value: Any, form: str) -> str:
    """One figure; a dash where there is none."""
    if form == "{}":
        return str(value)
    number = float(value) if value not in (None, "") else float("nan")
    return form.format(number) if number == number else "–"


def _table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(header) - 1)
    lines = [header, rule, *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _common(rows: Sequence[Mapping[str, Any]]) -> str:
    said = []
    for name in _PROVENANCE:
        values = list(dict.fromkeys(str(r[name]) for r in rows if r.get(name) not in (None, "")))
        if values:
            said.append(f"- {name}: {'; '.join(values)}")
    return "\n".join(said) + "\n" if said else ""
