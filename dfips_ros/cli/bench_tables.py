# SPDX-License-Identifier: Apache-2.0
"""What the sections of ``dfips bench`` share: options, and their figures as text, Markdown, CSV and JSON."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HEADINGS = {
    "figure": "figure", "part": "part", "at": "at", "device": "device", "value": "median or value", "p99": "p99",
    "unit": "unit", "repeats": "n", "paper": "paper", "note": "note",
}  # fmt: skip
ROW_COLUMNS = ("section", "figure", "part", "sweep", "at", "device", "value", "p99", "unit", "repeats", "paper", "note")
PROVENANCE = ("processor", "cores", "accelerator", "load", "commit", "date", "seed", "config")
COLUMNS = (*ROW_COLUMNS, *PROVENANCE)
NO_CUDA = "cuda: not measured: no CUDA device."


def add_common_arguments(parser: argparse.ArgumentParser, quick: str) -> None:
    """Declare the options that every section has; ``quick`` says what --quick leaves out."""
    parser.add_argument("--quick", action="store_true", help=f"about half a minute: {quick}")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (0)")
    parser.add_argument("--threads", type=int, default=2, help="processor threads of the solver (2, as the node)")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - for stdout")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the figures as CSV")
    parser.add_argument("--append", action="store_true", help="keep the rows that --csv has, add the new ones")
    parser.add_argument("--markdown", type=Path, metavar="FILE",
                        help="write the figures as Markdown; with --append all rows of --csv")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="no progress bars; none are drawn into files and pipes")


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Declare where the solver runs."""
    text = "where the solver runs (auto: the processor, then CUDA where there is a device)"
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help=text)


