# SPDX-License-Identifier: Apache-2.0
"""Plots over time as inline SVG whose colours the page's style sheet sets, and the bar of states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 900, 190
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 10, 26
COLOURS = 8  # of the style sheet
MAX_COLUMNS = 800  # more samples than this are drawn as the lowest and highest of each column
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Plot:
    """One plot: lines over the report's times.

    Attributes:
        title: what is shown, with its unit.
        lines: name and values (N,) of each, NaN where there is none.
        low, high: ends of the vertical axis; None: from the values.
        note: one sentence below the title.
    """

    title: str
    lines: tuple[tuple[str, np.ndarray], ...]
    low: float | None = None
    high: float | None = None
    note: str = ""


def plot_svg(plot: Plot, time: np.ndarray) -> str:
    """The plot over ``time`` (N,) seconds."""
    known = np.concatenate([np.zeros(0), *(values[np.isfinite(values)] for _, values in plot.lines)])
    low, high = _bounds(known, plot.low, plot.high)
    x_low, x_high = (float(time.min()), float(time.max())) if len(time) else (0.0, 1.0)
    x_high = x_high if x_high > x_low else x_low + 1.0

    def across(values: np.ndarray) -> np.ndarray:
        return LEFT + (values - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def down(values: np.ndarray) -> np.ndarray:
        return TOP + (high - np.clip(values, low, high)) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_in_words(plot))}">'
    ]  # fmt: skip
    for tick in ticks(low, high, 4):
        y = float(down(np.array(tick)))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in ticks(x_low, x_high, 10):
        x = float(across(np.array(tick)))
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{tick:g} s</text>')
    for index, (_, values) in enumerate(plot.lines):
        number = index % COLOURS
        for piece in _pieces(time, values):
            points = list(zip(across(piece[0]), down(piece[1]), strict=True))
            if len(points) == 1:
                parts.append(f'<circle class="dot c{number}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2"/>')
            else:
                corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
                parts.append(f'<polyline class="line c{number}" points="{corners}"/>')
    parts.append("</svg>")
    return "".join(parts)


def states_svg(states: Sequence[str], time: np.ndarray, kinds: dict[str, str]) -> str:
    """A bar of the states over ``time`` (N,); ``kinds`` says which state is good, poor or bad.

    They differ in height too, so that nobody needs to see colours.
    """
    if not len(time):
        return ""
    low, high = float(time[0]), float(time[-1])
    step = float(np.median(np.diff(time))) if len(time) > 1 else 1.0
    scale = (WIDTH - LEFT - RIGHT) / max(high + step - low, 1e-9)
    parts = [f'<svg class="plot" viewBox="0 0 {WIDTH} 46" role="img" aria-label="States over time">']
    begin = 0
    for index in range(1, len(states) + 1):
        if index < len(states) and states[index] == states[begin]:
            continue
        end = float(time[index]) if index < len(states) else high + step
        kind = kinds.get(states[begin], "bad")
        tall = {"good": 40, "poor": 28}.get(kind, 16)
        x, width = LEFT + (float(time[begin]) - low) * scale, max((end - float(time[begin])) * scale, 0.8)
        label = escape(f"{states[begin]}: {time[begin]:.2f} to {end:.2f} s")
        parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{43 - tall}" width="{width:.1f}" height="{tall}">'
            f"<title>{label}</title></rect>"
        )
        begin = index
    return "".join([*parts, "</svg>"])


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers between two ends, about so many."""
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in STEPS if s * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + k) * step, 12) for k in range(count)]


def _bounds(known: np.ndarray, low: float | None, high: float | None) -> tuple[float, float]:
    """Ends of the vertical axis, with a little room around the values."""
    bottom = low if low is not None else float(known.min()) if len(known) else 0.0
    top = high if high is not None else float(known.max()) if len(known) else 1.0
    room = 0.06 * (top - bottom) or max(abs(top), 1e-3) * 0.05
    if top - bottom < 1e-12 or low is None:
        bottom -= room
    if top - bottom < 1e-12 or high is None:
        top += room
    return bottom, top


def _pieces(time: np.ndarray, values: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The runs of values that exist, thinned out where there are too many to see."""
    edges = np.flatnonzero(np.diff(np.r_[0, np.isfinite(values).astype(int), 0]))
    pieces = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        t, v = time[begin:end], values[begin:end]
        width = math.ceil(len(values) / MAX_COLUMNS)
        if width > 2:
            columns = [v[s : s + width] for s in range(0, len(v), width)]
            ends = [sorted({int(c.argmin()), int(c.argmax())}) for c in columns]
            chosen = [k * width + i for k, pair in enumerate(ends) for i in pair]
            t, v = t[chosen], v[chosen]
        pieces.append((t, v))
    return pieces


def _in_words(plot: Plot) -> str:
    """What the plot shows, for those who do not see it."""
    words = []
    for name, values in plot.lines:
        known = values[np.isfinite(values)]
        if len(known):
            words.append(f"{name}: {known.min():.3g} to {known.max():.3g}, median {np.median(known):.3g}")
    return f"{plot.title} over time. " + ("; ".join(words) or "No values.")
