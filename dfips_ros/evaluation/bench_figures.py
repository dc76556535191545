# SPDX-License-Identifier: Apache-2.0
"""What ``dfips bench`` hands on: figures of times and memory, and the stopwatch that takes a solve apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch

from ..errors import ConfigError
from ..solver import pick_device

REST = "rest"
WHOLE = "whole"
NOT_MEASURED = "not measured: "
Seams = Mapping[str, Sequence[tuple[Any, str]]]  # part -> where its functions are found, and their names


@dataclass(frozen=True)
class Figure:
    """One row: a median or a single value, the 99th percentile where there are many, the paper's figure if any.

    Attributes:
        figure: what was measured.
        value: median or single value; None where it was not measured, and the note says why.
        unit: of value and p99.
        p99: 99th percentile.
        paper: the paper's figure, as text.
        note: on what, and how.
        section: heading of the table that it belongs to.
        part: of a solve: ``whole`` or one of its parts; empty for figures that are not taken apart.
        sweep: what grows from row to row (``faces``, ``batch``, ...); empty for single figures.
        at: its value in this row.
        device: ``cpu`` or ``cuda``.
        repeats: how many times went into the median.
    """

    figure: str
    value: float | int | None
    unit: str
    p99: float | None = None
    paper: str | None = None
    note: str | None = None
    section: str = ""
    part: str = ""
    sweep: str = ""
    at: int | None = None
    device: str = "cpu"
    repeats: int | None = None

    def as_row(self) -> dict[str, Any]:
        """For tables and JSON."""
        return asdict(self)


FIELDS = tuple(field.name for field in fields(Figure))


def milliseconds(figure: str, seconds: Sequence[float] | np.ndarray, **more: Any) -> Figure:
    """A figure of several times in seconds; ``more`` are other fields of :class:`Figure`."""
    values = 1e3 * np.asarray(seconds, dtype=np.float64)
    median, p99 = float(np.median(values)), float(np.percentile(values, 99))
    return Figure(figure, median, "ms", p99, repeats=len(values), **more)


def not_measured(figure: str, unit: str, reason: str, **more: Any) -> Figure:
    """A row without a value that says why; ``more`` are other fields of :class:`Figure`."""
    return Figure(figure, None, unit, note=NOT_MEASURED + reason, **more)


def pick_devices(device: str) -> list[str]:
    """``auto`` is the CPU, and CUDA besides where there is a device; ``cpu`` and ``cuda`` are these alone.

    Raises:
        ConfigError: CUDA is asked for and there is none, or another device.
    """
    if device == "auto":
        return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return [pick_device(device).type]


def wait_for(device: str) -> None:
    """Until the device has done what it was told: kernels run on after the call that started them."""
    if device == "cuda":
        torch.cuda.synchronize()


def measure(work: Callable[[int], object], repeats: int, device: str = "cpu", warm_up: int = 1) -> list[float]:
    """Seconds of ``work(i)`` for i = 0 .. repeats - 1, after ``warm_up`` calls of ``work(0)`` that are not counted."""
    for _ in range(warm_up):
        work(0)
    seconds = []
    for index in range(repeats):
        wait_for(device)
        begin = time.perf_counter()
        work(index)
        wait_for(device)
        seconds.append(time.perf_counter() - begin)
    return seconds


class Stopwatch:
    """Takes calls apart: while it is open, chosen functions and methods are timed wherever they are called from.

    The time of a part inside another one counts for the inner one alone, so that the parts of a call never add up to
    more than the call. Nothing but the names is assumed of what is timed; a name that is not there is left out.

    Args:
        seams: part -> (module, class or object; name of a function in it) of each function that belongs to it.
        device: it is waited for before the clock is read, so that each part has its own kernels.
        keep: the part whose last call is kept in :attr:`kept`, as its arguments and its result.
    """

    def __init__(self, seams: Seams, device: str = "cpu", keep: str = "") -> None:
        self._seams, self._device, self._keep = seams, device, keep
        self._running: list[list[Any]] = []
        self.seconds: dict[str, float] = {}
        self.kept: tuple[tuple[Any, ...], Any] | None = None

    @contextmanager
    def open(self) -> Iterator[Stopwatch]:
        """Time until the block ends."""
        undo: list[tuple[Any, str, bool, Any]] = []
        try:
            for part, places in self._seams.items():
                for owner, name in places:
                    if not hasattr(owner, name):
                        continue
                    own = name in vars(owner)
                    undo.append((owner, name, own, vars(owner).get(name)))
                    setattr(owner, name, self.timed(part, getattr(owner, name)))
            yield self
        finally:
            for owner, name, own, before in reversed(undo):
                if own:
                    setattr(owner, name, before)
                else:
                    delattr(owner, name)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose time counts for a part, whoever calls it."""

        def call(*arguments: Any, **named: Any) -> Any:
            wait_for(self._device)
            inner = [time.perf_counter(), 0.0]
            self._running.append(inner)
            try:
                result = function(*arguments, **named)
            finally:
                wait_for(self._device)
                spent = time.perf_counter() - inner[0]
                self._running.pop()
                self.seconds[part] = self.seconds.get(part, 0.0) + spent - inner[1]
                if self._running:
                    self._running[-1][1] += spent
            if part == self._keep:
                self.kept = (arguments, result)
            return result

        return call

    def lap(self, work: Callable[[], object]) -> dict[str, float]:
        """Seconds of the parts of one call, of what is left, and of the whole."""
        self.seconds, self.kept = {}, None
        wait_for(self._device)
        begin = time.perf_counter()
        work()
        wait_for(self._device)
        whole = time.perf_counter() - begin
        return {WHOLE: whole, **self.seconds, REST: whole - sum(self.seconds.values())}


def figures_of_parts(figure: str, laps: Sequence[Mapping[str, float]], **more: Any) -> list[Figure]:
    """A figure for the whole and for each part that some lap has; a part counts as 0 in the laps without it.

    Raises:
        ConfigError: there are no laps.
    """
    if not laps:
        raise ConfigError(f"{figure}: nothing was measured.")
    names = list(dict.fromkeys(name for lap in laps for name in lap if name != REST))
    return [milliseconds(figure, [lap.get(name, 0.0) for lap in laps], part=name, **more) for name in [*names, REST]]
