# SPDX-License-Identifier: Apache-2.0
"""The options that ``dfips train`` has for every task."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..solver import TrainingConfig


def add_training_options(parser: argparse.ArgumentParser, out: str, minutes: float, learning_rate: float) -> None:
    """Declare them; the values are the task's defaults."""
    parser.add_argument("--minutes", type=float, default=minutes,
                        help=f"stop after that long, resumed time included ({minutes:g})")  # fmt: skip
    parser.add_argument("--batches", type=int, metavar="N", help="stop after that many batches")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted or finished training of --out")
    parser.add_argument("--out", type=Path, default=Path(out), help="weights file to write")
    parser.add_argument("--learning-rate", type=float, help=f"peak of the schedule ({learning_rate:g})")
    parser.add_argument("--bfloat16", action="store_true",
                        help="matrix products in bfloat16: faster where the processor has it")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of weights and examples (0)")
    parser.add_argument("--json", metavar="FILE", help="write how it went as JSON; - for stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress bar; none is drawn into files and pipes")


def with_training_options(training: TrainingConfig, options: argparse.Namespace) -> TrainingConfig:
    """The task's training with what the options say; what was not given keeps its default."""
    from dataclasses import replace

    training = replace(
        training, minutes=options.minutes, max_batches=options.batches, seed=options.seed, bfloat16=options.bfloat16
    )
    return training if options.learning_rate is None else replace(training, learning_rate=options.learning_rate)
