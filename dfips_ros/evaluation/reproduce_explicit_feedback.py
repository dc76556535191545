# SPDX-License-Identifier: Apache-2.0
"""Error against parameter count: do the explicit difference and unbounded updates shrink the network?

The claims of Ma et al. 2020, supplement, section 2, as a table. Four ways to ask the same small network for a pose are
trained at several widths, on the same examples in the same order, and judged on instances of the category that none of
them has seen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..baselines.deepim import DeepIm
from ..baselines.direct_regression import DirectRegression
from ..baselines.ief import IterativeErrorFeedback
from ..checks import check_range
from ..errors import ConfigError
from ..processes.mesh import Mesh
from ..solver import FeedbackSolver, SolverConfig, StageTrainer, TrainingConfig
from ..tasks.object_pose import ObjectPoseConfig, PoseDataConfig, Symmetries, rotation_error_deg
from ..tasks.object_pose.data import pose_batches
from ..tasks.object_pose.problem import ImageFeedback, MeshSet, make_solver, pose_loss
from ..tasks.object_pose.shapes import random_shape
from ..tasks.object_pose.training_recipe import VALIDATION_SEED
from .journal import Journal
from .runner import ROTATION_OUTLIER_DEG, TRANSLATION_OUTLIER

METHODS = {
    "ours": "explicit difference, own weights, unbounded (ours)",
    "direct": "direct regression (one stage)",
    "deepim": "DeepIM-style (images concatenated, shared weights)",
    "ief": "IEF-style (no forward process, bounded steps)",
}
CATEGORY = "vehicle"  # of the generated shapes
LARGEST_ANGLE_DEG = 45.0


@dataclass(frozen=True)
class ExplicitFeedbackConfig:
    """What is trained and judged.

    Attributes:
        widths: channels of the first layer, multiples of 4; one training for each method and width.
        samples: examples of each training.
        batch_size: of each training.
        crop_size: side of the images, pixels.
        num_stages: stages, or iterations, of all but direct regression.
        step_limit: longest step of the IEF-style method.
        simulation_faces: meshes are simplified to about this many faces.
        generated: instances of the generated category, where no meshes are given.
        held_out: fraction of the instances that is judged on and never trained on.
        trials: poses that are judged.
        learning_rate: peak of the schedule, for all.
        bfloat16: run the networks' matrix products in bfloat16 while training.
        seed: of weights, examples and trials.
    """

    widths: tuple[int, ...] = (8, 16, 32, 64)
    samples: int = 400_000
    batch_size: int = 96
    crop_size: int = 64
    num_stages: int = 4
    step_limit: float = 0.3
    simulation_faces: int = 1000
    generated: int = 60
    held_out: float = 0.2
    trials: int = 600
    learning_rate: float = 1e-3
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.widths or len(set(self.widths)) != len(self.widths) or any(w < 8 or w % 4 for w in self.widths):
            raise ConfigError(f"widths={self.widths}: expected different multiples of 4, at least 8 each.")
        check_range("samples", self.samples, 1)
        check_range("batch_size", self.batch_size, 1, 100_000)
        check_range("num_stages", self.num_stages, 1, 100)
        check_range("generated", self.generated, 2, 10_000)
        check_range("held_out", self.held_out, 0.01, 0.99)
        check_range("trials", self.trials, 1, 100_000)

    def model(self, width: int) -> ObjectPoseConfig:
        """The network of the paper's form at one width."""
        return ObjectPoseConfig(
            feedback="image", crop_size=self.crop_size, width=width, simulation_faces=self.simulation_faces,
            solver=SolverConfig(num_stages=self.num_stages),
        )  # fmt: skip

    def examples(self, seed: int, count: int) -> PoseDataConfig:
        """Clean masks, initial rotations off by up to 45 degrees."""
        return PoseDataConfig(
            batch_size=count, depth_range=(2.2, 6.0), angles=(LARGEST_ANGLE_DEG,), angle_weights=(1.0,), degraded=0.0,
            seed=seed,
        )  # fmt: skip


