# SPDX-License-Identifier: Apache-2.0
"""The command ``dfips``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from ..errors import DfipsError

COMMANDS = {
    "demo": "track three objects over ROS 2 topics and compare with the truth",
    "solve": "find an object's pose in one mask",
    "train": "train the solver, for one mesh or for many",
    "evaluate": "compare methods on the same inputs and write a CSV",
    "table": "turn a CSV of `dfips evaluate` into a Markdown table",
    "bench": "measure time and memory on this machine",
}
DESCRIPTION = """\
Deep feedback inverse problem solver: find an object's 6-DoF pose from segmentation masks.

Start with:
  dfips demo                      see it track three objects over ROS 2 topics
  dfips solve object_pose --help  find a pose in your own mask
"""
USER_ERROR = 2
INTERRUPTED = 130
READER_GONE = 141  # as a shell says it of other programs


def make_parser() -> argparse.ArgumentParser:
    """The parser with all sub-commands."""
    parser = argparse.ArgumentParser(
        prog="dfips", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"{__package__}.{name}")
        sub = commands.add_parser(
            name,
            help=summary,
            description=module.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Errors of the user are one line on stderr and exit status 2."""
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()  # a reader that has gone is noticed here, and not when the interpreter leaves
    except BrokenPipeError:
        with contextlib.suppress(OSError):  # what is still in the buffer has nowhere to go
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE


def _run(arguments: Sequence[str] | None) -> int:
    options = make_parser().parse_args(arguments)
    if hasattr(options, "quiet"):  # in a log, each step of a bar would be a line
        options.quiet = options.quiet or not sys.stderr.isatty()
    try:
        return options.run(options)
    except DfipsError as error:
        print(f"dfips {options.command}: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(f"dfips {options.command}: interrupted.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
