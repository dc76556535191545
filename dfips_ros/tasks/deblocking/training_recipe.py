# SPDX-License-Identifier: Apache-2.0
"""How the weights of the deblocking task are made: ``dfips train deblocking``."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...checks import check_range
from ...errors import ConfigError
from ...processes.jpeg import BLOCK, round_trip, standard_table
from ...processes.jpeg_dct import JpegObservation, quantise
from ...solver import Checkpoint, FeedbackSolver, StageTrainer, TrainingConfig, save_checkpoint
from .config import DeblockingConfig, DeblockingDataConfig, DeblockingLossConfig
from .data import deblocking_batches, load_planes
from .metrics import psnr
from .problem import KIND, deblocking_loss, load_solver, make_solver

VALIDATION_QUALITIES, VALIDATION_CONTRAST = (10, 20, 40, 80), 0.4  # the contrast is that of colour planes
Example = tuple[JpegObservation, Tensor, Tensor]  # observation, initial, ground truth


@dataclass(frozen=True)
class DeblockingTrainingConfig:
    """One training run.

    Attributes:
        images: lossless image files or folders of them.
        held_out: so many of the images, evenly spread, are kept for validation.
        first: weights file whose stages come first and are kept as they are; only the further ones are trained.
        initial_weights: weights file to start from, of the same stages or more of them; none starts anew.
        out: weights file to write, in half precision.
        device: where to train.
        model: the network.
        data: the examples.
        training: how long and how fast.
        loss: what is minimised.
    """

    images: tuple[str, ...] = ()
    held_out: int = 12
    first: str = ""
    initial_weights: str = ""
    out: str = "deblocking.safetensors"
    device: str = "cpu"
    model: DeblockingConfig = field(default_factory=DeblockingConfig)
    data: DeblockingDataConfig = field(default_factory=DeblockingDataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    loss: DeblockingLossConfig = field(default_factory=DeblockingLossConfig)

    def __post_init__(self) -> None:
        check_range("held_out", self.held_out, 1, 1000)
        if self.first and self.initial_weights:
            raise ConfigError(f"first={self.first}, initial_weights={self.initial_weights}: expected one of them.")
        if not self.images:
            raise ConfigError("images=(): give a folder of clean images, for example the 400 of BSD400.")


def train(config: DeblockingTrainingConfig, resume: bool = False, quiet: bool = False) -> dict[str, Any]:
    """Train, write the weights file, and return its provenance (validation PSNR of each stage included).

    Args:
        config: what, and how long.
        resume: continue from ``<out>.state`` instead of starting anew.
        quiet: no progress bar.

    Raises:
        ConfigError, CheckpointError: as their messages say.
    """
    planes = load_planes(config.images, config.data.crop_size)
    if len(planes) <= config.held_out:
        raise ConfigError(f"held_out={config.held_out}: expected fewer than the {len(planes)} images found.")
    kept = {round(i) for i in np.linspace(0, len(planes) - 1, config.held_out)}
    held_out = [plane for i, plane in enumerate(planes) if i in kept]
    planes = [plane for i, plane in enumerate(planes) if i not in kept]
    torch.manual_seed(config.training.seed)
    solver = make_solver(config.model).to(config.device)
    provenance: dict[str, Any] = {}
    kept_stages = _take_first(solver, config, provenance) if config.first else 0
    if config.initial_weights:
        _take_initial(solver, config, provenance)
    out = Path(config.out)
    loss = partial(deblocking_loss, config=config.loss)
    trainer = StageTrainer(_later(solver, kept_stages), loss, config.training, out.with_suffix(".state"))
    if resume:
        trainer.resume()

    def write() -> None:
        recipe = asdict(config)
        recipe["images"] = [Path(path).name for path in config.images]  # without the folders of this machine
        for file in ("out", "first", "initial_weights"):
            recipe[file] = Path(recipe[file]).name
        provenance.update(
            recipe=recipe, date=datetime.date.today().isoformat(), torch=torch.__version__, images=len(planes),
            samples=trainer.samples, batches=trainer.batches, minutes=round(trainer.seconds / 60.0, 2),
            final_losses=trainer.losses[-1:],
        )  # fmt: skip
        weights = {
            name: value.half() if value.is_floating_point() else value
            for name, value in solver.stages.state_dict().items()
        }
        save_checkpoint(out, Checkpoint(KIND, config.model.to_dict(), provenance, weights))

    def finish() -> None:
        provenance["validation"] = validate(solver, held_out, chroma=config.data.chroma == 1.0)
        write()

    data = replace(config.data, seed=config.data.seed + 7919 * trainer.batches)  # a resumed run sees new examples
    batches = deblocking_batches(planes, data, config.device)
    trainer.run(_solved(solver, batches, kept_stages, config) if kept_stages else batches, write, quiet)
    trainer.save(finish)
    return provenance


def _take_first(solver: FeedbackSolver, config: DeblockingTrainingConfig, provenance: dict[str, Any]) -> int:
    """Load the stages of ``config.first``, note where they come from, and return how many there are."""
    first, model, checkpoint = load_solver(config.first)
    count = len(first.stages)
    wanted = make_solver(replace(config.model, solver=model.solver)).stages.state_dict()
    fits = {n: v.shape for n, v in wanted.items()} == {n: v.shape for n, v in first.stages.state_dict().items()}
    if not fits or count >= len(solver.stages):
        raise ConfigError(
            f"first='{config.first}': expected 1 to {len(solver.stages) - 1} stages of this network, "
            f"got {count} of {model}. Train them with the same options and --stages."
        )
    solver.stages.load_state_dict(first.stages.state_dict(), strict=False)
    provenance["first"] = checkpoint.provenance
    return count


def _take_initial(solver: FeedbackSolver, config: DeblockingTrainingConfig, provenance: dict[str, Any]) -> None:
    """Load as many stages of ``config.initial_weights`` as are trained, and note where they come from."""
    begun, model, checkpoint = load_solver(config.initial_weights)
    count = len(solver.stages)
    try:
        solver.stages.load_state_dict(begun.stages[:count].state_dict())
    except RuntimeError as cause:
        raise ConfigError(
            f"initial_weights='{config.initial_weights}': expected {count} stages or more of this network, got {model}."
        ) from cause
    provenance["initial_weights"] = checkpoint.provenance


def _later(solver: FeedbackSolver, kept_stages: int) -> FeedbackSolver:
    """A solver of the stages behind ``kept_stages``, the very same modules."""
    later = iter(solver.stages[kept_stages:])
    count = solver.config.num_stages - kept_stages
    return FeedbackSolver(solver.feedback, solver.space, lambda: next(later), replace(solver.config, num_stages=count))


def _solved(
    solver: FeedbackSolver, batches: Iterator[Example], kept_stages: int, config: DeblockingTrainingConfig
) -> Iterator[Example]:
    """The same examples, begun where the first stages end."""
    for observation, initial, ground_truth in batches:
        with torch.autocast(initial.device.type, torch.bfloat16, enabled=config.training.bfloat16):
            begun = solver.estimate(observation, initial, num_stages=kept_stages).estimate
        yield observation, begun.clone(), ground_truth


def validate(solver: FeedbackSolver, planes: Sequence[np.ndarray], chroma: bool = False) -> dict[str, list[float]]:
    """Mean PSNR in dB of the decoded planes and after each stage, by quality.

    Args:
        solver: its stages are judged.
        planes: (H, W) uint8 images that were not trained on, cropped to whole blocks.
        chroma: encode them as colour planes, with less contrast and the tables of those.
    """
    solver.eval()
    device = next(solver.parameters()).device
    found: dict[str, list[float]] = {}
    for quality in VALIDATION_QUALITIES:
        table = torch.tensor(standard_table(quality, chroma), dtype=torch.float32, device=device)[None]
        rows = []
        for plane in planes:
            height, width = (side // BLOCK * BLOCK for side in plane.shape)
            pixels = plane[:height, :width].astype(np.float32)
            if chroma:
                pixels = np.round(127.5 + VALIDATION_CONTRAST * (pixels - 127.5))
            clean = torch.from_numpy(pixels / 255.0).to(device)[None, None]
            observed = round_trip(clean, table)
            solution = solver.estimate(JpegObservation(observed, table, quantise(clean, table)), observed)
            rows.append([psnr(estimate.cpu().numpy(), clean.cpu().numpy(), 1.0) for estimate in solution.history])
        found[str(quality)] = [round(float(value), 3) for value in np.mean(rows, axis=0)]
    return found
