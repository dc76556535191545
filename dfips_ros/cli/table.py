# SPDX-License-Identifier: Apache-2.0
"""``dfips table``: a CSV of results as a Markdown table."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import DfipsError

PAPER_TABLES = ("1", "2", "3", "4")
DESCRIPTION = """\
Turn a CSV of `dfips evaluate`, `dfips bench` or `dfips reproduce` into a Markdown table.

A number from 1 to 4 is a table of the paper: the CSV is the one that `dfips reproduce table-N` wrote, and the paper's
figures stand in the next column.

examples:
  dfips table results.csv
  dfips table results.csv --out docs/results/object_pose.md
  dfips table 1
  dfips table 4 --quick --from out/reproduce
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("csv", type=Path, metavar="CSV|N",
                        help="file that another command wrote, or the number of a table of the paper")  # fmt: skip
    parser.add_argument("--from", dest="folder", type=Path, metavar="DIR",
                        help="of a table of the paper: where `dfips reproduce` wrote it (out/reproduce)")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="of a table of the paper: that of `--quick`")
    parser.add_argument("--out", type=Path, metavar="MD", help="Markdown file to write (printed by default)")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON as well; - for stdout")


def run(options: argparse.Namespace) -> int:
    """Write the table."""
    import csv

    from ..evaluation.paper_numbers import paper_table
    from ..evaluation.tables import markdown_table  # type: ignore[import-not-found, unused-ignore]
    from .files import write_json

    number = _number(options)
    file = options.csv if number is None else _reproduced(number, options)
    try:
        with file.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as cause:
        raise DfipsError(f"table '{file}': cannot be read ({cause}).") from cause
    if not rows:
        raise DfipsError(f"table '{file}': has no rows.")
    text = markdown_table(rows) if number is None else paper_table(f"table_{number}", rows)
    if options.json:
        write_json(options.json, {"command": "dfips table", "csv": str(file), "rows": rows})
    if options.out:
        try:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(text + "\n")
        except OSError as cause:
            raise DfipsError(f"--out {options.out}: cannot be written ({cause.strerror or cause}).") from cause
    if options.json != "-":
        print(f"Written: {options.out}" if options.out else text)
    return 0


def _number(options: argparse.Namespace) -> str | None:
    """Which table of the paper is asked for; None for a file.

    Raises:
        DfipsError: no such table, or options that a file does not have.
    """
    word = str(options.csv)
    if word.isdigit() and not options.csv.exists():
        if word not in PAPER_TABLES:
            raise DfipsError(f"table '{word}': expected a CSV file, or a table's number: {', '.join(PAPER_TABLES)}.")
        return word
    if options.quick or options.folder:
        raise DfipsError(f"table '{word}': --quick and --from are for a table of the paper (1 to 4). Leave them out.")
    return None


def _reproduced(number: str, options: argparse.Namespace) -> Path:
    """The CSV of a table of the paper.

    Raises:
        DfipsError: it is not there; says which command makes it.
    """
    folder = options.folder or Path("out/reproduce")
    file = folder / f"table_{number}{'_quick' if options.quick else ''}.csv"
    if file.is_file():
        return file
    make = f"dfips reproduce table-{number}{' --quick' if options.quick else ''}"
    make += f" --out {options.folder}" if options.folder else ""
    hint = "" if options.quick else f" What --quick made is shown with `dfips table {number} --quick`."
    raise DfipsError(f"table {number}: no file '{file}'. Make it with `{make}`.{hint}")
