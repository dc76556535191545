# SPDX-License-Identifier: Apache-2.0
"""The command ``dfips``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import DfipsError
from .tasks import DEFAULT_TASKS, FILE_TASKS, PLAIN, SHORT_NAMES, SUMMARIES, TASKS

DESCRIPTION = """\
Deep feedback inverse problem solver: object pose from segmentation masks, inverse kinematics for any serial arm.

Start with:
  dfips demo                             see it track three objects over ROS 2 topics
  dfips demo inverse_kinematics          see an arm follow a moving target
  dfips solve object_pose --help         find a pose in your own mask
  dfips solve inverse_kinematics --help  find the joints for a pose
"""
AS_WRITTEN = argparse.RawDescriptionHelpFormatter
USER_ERROR = 2
INTERRUPTED = 130
READER_GONE = 141  # as a shell says it of other programs


class _Parser(argparse.ArgumentParser):
    """Names the default task of a command where the user names none."""

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def, override]
        words = list(sys.argv[1:] if args is None else args)
        if words and words[0] in DEFAULT_TASKS and (len(words) == 1 or words[1].startswith("-")):
            words.insert(1, DEFAULT_TASKS[words[0]])
        if len(words) > 1 and words[0] in FILE_TASKS and _names_a_file(words[1]):
            words.insert(1, FILE_TASKS[words[0]])
        return super().parse_known_args(words, namespace)


def make_parser() -> argparse.ArgumentParser:
    """The parser with all commands and, below them, their tasks."""
    parser = _Parser(prog="dfips", description=DESCRIPTION, formatter_class=AS_WRITTEN)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in SUMMARIES.items():
        if name in PLAIN:
            _add(commands, name, name, summary)
            continue
        examples = "\n".join(f"  dfips {name} {task} --help" for task in TASKS[name])
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"examples:\n{examples}",
            formatter_class=AS_WRITTEN,
        )
        tasks = command.add_subparsers(dest="task", metavar="TASK", required=True)
        for task, module in TASKS[name].items():
            _add(tasks, task, module, epilog=_others(name, task))
    return parser


def _names_a_file(word: str) -> bool:
    return not word.startswith("-") and ("." in word or os.sep in word or os.path.exists(word))


def _add(parsers: Any, name: str, module_name: str, summary: str = "", epilog: str | None = None) -> None:
    module = importlib.import_module(f"{__package__}.{module_name}")
    first = module.DESCRIPTION.splitlines()[0]
    parser = parsers.add_parser(
        name, aliases=[SHORT_NAMES[name]] if name in SHORT_NAMES else [], help=summary or first,
        description=module.DESCRIPTION, epilog=epilog, formatter_class=AS_WRITTEN,
    )  # fmt: skip
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)


def _others(command: str, task: str) -> str | None:
    """What else a command does, said by the task that it does when none is named."""
    others = [other for other in TASKS[command] if other != task]
    if DEFAULT_TASKS.get(command) != task or not others:
        return None
    lines = "\n".join(f"  dfips {command} {other} --help" for other in others)
    return f"`dfips {command}` without a task is `dfips {command} {task}`. Other tasks:\n{lines}"


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
    name = "dfips"
    try:
        options = make_parser().parse_args(arguments)
        name = f"dfips {options.command}"
        if hasattr(options, "quiet"):  # in a log, each step of a bar would be a line
            options.quiet = options.quiet or not sys.stderr.isatty()
        from .files import check_options  # not before --help

        check_options(options)
        return options.run(options)
    except DfipsError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return USER_ERROR
    except BrokenPipeError:
        raise
    except OSError as error:  # a path that cannot be read or written, a full disk
        where = f"'{error.filename}': " if error.filename else ""
        print(f"{name}: {where}{error.strerror or error}.", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(f"{name}: interrupted.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
