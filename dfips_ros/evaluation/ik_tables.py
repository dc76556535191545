# SPDX-License-Identifier: Apache-2.0
"""The rows of ``dfips bench inverse_kinematics`` as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_HEAD = (
    "solver", "cold: solved %", "median ms", "p99 ms", "warm: solved %", "median ms", "p99 ms", "jumps > 0.5 rad %",
    "worst jump",
)  # fmt: skip

_STAGE_FIGURES = {
    "position_mean_mm": "position mean mm", "position_median_mm": "median mm",
    "orientation_mean_deg": "orientation mean °", "orientation_median_deg": "median °",
}  # fmt: skip
_TRAINING_HEAD = ("supervision", "weights", "samples", "after stage")


def ik_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of solvers per robot, one of the stages alone, one of batches, and what all rows have in common."""
    if not rows:
        return ""
    parts = ["# Inverse kinematics\n", _explanation(rows)]
    for robot in dict.fromkeys(row["robot"] for row in rows):
        own = [row for row in rows if row["robot"] == robot]
        parts.append(f"## {robot}\n")
        parts.append(_solvers([row for row in own if row["part"] == "single"]))
        stages = [row for row in own if row["part"] == "stages"]
        if stages:
            parts.append(
                "Learned stages alone, no polish (stage 0: the start), from the cold seed; and with several "
                "proposals of the first stage followed up, of which the one that ends nearest counts:\n"
            )
            head = ("followed up", "after stage", *_STAGE_FIGURES.values())
            parts.append(_table(head, [_stage_cells(row) for row in stages]))
    batches = [row for row in rows if row["part"] == "batch"]
    if batches:
        parts.append("## Batches, cold seeds\n")
        parts.append(
            _table(
                ("robot", "poses in a batch", "cores", "solved %", "solved poses per second"),
                [
                    (row["robot"], str(row["batch"]), str(row["cores"]), _number(row["solved_percent"], 2),
                     _number(row["poses_per_second"], 0))
                    for row in batches
                ],
            )
        )  # fmt: skip
    return "\n".join(parts)


def training_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of weights that were trained in different ways."""
    first = rows[0]
    same = {key: str(first.get(key, "")) for key in ("machine", "commit", "date", "config")}
    body = [
        (str(row["supervision"]).replace("_", " "), str(row["weights"]), str(row["samples"]), str(row["stage"]),
         *(_number(row[name], 3) for name in _STAGE_FIGURES), _number(row["solved_percent"], 2))
        for row in rows if int(row["stage"]) > 0
    ]  # fmt: skip
    return "\n".join([
        f"# Inverse kinematics: how the stages are trained ({first['robot']})\n",
        "Written by `dfips bench inverse_kinematics --compare`. Stages alone, without polish, from a cold seed, "
        f"{first['n']} targets; and what stages and polish solve at the first try.\n\n"
        "- Supervision: in task space the loss is the pose error through the differentiable forward kinematics; "
        "nearest is the distance, in joint space, from the solution nearest to the start.\n"
        "- Weights: a network for each stage, or one that all stages share.\n"
        + "".join(f"- {key}: {value}\n" for key, value in same.items() if value),
        _table((*_TRAINING_HEAD, *_STAGE_FIGURES.values(), "first try: solved %"), body),
    ])  # fmt: skip


def _explanation(rows: Sequence[Mapping[str, Any]]) -> str:
    first = rows[0]
    counts = sorted({int(row["n"]) for row in rows if row["part"] == "single"})
    same = {key: str(first.get(key, "")) for key in ("machine", "commit", "date", "config")}
    return (
        "Written by `dfips bench inverse_kinematics --markdown`. Every solver gets the same targets, forward "
        "kinematics of joint positions that are uniform within the limits "
        f"({', '.join(map(str, counts))} per robot), one at a time, in one run, on one core, through Python.\n\n"
        "- Cold: the seed is another random configuration. Warm: it is near the hidden solution.\n"
        "- Solved: within the joint limits and, by Pinocchio's forward kinematics, within 1 mm and 0.1°.\n"
        "- Times are of all targets, solved or not.\n"
        "- Jumps: share of the solved warm targets in which a joint moved by more than 0.5 rad from its seed.\n"
        "- Peers have the same deadline where they take one; TRAC-IK's two threads share the core.\n"
        + "".join(f"- {key}: {value}\n" for key, value in same.items() if value)
    )


def _stage_cells(row: Mapping[str, Any]) -> list[str]:
    return [str(row["followed"]), str(row["stage"]), *(_number(row[name], 3) for name in _STAGE_FIGURES)]


def _solvers(rows: Sequence[Mapping[str, Any]]) -> str:
    body = []
    for method in dict.fromkeys(row["method"] for row in rows):
        by_regime = {row["regime"]: row for row in rows if row["method"] == method}
        version = next(iter(by_regime.values())).get("version")
        cells = [f"{method} ({version})" if version else str(method)]
        for regime in ("cold", "warm"):
            row = by_regime.get(regime, {})
            cells += [_number(row.get("solved_percent"), 2), _number(row.get("ms_median"), 3),
                      _number(row.get("ms_p99"), 3)]  # fmt: skip
        warm = by_regime.get("warm", {})
        body.append((*cells, _number(warm.get("jumps_percent"), 2), _number(warm.get("worst_jump"), 2)))
    return _table(_HEAD, body)


def _number(value: Any, digits: int) -> str:
    """A figure; a dash where there is none."""
    number = float(value) if value not in (None, "") else float("nan")
    return f"{number:.{digits}f}" if number == number else "–"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
