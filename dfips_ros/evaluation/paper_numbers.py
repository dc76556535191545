# SPDX-License-Identifier: Apache-2.0
"""What Ma et al. 2020 printed (supplement, tables 1 to 4), and our CSVs as Markdown with it in the next column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..checks import check_choice
from ..errors import ConfigError

PROVENANCE = ("config", "training", "seed", "commit", "machine")
# Table 1: translation mean and median, rotation mean and median (degrees), outliers (%), by the row's name.
_METHODS = {
    "nmr": (0.1, 0.05, 5.78, 1.68, 20.3), "softras": (0.05, 0.003, 4.14, 0.5, 8.03),
    "direct": (0.07, 0.06, 10.07, 7.68, 5.0), "ours": (0.02, 0.009, 2.64, 1.02, 2.6),
    "ours_softras": (0.01, 0.001, 1.62, 0.31, 0.9),
}  # fmt: skip
# Table 2: by task, quantity and unrolled steps.
_STEPS = {
    ("6-DoF pose", "translation"): {1: 0.075, 3: 0.032, 5: 0.02},
    ("6-DoF pose", "rotation"): {1: 10.07, 3: 3.32, 5: 2.64},
    ("illumination", "directional"): {1: 0.076, 3: 0.055, 7: 0.052},
    ("illumination", "point"): {1: 0.111, 3: 0.089, 7: 0.084},
    ("inverse kinematics", "position"): {1: 2.76, 2: 1.11, 3: 0.64},
    ("inverse kinematics", "rotation"): {1: 2.04, 2: 0.94, 3: 0.88},
}  # fmt: skip
# Table 3: shared and own weights.
_WEIGHTS = {
    ("6-DoF pose", "translation"): (0.03, 0.02), ("6-DoF pose", "rotation"): (4.24, 2.64),
    ("illumination", "directional"): (0.077, 0.052), ("illumination", "point"): (0.103, 0.085),
    ("inverse kinematics", "position"): (0.99, 0.64), ("inverse kinematics", "rotation"): (1.57, 0.88),
}  # fmt: skip
# Table 4: translation and rotation by image size; runtime (ms) and memory (MB).
_SIZES = {
    "couch": ((0.02, 1.48), (0.009, 0.81), (0.01, 1.22)), "car": ((0.02, 1.33), (0.008, 0.60), (0.009, 0.67)),
    "bench": ((0.02, 1.98), (0.009, 1.10), (0.01, 1.05)), "monitor": ((0.02, 2.85), (0.01, 1.49), (0.01, 1.33)),
    "chair": ((0.02, 1.80), (0.01, 0.95), (0.01, 0.92)), "table": ((0.02, 2.76), (0.01, 1.28), (0.01, 1.18)),
    "sofa": ((0.02, 1.61), (0.009, 0.85), (0.01, 0.87)), "plane": ((0.08, 3.83), (0.05, 1.98), (0.02, 1.14)),
    "bed": ((0.08, 7.78), (0.07, 4.56), (0.08, 4.88)), "cabinet": ((0.05, 5.83), (0.02, 3.69), (0.02, 3.49)),
}  # fmt: skip
_COSTS = {64: (16.0, 583.0), 128: (21.0, 636.0), 256: (35.0, 712.0)}


def _of_table_1(row: Mapping[str, Any], column: str) -> float | None:
    names = ("translation_mean", "translation_median", "rotation_mean", "rotation_median", "outliers_percent")
    values = _METHODS.get(row["name"])
    return values[names.index(column)] if values and column in names else None


def _of_table_2(row: Mapping[str, Any], column: str) -> float | None:
    return _STEPS.get((row["task"], row["quantity"]), {}).get(int(row["steps"])) if column == "mean" else None


def _of_table_3(row: Mapping[str, Any], column: str) -> float | None:
    pair = _WEIGHTS.get((row["task"], row["quantity"]))
    return pair[row["weights"] == "own"] if pair and column == "mean" else None


def _of_table_4(row: Mapping[str, Any], column: str) -> float | None:
    side = int(row["image_size"])
    if side not in _COSTS:
        return None
    if column in ("ms_median", "processor_ms", "memory_mb"):
        return _COSTS[side][column == "memory_mb"] if row["category"] == "all" else None
    sizes = _SIZES.get(row["category"])
    return sizes[sorted(_COSTS).index(side)][column == "rotation_mean"] if sizes else None


@dataclass(frozen=True)
class TableForm:
    """How a CSV is printed.

    Attributes:
        title: heading.
        labels: columns that say which row it is, with their headers.
        values: columns of figures, with their headers and formats; those that a CSV lacks are left out, as older ones
            have other columns.
        paper: row and column -> the paper's figure, or None.
    """

    title: str
    labels: Mapping[str, str]
    values: Mapping[str, tuple[str, str]]
    paper: Any = None


_TOLD = {
    "told_percent": ("told %", "{:.0f}"), "told_mean": ("mean of told", "{:.4g}"),
    "told_median": ("median of told", "{:.4g}"),
}  # fmt: skip
# By the clock, as tables were made at first, or by the processor.
_MS = {"ms_median": ("ms", "{:.1f}"), "processor_ms": ("processor ms", "{:.1f}")}
NOT_TOLD = dict.fromkeys(_TOLD, "")  # columns of rows that are not about light

FORMS = {
    "table_1": TableForm(
        "Table 1: methods, and ours as initialiser",
        {"method": "method", "trials": "n"},
        {"translation_mean": ("trans mean d", "{:.4f}"), "translation_median": ("trans median d", "{:.4f}"),
         "rotation_mean": ("rot mean °", "{:.2f}"), "rotation_median": ("rot median °", "{:.2f}"),
         "outliers_percent": ("outliers %", "{:.1f}"), **_MS,
         "faster_than_softras": ("SoftRas takes × as long", "{:.0f}")}, _of_table_1,
    ),
    "table_2": TableForm(
        "Table 2: unrolled steps",
        {"task": "task", "solver": "solver", "quantity": "quantity", "unit": "unit", "steps": "steps"},
        {"mean": ("mean", "{:.4g}"), "median": ("median", "{:.4g}"), **_TOLD}, _of_table_2,
    ),
    "table_3": TableForm(
        "Table 3: shared weights, or own ones for every stage",
        {"task": "task", "solver": "solver", "quantity": "quantity", "unit": "unit", "weights": "weights"},
        {"mean": ("mean", "{:.4g}"), "median": ("median", "{:.4g}"), **_TOLD}, _of_table_3,
    ),
    "table_4": TableForm(
        "Table 4: image size, by category",
        {"category": "category", "image_size": "size", "trials": "n"},
        {"translation_mean": ("trans mean d", "{:.4f}"), "rotation_mean": ("rot mean °", "{:.2f}"),
         **_MS, "memory_mb": ("MB", "{:.0f}")}, _of_table_4,
    ),
    "ablation": TableForm(
        "Ablation",
        {"solver": "solver", "method": "change", "trials": "n"},
        {"translation_mean": ("trans mean d", "{:.4f}"), "translation_median": ("trans median d", "{:.4f}"),
         "rotation_mean": ("rot mean °", "{:.2f}"), "rotation_median": ("rot median °", "{:.2f}"),
         "outliers_percent": ("outliers %", "{:.1f}"), **_MS},
    ),
    "figure_1": TableForm(
        "Figure 1: percentiles of the error",
        {"method": "method", "trials": "n"},
        {f"{quantity}_p{percent}": (f"{title} p{percent}", form) for quantity, title, form in
         (("translation", "trans d", "{:.4f}"), ("rotation", "rot °", "{:.2f}")) for percent in (90, 95, 99)},
    ),
    "figure_2": TableForm(
        "Figure 2: time of one silhouette",
        {"renderer": "renderer", "gradient": "gradient", "faces": "faces", "image_size": "size"},
        {"ms_median": ("ms", "{:.3f}"), "ms_least": ("least ms", "{:.3f}")},
    ),
    "figure_3": TableForm(
        "Figure 3: rotation error of the cases that are shown, stage by stage",
        {"solver": "solver", "category": "category", "choice": "shown as", "errors_deg": "initial, stages, result °"},
        {},
    ),
    "figure_4": TableForm("Figure 4: pictures that are shown", {"kind": "light", "objects": "objects"}, {}),
}  # fmt: skip


def paper_table(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: every figure that the paper has too stands beside the paper's.

    Args:
        name: key of :data:`FORMS`.
        rows: of the CSV.

    Raises:
        ConfigError: there are no rows, or they are of another table.
    """
    form = FORMS[check_choice("table", name, tuple(FORMS))]
    if not rows:
        raise ConfigError(f"{name}: the CSV has no rows.")
    values = {column: form.values[column] for column in form.values if column in rows[0]}
    missing = [column for column in form.labels if column not in rows[0]]
    missing += [] if values or not form.values else list(form.values)
    if missing:
        raise ConfigError(f"{name}: the CSV lacks {', '.join(missing)}; it is of another table.")
    shown = [c for c in values if any(form.paper and form.paper(row, c) is not None for row in rows)]
    header = list(form.labels.values())
    for column, (title, _) in values.items():
        header += [title, "paper"] if column in shown else [title]
    body = []
    for row in rows:
        line = [str(row[label]) for label in form.labels]
        for column, (_, number) in values.items():
            line.append(_figure(row[column], number))
            if column in shown:
                printed = form.paper(row, column)
                line.append("–" if printed is None else f"{printed:g}")
        body.append(line)
    rule = ["---"] * len(form.labels) + ["---:"] * (len(header) - len(form.labels))
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, rule, *body)]
    said = [f"- {name}: {'; '.join(_different(name, rows))}" for name in PROVENANCE if _different(name, rows)]
    return "\n".join([f"### {form.title}", "", *lines, "", *said]) + "\n"


def _different(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(row[name]) for row in rows if row.get(name) not in (None, "")))


def _figure(value: Any, number: str) -> str:
    return "–" if value in (None, "") or float(value) != float(value) else number.format(float(value))
