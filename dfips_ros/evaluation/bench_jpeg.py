# SPDX-License-Identifier: Apache-2.0
"""The parts of restoring a JPEG, and other ways to an image on the same bytes in the same run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch

from ..networks.dncnn import DnCnnStage
from ..processes.jpeg_feedback import JpegFeedback, PlaneSpace
from ..processes.jpeg_file import MAX_PIXELS, read_header, read_luminance
from ..solver import FeedbackSolver, SolverConfig
from ..tasks.deblocking import JpegRestorer, restorer
from .bench_figures import REST, WHOLE, Figure, Seams, Stopwatch, figures_of_parts, measure, milliseconds

PARTS = (WHOLE, "read", "simulate", "network", "update", "consistency", "colour", REST)
DNCNN = (64, 20)  # width and depth of Zhang et al. 2017
PEER_REPEATS = 5


def measure_parts(solver: JpegRestorer, data: bytes, repeats: int, warm_up: int, **more: Any) -> list[Figure]:
    """``solve`` on the same bytes, taken apart; ``more`` are fields of :class:`Figure`.

    Decoding the colour planes, and encoding and decoding the restored image once more for the last residual norm, are
    done on another thread beside the rest and count only as far as they are waited for.
    """
    device = solver.device.type
    seams: Seams = {
        "read": [(restorer, "read_header"), (restorer, "read_luminance")],
        "simulate": [(JpegFeedback, "__call__")],
        "network": [(type(solver.solver.stages[0]), "forward")],
        "update": [(PlaneSpace, "apply")],
        "consistency": [(restorer, "make_consistent"), (restorer, "project"), (restorer, "agreement")],
        "colour": [(JpegRestorer, "_with_colour")],
    }
    watch = Stopwatch(seams, device)
    with watch.open():
        laps = [watch.lap(lambda: solver.solve(data)) for _ in range(warm_up + repeats)]
    figure = f"consistency {solver.consistency}: restore"
    return figures_of_parts(figure, laps[warm_up:], device=device, **more)


def measure_peers(data: bytes, repeats: int, device: str, **more: Any) -> Iterator[Figure]:
    """libjpeg's plain decoding; and DnCNN at the authors' size on the luminance alone, in float32."""
    pixels = np.frombuffer(data, np.uint8)
    decoded = measure(lambda i: cv2.imdecode(pixels, cv2.IMREAD_COLOR), repeats)
    yield milliseconds("libjpeg, nothing restored", decoded, note="what any decoder does", **more)
    config = SolverConfig(num_stages=1, adaptive=False, keep_best=False)
    dncnn = FeedbackSolver(JpegFeedback(False), PlaneSpace(), lambda: DnCnnStage(*DNCNN, batch_norm=False), config)
    dncnn.eval().to(torch.device(device))
    observation = read_luminance(data, read_header(data, MAX_PIXELS)).to(torch.device(device))
    seconds = measure(
        lambda i: dncnn.estimate(observation, observation.planes), min(repeats, PEER_REPEATS), device
    )  # fmt: skip
    note = f"{DNCNN[1]} layers of {DNCNN[0]}; luminance alone; untrained weights: the time is that of trained ones"
    yield milliseconds("DnCNN", seconds, note=note, device=device, **more)