def quick_config(seed: int = 0) -> ExplicitFeedbackConfig:
    """A size that takes a minute or two on one core; it shows that all works, not which method is better."""
    return ExplicitFeedbackConfig(
        widths=(8, 16), samples=2048, batch_size=64, crop_size=32, num_stages=3, simulation_faces=300, generated=10,
        trials=100, learning_rate=2e-3, seed=seed,
    )  # fmt: skip


def generated_category(count: int, category: str = CATEGORY) -> list[Mesh]:
    """The first generated shapes of one kind; every machine makes the same ones."""
    found: list[Mesh] = []
    seed = 0
    while len(found) < count:
        mesh = random_shape(seed)
        if mesh.name.startswith(f"{category}_"):
            found.append(mesh)
        seed += 1
        if seed >= VALIDATION_SEED:
            raise ConfigError(f"category={category!r}: there is no such kind of generated shape.")
    return found


def split_instances(meshes: Sequence[Mesh], held_out: float, seed: int) -> tuple[list[Mesh], list[Mesh]]:
    """Normalised copies of the meshes: those to train on, and those to judge on, at least one of each.

    Raises:
        ConfigError: fewer than two meshes.
    """
    if len(meshes) < 2:
        raise ConfigError(f"meshes: expected at least two instances, one of them held out, got {len(meshes)}.")
    plain = [Mesh(mesh.name, mesh.normalised_vertices(), mesh.faces) for mesh in meshes]
    order = np.random.default_rng(seed).permutation(len(plain)).tolist()
    count = min(max(round(held_out * len(plain)), 1), len(plain) - 1)
    return [plain[i] for i in order[count:]], [plain[i] for i in order[:count]]


def make_method(name: str, config: ExplicitFeedbackConfig, width: int, meshes: MeshSet) -> FeedbackSolver:
    """A fresh network of one method, seeded.

    Raises:
        ConfigError: unknown name; the known ones are listed.
    """
    makers: dict[str, Callable[[], FeedbackSolver]] = {
        "ours": lambda: make_solver(config.model(width), meshes),
        "direct": lambda: DirectRegression(ImageFeedback(meshes), config.crop_size, width),
        "deepim": lambda: DeepIm(ImageFeedback(meshes), config.crop_size, width, config.num_stages),
        "ief": lambda: IterativeErrorFeedback(config.crop_size, width, config.num_stages, config.step_limit),
    }
    if name not in makers:
        raise ConfigError(f"methods: unknown '{name}'; known are {', '.join(makers)}.")
    torch.manual_seed(config.seed)
    return makers[name]()


def train_method(
    name: str, config: ExplicitFeedbackConfig, width: int, meshes: MeshSet, state_file: Path | None = None
) -> dict[str, Tensor]:
    """Weights of one method at one width; an interrupted training goes on from its state file.

    Args:
        name: out of ``METHODS``.
        config: see :class:`ExplicitFeedbackConfig`.
        width: channels of the first layer.
        meshes: instances to train on.
        state_file: where the resumable state is kept.
    """
    solver = make_method(name, config, width, meshes)
    settings = TrainingConfig(
        minutes=None, max_batches=math.ceil(config.samples / config.batch_size), learning_rate=config.learning_rate,
        bfloat16=config.bfloat16, seed=config.seed,
    )  # fmt: skip
    trainer = StageTrainer(solver, pose_loss, settings, state_file)
    if state_file is not None and state_file.is_file():
        trainer.resume()
    seed = config.seed + 7919 * trainer.batches  # a resumed run sees new examples
    trainer.run(pose_batches(meshes, config.model(width), config.examples(seed, config.batch_size)), quiet=True)
    return trainer.averaged_weights()