def report(options: argparse.Namespace, measure: Callable[[], Iterator[Any]]) -> int:
    """Measure, then write and print the figures.

    Args:
        options: of the command; all of them are noted as the configuration.
        measure: yields figures.
    """
    import sys
    import time

    import numba
    import torch

    from ..checks import check_range
    from ..errors import ConfigError
    from .files import write_json
    from .machine import describe_machine, load_warning, machine_line

    check_range("threads", options.threads, 1, 256)
    if options.append and options.csv is None:
        raise ConfigError("--append: needs --csv FILE, the file that rows are added to.")
    known = _read_csv(options.csv) if options.append and options.csv.is_file() else []
    torch.set_num_threads(options.threads)
    numba.set_num_threads(min(options.threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    machine = describe_machine()
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    print(f"Machine: {machine_line(machine)}, {cuda or 'no CUDA device'}", file=sys.stderr)
    date = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    rows: list[dict[str, Any]] = []
    for figure in measure():
        row = figure.as_row()
        rows.append({name: row[name] for name in ROW_COLUMNS})
        if not options.quiet:
            print("  ".join(_shown(row)), file=sys.stderr)
    said = {name: value for name, value in sorted(vars(options).items()) if name in SETTINGS}
    config = " ".join(f"{name}={value}" for name, value in said.items() if value is not None)
    same = {
        "processor": machine["processor"], "cores": machine["cores"], "accelerator": cuda or "",
        "load": machine["load_average"],
        "commit": machine["commit"] or "unknown", "date": date, "seed": options.seed, "config": config,
    }  # fmt: skip
    new = [{**row, **same} for row in rows]
    full = [*replaced(known, new), *new]
    if options.json:
        content = {"command": f"dfips bench {options.task}", "date": date, "machine": machine, "accelerator": cuda,
                   "config": said, "figures": rows}  # fmt: skip
        write_json(options.json, content)
    for path, text in ((options.csv, as_csv(full)), (options.markdown, as_markdown(full))):
        if path is not None:
            _write(path, text)
    if options.json != "-":
        print(as_text(rows))
        if load_warning(machine):
            print(f"\n{load_warning(machine)}")
    return 0


SETTINGS = {"frames", "pictures", "device", "threads", "weights", "seed", "quick", "kinds", "sweeps", "budget",
            "repeats", "rate", "seconds", "skip", "cold"}  # fmt: skip
KEYS = ("section", "figure", "part", "sweep", "at", "device")


def replaced(known: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of ``known`` that say something else than those of ``new``: a figure that was measured again is gone."""
    again = {tuple(_text(row[key]) for key in KEYS) for row in new}
    return [row for row in known if tuple(_text(row[key]) for key in KEYS) not in again]


def _read_csv(path: Path) -> list[dict[str, Any]]:
    import csv

    from ..errors import ConfigError

    with path.open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    if rows and tuple(rows[0]) != COLUMNS:
        raise ConfigError(f"--csv {path}: is no CSV of this `dfips bench`; leave --append out, or name another file.")
    return rows


def _write(path: Path, text: str) -> None:
    from ..errors import DfipsError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as cause:
        raise DfipsError(f"{path}: cannot be written ({cause.strerror or cause}).") from cause


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _cell(name: str, value: Any) -> str:
    """As people read it: four digits of times, all digits of counts."""
    if name in ("value", "p99") and value not in (None, ""):
        number = float(value)
        return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"
    return _text(value)


def _shown(row: Mapping[str, Any]) -> list[str]:
    at = f"{row['sweep']} {row['at']}" if row["sweep"] else ""
    cells = [row["figure"], row["part"], at, row["device"], _cell("value", row["value"]), row["unit"], row["note"]]
    return [_text(cell) for cell in cells if cell not in (None, "")]


def _used(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Columns that say something; one that says the same in every row of several is still said."""
    return [name for name in HEADINGS if any(row[name] not in (None, "") for row in rows)]


def _by_section(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    sections: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        sections.setdefault(row["section"], []).append(row)
    return sections


def _heading(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    return rows[0]["sweep"] if name == "at" and rows[0]["sweep"] else HEADINGS[name]


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of aligned columns for each section."""
    blocks = []
    for section, own in _by_section(rows).items():
        names = _used(own)
        lines = [[_heading(name, own) for name in names], *([_cell(name, row[name]) for name in names] for row in own)]
        widths = [max(len(line[k]) for line in lines) for k in range(len(names))]
        numbers = {k for k, name in enumerate(names) if name in ("at", "value", "p99", "repeats")}
        text = []
        for line in lines:
            cells = enumerate(zip(line, widths, strict=True))
            text.append("  ".join(cell.rjust(w) if k in numbers else cell.ljust(w) for k, (cell, w) in cells))
        text.insert(1, "-" * max(map(len, text)))
        blocks.append("\n".join([*([section] if section else []), *(line.rstrip() for line in text)]))
    return "\n\n".join(blocks)


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table for each section, and where and when its rows were measured."""
    blocks = []
    for section, own in _by_section(rows).items():
        names = _used(own)
        lines = [
            "| " + " | ".join(_heading(name, own) for name in names) + " |",
            "|" + "".join("---:|" if name in ("at", "value", "p99", "repeats") else "---|" for name in names),
            *("| " + " | ".join(_cell(name, row[name]) for name in names) + " |" for row in own),
        ]
        places = dict.fromkeys(_place(row) for row in own)
        blocks.append("\n".join([f"### {section}", "", *lines, "", *(f"Measured {place}." for place in places)]))
    devices = {row["device"] for row in rows}
    missing = [NO_CUDA + " `dfips bench ... --device cuda --csv FILE --append` adds these rows."]
    return "\n\n".join([*blocks, *(missing if "cuda" not in devices else [])]) + "\n"


def _place(row: Mapping[str, Any]) -> str:
    where = f"{row['processor']}, {row['cores']} cores" + (f", {row['accelerator']}" if row["accelerator"] else "")
    load = f", load average {row['load']} before" if row["load"] not in (None, "") else ""
    return f"on {where}{load}, {row['date']}, commit {row['commit']} ({row['config']})"


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with machine, commit, configuration, seed and date."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
