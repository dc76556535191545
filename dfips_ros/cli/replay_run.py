# SPDX-License-Identifier: Apache-2.0
"""What all tasks of ``dfips replay`` share: options, the way through a bag, and the summary."""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import ConfigError, DfipsError

if TYPE_CHECKING:
    from ..bags.reader import Bag
    from .view_report import Report

MAX_REASONS = 20
NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")
NAMESPACE = re.compile(r"(/[A-Za-z_]\w*)+")


@dataclass(frozen=True)
class Output:
    """A message to write: topic, message, and the time of recording [ns] that it gets."""

    topic: str
    message: Any
    time: int


class Pipeline(Protocol):
    """What a node does with its inputs, without the node."""

    @property
    def inputs(self) -> Collection[str]:
        """Topics to read."""
        ...

    @property
    def outputs(self) -> Collection[str]:
        """Topics to write."""
        ...

    def take(self, topic: str, message: Any, time: int) -> Iterable[Output]:
        """Work on one message, recorded at ``time`` [ns].

        Raises:
            DfipsError: the message cannot be used; it is counted with this reason.
        """
        ...

    def finish(self) -> Iterable[Output]:
        """What is left to write after the last message."""
        ...


class Reasons:
    """Counts sentences. Those that differ in numbers alone are one, told by the first of them."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._first: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Count one more."""
        kind = NUMBER.sub("#", text)
        if kind not in self._first and len(self._first) >= MAX_REASONS:
            kind = text = "other reasons"
        self._first.setdefault(kind, text)
        self._counts[kind] += 1

    def counts(self) -> dict[str, int]:
        """How often each came, the most frequent first."""
        return {self._first[kind]: count for kind, count in self._counts.most_common()}


@dataclass
class Passage:
    """How a way through a bag went.

    Attributes:
        read: messages of the pipeline's inputs.
        written: messages of its outputs.
        copied: messages of the input.
        skipped: why messages could not be used, and how many.
        left_out: topics that could not be copied, and why.
        damage: why the bag ended early; empty when it did not.
        seconds: time taken.
    """

    read: int = 0
    written: int = 0
    copied: int = 0
    skipped: Reasons = field(default_factory=Reasons)
    left_out: dict[str, str] = field(default_factory=dict)
    damage: str = ""
    seconds: float = 0.0


def add_arguments(parser: argparse.ArgumentParser, namespace: str) -> None:
    """Declare the options that all tasks have."""
    parser.add_argument("bag", type=Path, metavar="IN", help="bag: a folder with metadata.yaml, or an .mcap or .db3")
    parser.add_argument("out", type=Path, metavar="OUT", help="bag to write: NAME.mcap, NAME.db3, or NAME for a folder")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--keep-input", action="store_true", help="copy all topics of IN into OUT as well")
    parser.add_argument("--namespace", default=namespace, help=f"before the topics that are written ({namespace})")
    parser.add_argument("--view", type=Path, metavar="FOLDER", help="write report.html and an overlay video there")
    parser.add_argument("--json", metavar="FILE", help="write the summary as JSON; - for stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress bar; none is drawn into files and pipes")


def check_arguments(options: argparse.Namespace) -> None:
    """Raise :class:`DfipsError` for what can be told before the work begins."""
    from ..bags.writer import check_out

    if not NAMESPACE.fullmatch(options.namespace):
        raise ConfigError(f"--namespace {options.namespace}: expected a name of ROS that begins with /, as /tracker.")
    bag, out = options.bag.resolve(), options.out.resolve()
    if bag == out or bag in out.parents or out in bag.parents:
        raise ConfigError(f"out '{options.out}': is the bag that is read, or lies in it. Choose another name.")
    check_out(options.out, options.force)
    if options.view is not None:
        try:
            options.view.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            raise ConfigError(f"--view {options.view}: cannot be made ({cause.strerror or cause}).") from cause