def judge(
    solver: FeedbackSolver, config: ExplicitFeedbackConfig, meshes: MeshSet, num_stages: int | None = None
) -> dict[str, float]:
    """Symmetry-aware errors at the same poses for every method: degrees and diameters.

    Args:
        solver: made for ``meshes``.
        config: see :class:`ExplicitFeedbackConfig`.
        meshes: instances that were held out.
        num_stages: 0 judges the initial poses.
    """
    data = config.examples(VALIDATION_SEED + config.seed, config.trials)
    observation, initial, truth = next(pose_batches(meshes, config.model(config.widths[0]), data))
    estimates = solver.eval().estimate(observation, initial, num_stages).estimate.double().numpy()
    symmetries = [Symmetries.from_mesh(mesh) for mesh in meshes.meshes]
    rotation, translation = np.empty(len(estimates)), np.empty(len(estimates))
    for i, (pose, true) in enumerate(zip(estimates, truth["pose"].double().numpy(), strict=True)):
        nearest = symmetries[int(observation.mesh_index[i])].nearest(true, pose)
        rotation[i] = rotation_error_deg(pose, nearest)
        translation[i] = np.linalg.norm(pose[:3, 3] - nearest[:3, 3])
    outlier = (rotation > ROTATION_OUTLIER_DEG) | (translation > TRANSLATION_OUTLIER)
    return {
        "rotation_mean_deg": round(float(rotation.mean()), 3),
        "rotation_median_deg": round(float(np.median(rotation)), 3),
        "translation_mean_d": round(float(translation.mean()), 4),
        "translation_median_d": round(float(np.median(translation)), 4),
        "outliers_percent": round(100.0 * float(outlier.mean()), 2),
    }


def reproduce(
    meshes: Sequence[Mesh],
    config: ExplicitFeedbackConfig,
    folder: str | Path,
    provenance: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Iterator[list[dict[str, Any]]]:
    """Train and judge all methods at all widths, smallest first.

    What is done is noted in ``folder``; the same call goes on from there.

    Args:
        meshes: instances of one category.
        config: see :class:`ExplicitFeedbackConfig`.
        folder: for the journal and the states of trainings.
        provenance: columns that every row carries (commit, machine).
        quiet: no progress bar.

    Yields:
        All rows so far, after each training; an initial row, which needs none, comes first.

    Raises:
        ConfigError: fewer than two meshes, or the folder belongs to another configuration.
    """
    folder = Path(folder)
    trained, held = split_instances(meshes, config.held_out, config.seed)
    settings = {**asdict(config), "train": [m.name for m in trained], "held_out": [m.name for m in held]}
    journal = Journal(folder / "explicit_feedback.jsonl", settings)
    seen, unseen = (MeshSet(part, config.simulation_faces) for part in (trained, held))
    common = {"config": json.dumps(asdict(config)), "seed": config.seed, **(provenance or {})}
    untouched = {"method": "initial pose", "width": 0, "parameters": 0, "samples": 0}
    start = judge(make_method("direct", config, config.widths[0], unseen), config, unseen, num_stages=0)
    rows: list[dict[str, Any]] = [{**untouched, **start, **common}]
    yield rows
    jobs = [(width, name) for width in sorted(config.widths) for name in METHODS]
    for width, name in tqdm(jobs, disable=quiet, unit="training"):
        key = f"{name}_{width}"
        row = journal.get(key)
        if row is None:
            state = folder / f"explicit_feedback_{key}.state"
            solver = make_method(name, config, width, unseen)
            solver.stages.load_state_dict(train_method(name, config, width, seen, state))
            parameters = sum(p.numel() for p in solver.stages.parameters())
            samples = math.ceil(config.samples / config.batch_size) * config.batch_size
            row = {"method": METHODS[name], "width": width, "parameters": parameters, "samples": samples}
            row |= {**judge(solver, config, unseen), **common}
            journal.put(key, row)
            state.unlink(missing_ok=True)
        rows = [*rows, row]
        yield rows
