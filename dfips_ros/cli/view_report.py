# SPDX-License-Identifier: Apache-2.0
"""The HTML report of ``--view``: one file, nothing from the network, for light and dark screens."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from ..errors import DfipsError
from .view_plots import COLOURS, LEFT, RIGHT, WIDTH, Plot, plot_svg, states_svg

MAX_EMBEDDED_VIDEO = 24_000_000  # bytes; a larger one stays beside the report


@dataclass(frozen=True)
class Report:
    """What a report shows.

    Attributes:
        title: one line.
        subtitle: one sentence.
        facts: label and value of each row of the summary.
        time: (N,) seconds.
        states: (N,) names.
        kinds: which state is "good", "poor" or "bad".
        plots: over ``time``.
        stills: caption and JPEG of the worst moments.
        video: file of the overlay, None without one.
        notes: sentences about what is to be known.
    """

    title: str
    subtitle: str
    facts: Sequence[tuple[str, str]]
    time: np.ndarray
    states: Sequence[str]
    kinds: dict[str, str]
    plots: Sequence[Plot]
    stills: Sequence[tuple[str, bytes]] = ()
    video: Path | None = None
    notes: Sequence[str] = ()


def write_report(report: Report, path: Path) -> None:
    """Write the report as one HTML file.

    Raises:
        DfipsError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(report, path.parent), encoding="utf-8")
    except OSError as cause:
        raise DfipsError(f"report '{path}': cannot be written ({cause.strerror or cause}).") from cause


def render(report: Report, folder: Path) -> str:
    """The page; ``folder`` is where it will lie."""
    body = [
        f"<header><h1>{escape(report.title)}</h1><p>{escape(report.subtitle)}</p></header>",
        _section("Summary", _facts(report.facts)),
        _section("Notes", "".join(["<ul>", *(f"<li>{escape(n)}</li>" for n in report.notes), "</ul>"]))
        if report.notes else "",
        _section("Overlay", _video(report.video, folder)) if report.video is not None else "",
        _section("State", _states(report)),
        *(_plot(plot, report.time) for plot in report.plots),
        _section("Worst moments", _stills(report.stills)) if report.stills else "",
    ]  # fmt: skip
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + f"\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(label)}</th><td>{escape(value)}</td></tr>' for label, value in facts)
    return f"<table><tbody>{rows}</tbody></table>"


def _video(video: Path | None, folder: Path) -> str:
    if video is None:
        return ""
    kind = {".webm": "video/webm", ".webp": "image/webp"}[video.suffix]
    source = escape(video.relative_to(folder).as_posix())
    if video.stat().st_size <= MAX_EMBEDDED_VIDEO:
        source = f"data:{kind};base64,{base64.b64encode(video.read_bytes()).decode()}"
    if video.suffix == ".webp":
        return f'<img src="{source}" alt="The estimate drawn over each frame">'
    label = "The estimate drawn over each frame"
    return (
        f'<video controls loop muted playsinline src="{source}" aria-label="{label}"></video>'
        "<p>Choose a moment in a plot below, and the video goes there.</p>"
    )


def _states(report: Report) -> str:
    counts = Counter(report.states)
    total = max(len(report.states), 1)
    words = "".join(
        f'<li><span class="key {report.kinds.get(state, "bad")}"></span>{escape(state)}: {count} '
        f"({100 * count / total:.1f} %)</li>"
        for state, count in counts.most_common()
    )
    bar = _touchable(states_svg(report.states, report.time, report.kinds))
    return f'{bar}<ul class="legend">{words}</ul>'


def _plot(plot: Plot, time: np.ndarray) -> str:
    note = f"<p>{escape(plot.note)}</p>" if plot.note else ""
    names = [(k % COLOURS, name) for k, (name, _) in enumerate(plot.lines)]
    keys = "".join(f'<li><span class="key c{k}"></span>{escape(name)}</li>' for k, name in names)
    legend = f'<ul class="legend">{keys}</ul>' if len(plot.lines) > 1 else ""
    return _section(plot.title, note + _touchable(plot_svg(plot, time)) + legend)


def _touchable(svg: str) -> str:
    return f'<div class="chart">{svg}<span class="cursor"></span></div>'


def _stills(stills: Sequence[tuple[str, bytes]]) -> str:
    figures = "".join(
        f'<figure><img loading="lazy" alt="" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, data in stills
    )
    return f'<div class="stills">{figures}</div>'


STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1c2128; --soft: #57606a; --rule: #dfe3e8;
  --c0: #0b61c4; --c1: #b4530a; --c2: #1a7f37; --c3: #8e3bb3; --c4: #a8193d; --c5: #3f6b75; --c6: #7a6400;
  --c7: #5b5b5b; --good: #1a7f37; --poor: #b98500; --bad: #c92a2a; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0f1318; --card: #181d24; --ink: #e8ecf1; --soft: #9aa5b1; --rule: #2c343e;
    --c0: #6cb0ff; --c1: #f0a35e; --c2: #62cf7f; --c3: #d29bf0; --c4: #ff8fa8; --c5: #8cc8d6; --c6: #dcc75a;
    --c7: #b8b8b8; --good: #3fb95f; --poor: #e0b13c; --bad: #ff7070; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 .5rem; }
p { color: var(--soft); margin: .2rem 0 .6rem; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 1rem; margin-top: 1rem; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
th, td { text-align: left; padding: .25rem .5rem .25rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { font-weight: 500; color: var(--soft); width: 32%; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
tr:last-child > * { border-bottom: 0; }
ul { margin: 0; padding-left: 1.2rem; overflow-wrap: anywhere; }
video, section > img { display: block; max-width: 100%; border-radius: 6px; margin: 0 auto; }
.chart { position: relative; cursor: crosshair; }
.plot { display: block; width: 100%; height: auto; }
.grid { stroke: var(--rule); stroke-width: 1; }
.tick { fill: var(--soft); font: 12px system-ui, sans-serif; }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; vector-effect: non-scaling-stroke; }
rect.good { fill: var(--good); } rect.poor { fill: var(--poor); } rect.bad { fill: var(--bad); }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; color: var(--soft); }
.key { display: inline-block; width: 1.4em; height: .5em; border-radius: 2px; margin-right: .5em;
  vertical-align: middle; }
.key.good { background: var(--good); } .key.poor { background: var(--poor); } .key.bad { background: var(--bad); }
.cursor { position: absolute; top: 0; bottom: 0; width: 1px; background: var(--soft); pointer-events: none;
  display: none; }
.stills { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: .8rem; }
figure { margin: 0; } figure img { width: 100%; height: auto; display: block; border-radius: 6px; }
figcaption { font-size: .85rem; color: var(--soft); overflow-wrap: anywhere; }
@media (max-width: 40rem) { .tick { font-size: 24px; } th { width: 42%; } }
@media print { section { break-inside: avoid; } video { display: none; } }
"""

DASHES = ("none", "7 2", "2 2", "10 3 2 3", "5 5", "12 3", "3 5", "1 3")  # one for each of COLOURS
BORDERS = ("solid", "dashed", "dotted")
STYLE += "".join(
    f".line.c{k} {{ stroke: var(--c{k}); stroke-dasharray: {dash}; }} .dot.c{k} {{ fill: var(--c{k}); }}\n"
    f".key.c{k} {{ height: 0; border-top: 3px {BORDERS[min(k, 2)]} var(--c{k}); border-radius: 0; }}\n"
    for k, dash in enumerate(DASHES)
)

# One line under the pointer in all plots at once; a click sends the video there.
SCRIPT = """
const left = @LEFT@, right = @RIGHT@;
const charts = [...document.querySelectorAll('.chart')], video = document.querySelector('video');
const share = (chart, event) => {
  const box = chart.getBoundingClientRect();
  return Math.min(1, Math.max(0, ((event.clientX - box.left) / box.width - left) / (right - left)));
};
const mark = part => charts.forEach(chart => {
  const cursor = chart.querySelector('.cursor');
  cursor.style.display = 'block';
  cursor.style.left = 100 * (left + part * (right - left)) + '%';
});
charts.forEach(chart => {
  chart.addEventListener('pointermove', event => mark(share(chart, event)));
  chart.addEventListener('click', event => {
    if (video) { video.currentTime = share(chart, event) * video.duration; }
  });
});
if (video) {
  video.addEventListener('timeupdate', () => { if (video.duration) { mark(video.currentTime / video.duration); } });
}
"""
SCRIPT = SCRIPT.replace("@LEFT@", f"{LEFT / WIDTH:.5f}").replace("@RIGHT@", f"{1 - RIGHT / WIDTH:.5f}")
