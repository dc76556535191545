# SPDX-License-Identifier: Apache-2.0
"""Rows of a results CSV as Markdown tables; no number in a document is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_POSE_COLUMNS = {
    "trials": ("n", "{:.0f}"),
    "rotation_mean": ("rot mean °", "{:.2f}"), "rotation_median": ("median °", "{:.2f}"),
    "rotation_p90": ("p90 °", "{:.1f}"), "rotation_p95": ("p95 °", "{:.1f}"), "rotation_p99": ("p99 °", "{:.1f}"),
    "translation_mean": ("trans mean d", "{:.4f}"), "translation_median": ("median d", "{:.4f}"),
    "translation_p95": ("p95 d", "{:.3f}"),
    "mssd_recall": ("MSSD", "{:.3f}"), "mspd_recall": ("MSPD", "{:.3f}"),
    "outliers_percent": ("outliers %", "{:.1f}"), "ms_median": ("ms", "{:.1f}"), "ms_p99": ("p99 ms", "{:.1f}"),
}  # fmt: skip
_PROVENANCE = ("config", "seed", "commit", "machine", "date", "version", "hardware")


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of a results CSV.

    Rows of ``dfips evaluate object_pose`` are grouped by initial error and kind of mask; other rows are printed column
    by column. What all rows have in common (configuration, commit, machine) is said once, below.
    """
    if not rows:
        return ""
    parts: list[str] = []
    if "initial_error_deg" in rows[0]:
        groups = dict.fromkeys((str(r["masks"]), str(r["initial_error_deg"])) for r in rows)
        for masks, angle in groups:
            own = [r for r in rows if (str(r["masks"]), str(r["initial_error_deg"])) == (masks, angle)]
            parts.append(f"### Initial rotation off by up to {float(angle):g}°, {masks} masks\n")
            parts.append(_pose_table(own))
    else:
        names = [n for n in rows[0] if n not in _PROVENANCE]
        parts.append(_table(names, [[str(r.get(n, "")) for n in names] for r in rows]))
    parts.append(_common(rows))
    return "\n".join(part for part in parts if part)


def _pose_table(rows: Sequence[Mapping[str, Any]]) -> str:
    header = ["method"] + [title for title, _ in _POSE_COLUMNS.values()]
    body = [
        [str(r["method"])] + [form.format(float(r[name])) for name, (_, form) in _POSE_COLUMNS.items()] for r in rows
    ]
    return _table(header, body)


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