def pass_through(bag: Bag, pipeline: Pipeline, options: argparse.Namespace) -> Passage:
    """Send a bag's messages through a pipeline and write what it answers.

    Raises:
        DfipsError: with ``--keep-input``, a topic of the bag has the name of a topic to write; OUT cannot be written.
    """
    from tqdm import tqdm

    from ..bags.writer import BagWriter

    taken = {topic.name for topic in bag.topics} & set(pipeline.outputs) - {"/tf"}
    if options.keep_input and taken:
        raise ConfigError(
            f"--keep-input: the bag holds {', '.join(sorted(taken))} already. Choose another --namespace than "
            f"{options.namespace}."
        )
    passage, started = Passage(), time.perf_counter()
    wanted = None if options.keep_input else pipeline.inputs
    total = sum(t.count for t in bag.topics if wanted is None or t.name in wanted)
    with BagWriter(options.out, options.force) as writer:

        def put(outputs: Iterable[Output]) -> None:
            for output in outputs:
                writer.write(output.topic, output.message, output.time)
                passage.written += 1

        bar = tqdm(bag.messages(wanted), total=total, unit="message", disable=options.quiet or None)
        for raw in bar:
            if options.keep_input:
                writer.copy(raw)
                passage.copied += raw.topic.name not in writer.left_out
            if raw.topic.name not in pipeline.inputs:
                continue
            passage.read += 1
            try:
                outputs = list(pipeline.take(raw.topic.name, bag.decode(raw), raw.time))
            except Exception as error:  # as a node does: whatever one message raises must not end the rest
                text = str(error) if isinstance(error, DfipsError) else f"{type(error).__name__}: {error}"
                passage.skipped.add(f"{raw.topic.name}: {text}")
            else:
                put(outputs)
        put(pipeline.finish())
    passage.left_out, passage.damage = writer.left_out, bag.damage
    passage.seconds = time.perf_counter() - started
    return passage


def conclude(
    options: argparse.Namespace, task: str, bag: Bag, passage: Passage, content: dict, rows: list[str], report: Report
) -> int:
    """Write and print summary and report. Exit status 1 when the bag was damaged in the middle.

    Args:
        options: of the command.
        task: its name.
        bag: what was read.
        passage: how that went.
        content: the task's part of the JSON.
        rows: the task's part of the printed summary.
        report: of ``--view``.
    """
    import sys
    from dataclasses import replace

    from .files import write_json
    from .machine import describe_machine

    machine = describe_machine()
    summary = {
        "command": f"dfips replay {task}", "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "machine": machine,
        "bag": {"path": str(options.bag), "seconds": bag.seconds, "messages": bag.count}, "out": str(options.out),
        "messages": {"read": passage.read, "written": passage.written, "copied": passage.copied},
        "skipped": passage.skipped.counts(), "not_copied": passage.left_out, "damage": passage.damage or None,
        "seconds": passage.seconds, **content,
    }  # fmt: skip
    notes = [f"{count} skipped: {reason}" for reason, count in passage.skipped.counts().items()]
    notes += [f"not copied: {topic}: {reason}" for topic, reason in passage.left_out.items()]
    notes += [passage.damage] if passage.damage else []
    lines = [*rows, f"messages: {passage.read} read, {passage.written} written in {passage.seconds:.1f} s"]
    files = [options.out]
    if options.view is not None:
        from .view_report import write_report

        files.append(options.view / "report.html")
        write_report(replace(report, notes=(*report.notes, *notes)), files[-1])
        write_json(options.view / "summary.json", summary)
        files.append(options.view / "summary.json")
    if options.json:
        write_json(options.json, summary)
    if options.json != "-":
        print("\n".join([*lines, *notes]))
        print(f"Written: {', '.join(map(str, files))}")
    if passage.damage:
        print(f"dfips replay: {passage.damage}", file=sys.stderr)
        return 1
    return 0


def pair(figures: dict, names: tuple[str, str], form: str) -> str:
    """Two figures of a summary in one cell; a dash for what does not exist."""
    return " / ".join("-" if figures[name] is None else format(figures[name], form) for name in names)
