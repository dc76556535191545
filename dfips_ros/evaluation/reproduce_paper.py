# SPDX-License-Identifier: Apache-2.0
"""One function for each table and figure of the paper: train what is missing, judge, write CSV, Markdown, pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import MissingDependencyError
from .paper_config import Workspace
from .paper_numbers import paper_table
from .paper_pictures import figure_3, figure_4, plot_cumulative
from .paper_pose import ablation, figure_1, table_1, table_2_pose, table_3_pose, table_4
from .paper_runtime import figure_2, plot_runtime
from .paper_tasks import table_2_tasks, table_3_tasks
from .runner import write_rows

Row = dict[str, Any]


def _written(space: Workspace, name: str, rows: Sequence[Mapping[str, Any]]) -> list[Path]:
    table, text = space.file(name, ".csv"), space.file(name, ".md")
    write_rows(table, rows)
    text.write_text(paper_table(name, rows))
    return [table, text]


def _figure_1(space: Workspace) -> list[Path]:
    rows, errors = figure_1(space)
    picture = space.file("figure_1", ".png")
    plot_cumulative(errors, picture)
    return [*_written(space, "figure_1", rows), picture]


def _figure_2(space: Workspace) -> list[Path]:
    rows, missing = figure_2(space)
    picture = space.file("figure_2", ".png")
    plot_runtime(rows, picture)
    written = _written(space, "figure_2", rows)
    if missing:
        raise MissingDependencyError(f"{missing} The others are in {picture}.")
    return [*written, picture]


def _figure_3(space: Workspace) -> list[Path]:
    png, gif = space.file("figure_3", ".png"), space.file("figure_3", ".gif")
    return [*_written(space, "figure_3", figure_3(space, png, gif)), png, gif]


def _figure_4(space: Workspace) -> list[Path]:
    png, gif = space.file("figure_4", ".png"), space.file("figure_4", ".gif")
    return [*_written(space, "figure_4", figure_4(space, png, gif)), png, gif]


# By the command's task; each returns the files that it wrote.
EXPERIMENTS: dict[str, Callable[[Workspace], list[Path]]] = {
    "table-1": lambda space: _written(space, "table_1", table_1(space)),
    "table-2": lambda space: _written(space, "table_2", table_2_pose(space) + table_2_tasks(space)),
    "table-3": lambda space: _written(space, "table_3", table_3_pose(space) + table_3_tasks(space)),
    "table-4": lambda space: _written(space, "table_4", table_4(space)),
    "figure-1": _figure_1,
    "figure-2": _figure_2,
    "figure-3": _figure_3,
    "figure-4": _figure_4,
    "ablation": lambda space: _written(space, "ablation", ablation(space)),
}
