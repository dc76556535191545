# SPDX-License-Identifier: Apache-2.0
"""Supervised training, stage by stage: every stage is pulled towards the ground truth, gradients stop between stages.

Training is seeded, bounded by minutes or by batches, and can be interrupted and resumed.
"""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..checks import check_range
from ..errors import CheckpointError, ConfigError
from .feedback import FeedbackSolver

Batch = tuple[Any, Tensor, Any]  # observation, initial (B, *X), ground truth
Loss = Callable[[Tensor, Any], Tensor]  # estimate (B, *X), ground truth -> (B,)

_USELESS_BATCHES = 50  # in a row, before training gives up


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast to learn.

    Attributes:
        minutes: time limit of the whole training, resumed parts counted in; None for no limit.
        max_batches: limit in batches; None for no limit. One of the two limits must be given.
        learning_rate: peak of the one-cycle cosine schedule.
        final_learning_rate: where the schedule ends.
        warmup: fraction of the schedule spent rising.
        weight_decay: AdamW's.
        gradient_clip: largest gradient norm of a stage.
        average_decay: decay of the exponential moving average of the weights; 0 keeps the raw weights.
        save_every: seconds between checkpoints.
        bfloat16: run the networks' matrix products in bfloat16 where autocast allows (several times faster on
            processors that have it).
        seed: of torch; the data have their own.
    """

    minutes: float | None = 10.0
    max_batches: int | None = None
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    warmup: float = 0.02
    weight_decay: float = 1e-2
    gradient_clip: float = 1.0
    average_decay: float = 0.998
    save_every: float = 60.0
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.minutes is None and self.max_batches is None:
            raise ConfigError("minutes=None and max_batches=None: give at least one limit.")
        if self.minutes is not None:
            check_range("minutes", self.minutes, 0.0)
        if self.max_batches is not None:
            check_range("max_batches", self.max_batches, 1)
        check_range("learning_rate", self.learning_rate, 0.0, 10.0)
        check_range("final_learning_rate", self.final_learning_rate, 0.0, 10.0)
        check_range("warmup", self.warmup, 0.0, 0.9)
        check_range("weight_decay", self.weight_decay, 0.0)
        check_range("gradient_clip", self.gradient_clip, 1e-12)
        check_range("save_every", self.save_every, 0.0)
        check_range("average_decay", self.average_decay, 0.0, 0.99999)


class StageTrainer:
    """Trains the stages of a :class:`FeedbackSolver`.

    Args:
        solver: its stages are trained in place.
        loss: (estimate, ground truth) -> (B,) loss of each element.
        config: see :class:`TrainingConfig`.
        state_file: where the resumable state is kept; None keeps none.
    """

    def __init__(
        self, solver: FeedbackSolver, loss: Loss, config: TrainingConfig, state_file: str | Path | None = None
    ) -> None:
        torch.manual_seed(config.seed)
        self.solver, self.loss, self.config = solver, loss, config
        self.state_file = Path(state_file) if state_file is not None else None
        self.optimizers = [
            torch.optim.AdamW(stage.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
            for stage in solver.stages
        ]
        self.average = {name: value.detach().clone() for name, value in solver.stages.state_dict().items()}
        self.batches = 0
        self.samples = 0
        self.seconds = 0.0
        self.losses: list[float] = []

    def run(self, data: Iterable[Batch], on_save: Callable[[], None] | None = None, quiet: bool = False) -> None:
        """Train until the limit; ``on_save`` is called with the averaged weights in place, and at the end.

        Raises:
            ConfigError: the data end before, or no loss of many batches in a row is a number.
        """
        batches = iter(data)
        useless = 0
        last_save = time.monotonic()
        with tqdm(total=100.0, disable=quiet, unit="%", bar_format="{l_bar}{bar}| {postfix}") as bar:
            while (progress := self._progress()) < 1.0:
                start = time.monotonic()
                batch = next(batches, None)
                if batch is None:
                    self.save(on_save)
                    raise ConfigError(
                        f"data: they ended after {self.batches} batches, before the limits minutes="
                        f"{self.config.minutes} and max_batches={self.config.max_batches}. Give an endless iterator."
                    )
                losses = self.train_batch(batch, progress)
                useless = 0 if any(map(math.isfinite, losses)) else useless + 1
                if useless >= _USELESS_BATCHES:
                    raise ConfigError(
                        f"loss: not a number in {useless} batches in a row. Look for NaN in the observations and the "
                        f"ground truth, or lower learning_rate={self.config.learning_rate:g}."
                    )
                self.seconds += time.monotonic() - start
                bar.update(100.0 * min(self._progress(), 1.0) - bar.n)
                bar.set_postfix_str(self._describe(losses), refresh=False)
                if time.monotonic() - last_save > self.config.save_every:
                    self.save(on_save)
                    last_save = time.monotonic()
        self.save(on_save)

    def _describe(self, losses: list[float]) -> str:
        stages = " ".join(f"{x:.4f}" for x in losses)
        return f"{self.batches} batches, {self.samples / max(self.seconds, 1e-9):.0f} samples/s, losses {stages}"

    def _progress(self) -> float:
        parts = []
        if self.config.minutes is not None:
            parts.append(self.seconds / max(self.config.minutes * 60.0, 1e-9))
        if self.config.max_batches is not None:
            parts.append(self.batches / self.config.max_batches)
        return max(parts)

    def _learning_rate(self, progress: float) -> float:
        c = self.config
        if progress < c.warmup:
            return c.learning_rate * max(progress / c.warmup, 1e-3)
        phase = (progress - c.warmup) / (1.0 - c.warmup)
        return c.final_learning_rate + (c.learning_rate - c.final_learning_rate) * 0.5 * (1 + math.cos(math.pi * phase))

    def train_batch(self, batch: Batch, progress: float) -> list[float]:
        """One step of every stage; ``progress`` of the schedule is in [0, 1]. -> mean loss of each stage."""
        observation, initial, ground_truth = batch
        rate = self._learning_rate(progress)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        self.solver.train()
        means: list[Tensor] = []
        for t, updated in self.solver.training_steps(observation, initial, self.config.bfloat16):
            loss = self.loss(updated, ground_truth).mean()
            optimizer = self.optimizers[min(t, len(self.optimizers) - 1)]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(self.solver.stage(t).parameters(), self.config.gradient_clip)
            if bool(torch.isfinite(loss + norm)):  # the one thing that waits for a GPU
                optimizer.step()
            means.append(loss.detach())
        self.solver.eval()
        self._update_average()
        self.batches += 1
        self.samples += len(initial)
        losses: list[float] = torch.stack(means).tolist()
        self.losses.append(losses[-1])
        return losses

    def _update_average(self) -> None:
        decay = min(self.config.average_decay, (1 + self.batches) / (10 + self.batches))
        with torch.no_grad():
            for name, value in self.solver.stages.state_dict().items():
                if value.dtype.is_floating_point and self.config.average_decay > 0:
                    self.average[name].lerp_(value, 1.0 - decay)
                else:
                    self.average[name].copy_(value)

    def averaged_weights(self) -> dict[str, Tensor]:
        """The moving average of the stages' weights: what should be kept."""
        return {name: value.clone() for name, value in self.average.items()}

    def save(self, on_save: Callable[[], None] | None = None) -> None:
        """Write the resumable state, and call ``on_save`` while the solver holds the averaged weights."""
        raw = {name: value.clone() for name, value in self.solver.stages.state_dict().items()}
        if self.state_file is not None:
            state = {
                "weights": raw, "average": self.average, "optimizers": [o.state_dict() for o in self.optimizers],
                "batches": self.batches, "samples": self.samples, "seconds": self.seconds, "losses": self.losses,
                "config": asdict(self.config),
            }  # fmt: skip
            temporary = self.state_file.with_suffix(".part")
            self.state_file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, temporary)
            temporary.replace(self.state_file)
        if on_save is not None:
            self.solver.stages.load_state_dict(self.average)
            try:
                on_save()
            finally:
                self.solver.stages.load_state_dict(raw)

    def resume(self) -> None:
        """Continue from the state file.

        Raises:
            CheckpointError: there is none, or it does not fit this solver.
        """
        if self.state_file is None or not self.state_file.is_file():
            raise CheckpointError(f"training state: no file '{self.state_file}'. Start without resuming first.")
        try:
            state = torch.load(self.state_file, weights_only=True, map_location="cpu")
            self.solver.stages.load_state_dict(state["weights"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.average = {name: state["average"][name].to(value.device) for name, value in self.average.items()}
            self.batches, self.samples = state["batches"], state["samples"]
            self.seconds, self.losses = state["seconds"], state["losses"]
        except (RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as cause:
            raise CheckpointError(f"training state '{self.state_file}': does not fit this solver ({cause}).") from cause
