# SPDX-License-Identifier: Apache-2.0
"""The figures of ``dfips bench`` as text, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

COLUMNS = ("figure", "value", "p99", "unit", "paper", "note")
HEADINGS = ("figure", "median or value", "p99", "unit", "paper", "note")


def _cells(row: dict) -> list[str]:
    cells = []
    for column in COLUMNS:
        value = row[column]
        cells.append("" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value))
    return cells


def as_text(rows: Sequence[dict]) -> str:
    """Aligned columns."""
    lines = [list(HEADINGS), *(_cells(row) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(COLUMNS))]
    text = []
    for line in lines:
        left, numbers, rest = line[0].ljust(widths[0]), line[1:3], line[3:]
        middle = [n.rjust(w) for n, w in zip(numbers, widths[1:3], strict=True)]
        text.append("  ".join([left, *middle, *(c.ljust(w) for c, w in zip(rest, widths[3:], strict=True))]).rstrip())
    text.insert(1, "-" * max(map(len, text)))
    return "\n".join(text)


def as_markdown(rows: Sequence[dict], content: dict) -> str:
    """A Markdown table that names its machine."""
    machine = content["machine"]
    lines = [
        f"Measured by `dfips bench` on {machine['processor']}, {machine['cores']} cores, {content['date']}, "
        f"commit {machine['commit'] or 'unknown'}.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
        *("| " + " | ".join(_cells(row)) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def as_csv(rows: Sequence[dict], content: dict) -> str:
    """Rows with machine, commit, seed and date."""
    machine = content["machine"]
    same = {
        "processor": machine["processor"],
        "cores": machine["cores"],
        "commit": machine["commit"],
        "date": content["date"],
        "seed": content["config"]["seed"],
        "frames": content["config"]["frames"],
    }
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *same])
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, **same})
    return text.getvalue()
