# SPDX-License-Identifier: Apache-2.0
"""The parts of the report: ticks, plots, the bar of states, video and stills."""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfips_ros.cli.view_plots import HEIGHT, LEFT, RIGHT, WIDTH, Plot, plot_svg, states_svg, ticks
from dfips_ros.cli.view_report import Report, render
from dfips_ros.cli.view_video import Stills, Video

KINDS = {"A": "good", "B": "poor", "C": "bad"}


@given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e6), st.integers(2, 12))
def test_ticks_are_round_numbers_within_the_ends(low, span, about):
    found = ticks(low, low + span, about)
    assert len(found) <= 2 * about + 1
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)
    steps = np.diff(found)
    assert len(steps) == 0 or np.allclose(steps, steps[0], rtol=1e-6, atol=1e-9 * max(abs(low), span))


@pytest.mark.parametrize("values", [
    np.zeros(0), np.full(5, math.nan), np.ones(1), np.zeros(7), np.array([1.0, math.nan, 2.0, 3.0, math.nan]),
    np.array([1e-12, -1e12, 0.0]), np.linspace(0, 1, 5000), np.array([math.inf, 1.0, -math.inf]),
])  # fmt: skip
def test_plots_stay_inside_their_frame(values):
    time = np.arange(len(values)) * 0.1
    svg = plot_svg(Plot("a < b & c", (("line", values), ("none", np.full(len(values), math.nan)))), time)
    assert "a &lt; b &amp; c over time" in svg and "nan" not in svg and "inf" not in svg
    corners = [pair.split(",") for points in re.findall(r'points="([^"]*)"', svg) for pair in points.split()]
    corners += re.findall(r'cx="([^"]*)" cy="([^"]*)"', svg)
    assert all(LEFT - 0.1 <= float(x) <= WIDTH - RIGHT + 0.1 and 0 <= float(y) <= HEIGHT for x, y in corners)
    finite = np.isfinite(values)
    if len(values) <= 800:
        assert len(corners) == finite.sum()
    else:
        assert 800 <= len(corners) <= 2000


def test_thinned_lines_keep_their_extremes():
    values = np.zeros(9000)
    values[4321] = 5.0
    svg = plot_svg(Plot("p", (("line", values),), low=0.0, high=5.0), np.arange(9000.0))
    heights = [float(pair.split(",")[1]) for pair in re.search(r'points="([^"]*)"', svg)[1].split()]
    assert min(heights) == pytest.approx(10.0, abs=0.06)


@given(st.lists(st.sampled_from(["A", "B", "C"]), min_size=1, max_size=40))
def test_the_bar_of_states_has_one_piece_for_each_run(states):
    time = np.arange(len(states)) * 0.5
    bar = states_svg(states, time, KINDS)
    runs = 1 + sum(a != b for a, b in zip(states, states[1:], strict=False))
    pieces = re.findall(r'class="(\w+)" x="([\d.]+)" y="\d+" width="([\d.]+)" height="(\d+)"', bar)
    assert len(pieces) == runs and pieces[0][0] == KINDS[states[0]] and pieces[-1][0] == KINDS[states[-1]]
    assert sum(float(width) for *_, width, _ in pieces) == pytest.approx(WIDTH - LEFT - RIGHT, abs=0.1 * runs)
    assert len({(kind, height) for kind, *_, height in pieces}) == len({kind for kind, *_ in pieces})


def test_what_comes_from_outside_is_escaped(tmp_path):
    evil = '<script>alert("x")</script>'
    report = Report(evil, evil, [(evil, evil)], np.arange(2.0), [evil, evil], {}, [Plot(evil, ((evil, np.ones(2)),))],
                    [(evil, b"jpeg")], None, [evil])  # fmt: skip

    class Tags(HTMLParser):
        scripts = 0

        def handle_starttag(self, tag, attributes):
            self.scripts += tag == "script"

    page = Tags()
    page.feed(render(report, tmp_path))
    assert page.scripts == 1, "our own, and no other"


@pytest.mark.parametrize(("size", "count", "period"), [
    ((120, 160), 40, 0.02), ((75, 101), 3, 0.1), ((40, 1600), 1, 0.1),
])  # fmt: skip
def test_a_video_has_all_frames_at_the_rate_of_their_stamps(size, count, period, tmp_path):
    import cv2

    video = Video(tmp_path / "overlay")
    for k in range(count):
        video.add(round(1e9 * (100 + k * period)), np.full((*size, 3), 5 * k, np.uint8))
    path = video.close()
    assert path == tmp_path / "overlay.webm" and path.stat().st_size > 0
    movie = cv2.VideoCapture(str(path))
    levels = []
    while True:
        there, frame = movie.read()
        if not there:
            break
        levels.append(frame.mean())
    assert len(levels) == count and frame_width(movie) % 2 == 0 and frame_width(movie) <= 640
    assert np.abs(np.array(levels) - 5 * np.arange(count)).max() < 8
    if count > 1:
        assert movie.get(cv2.CAP_PROP_FPS) == pytest.approx(1 / period, rel=0.02)


def frame_width(movie):
    import cv2

    return int(movie.get(cv2.CAP_PROP_FRAME_WIDTH))


def test_no_frames_no_video(tmp_path):
    assert Video(tmp_path / "overlay").close() is None and not list(tmp_path.iterdir())


def test_where_there_is_no_encoder_an_animated_picture_is_written(tmp_path, monkeypatch):
    import cv2
    from PIL import Image

    class Closed:
        def __init__(self, *_):
            pass

        def isOpened(self):  # noqa: N802
            return False

    monkeypatch.setattr(cv2, "VideoWriter", type("Writer", (Closed,), {"fourcc": staticmethod(lambda *_: 0)}))
    video = Video(tmp_path / "overlay")
    for k in range(5):
        video.add(10**8 * k, np.full((40, 60, 3), 50 * k, np.uint8))
    path = video.close()
    assert path.suffix == ".webp" and Image.open(path).n_frames == 5


@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0, 2)), max_size=120))
def test_stills_are_the_worst_of_their_second(offers):
    stills = Stills(3)
    picture = np.zeros((4, 6, 3), np.uint8)
    worst = {}
    for second, badness in offers:
        stills.add(second * 10**9, badness, f"{second} {badness}", picture)
        worst[second] = max(worst.get(second, -1.0), badness)
    expected = sorted(worst.values(), reverse=True)[:3]
    assert [float(caption.split()[1]) for caption, _ in stills.worst()] == expected
    assert len(stills._worst) <= 12
