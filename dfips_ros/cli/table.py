# SPDX-License-Identifier: Apache-2.0
"""``dfips table``: a CSV of results as a Markdown table."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import DfipsError

DESCRIPTION = """\
Turn a CSV of `dfips evaluate` or `dfips bench` into a Markdown table.

examples:
  dfips table results.csv
  dfips table results.csv --out docs/results/object_pose.md
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("csv", type=Path, metavar="CSV", help="file that `dfips evaluate` or `dfips bench` wrote")
    parser.add_argument("--out", type=Path, metavar="MD", help="Markdown file to write (printed by default)")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON as well; - for stdout")


def run(options: argparse.Namespace) -> int:
    """Write the table."""
    import csv

    from ..evaluation.tables import markdown_table  # type: ignore[import-not-found, unused-ignore]
    from .files import write_json

    try:
        with options.csv.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as cause:
        raise DfipsError(f"table '{options.csv}': cannot be read ({cause}).") from cause
    if not rows:
        raise DfipsError(f"table '{options.csv}': has no rows.")
    text = markdown_table(rows)
    if options.json:
        write_json(options.json, {"command": "dfips table", "csv": str(options.csv), "rows": rows})
    if options.out:
        try:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(text + "\n")
        except OSError as cause:
            raise DfipsError(f"--out {options.out}: cannot be written ({cause.strerror or cause}).") from cause
    if options.json != "-":
        print(f"Written: {options.out}" if options.out else text)
    return 0
