# SPDX-License-Identifier: Apache-2.0
"""How large the paper's experiments are run, and where their results and half-done work are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..checks import check_choice, check_range
from ..errors import ConfigError
from ..solver import TrainingConfig
from ..tasks.object_pose.categories import CATEGORIES
from ..tasks.object_pose.config import FEEDBACKS
from .journal import Journal

# Batches of a task for each batch of the pose: with these a training takes about as long in all of them.
SHARES = {"pose": 1.0, "illumination": 0.25, "inverse kinematics": 2.0}


@dataclass(frozen=True)
class PaperConfig:
    """What is trained and judged; the same difficulty and the same budget for every row.

    Attributes:
        quick: toy size: shows that all works, not what is better.
        categories: out of the ten of the paper.
        meshes: ``CATEGORY=PATH`` each: files or folders of meshes; given any, these alone are judged on. Trained is on
            generated instances all the same.
        instances: generated instances of each category that are trained on.
        held_out: generated instances of each category that are judged on and never trained on.
        per_mesh: poses of each of those.
        angle_deg: largest initial rotation error.
        shift: largest initial error in the image plane, diameters; of the depth, relative.
        feedback: of the stages that are trained: ``image`` is the paper's form, see :class:`ObjectPoseConfig`.
        crop_size: side of the images, pixels.
        sizes: the sides that table 4 compares.
        width: channels of a pose stage's first layer (image), or its hidden width (contour).
        num_stages: of the pose.
        simulation_faces: meshes are simplified to about this many faces.
        batch_size: of the pose trainings.
        minutes: of each training; None leaves it to ``batches``.
        batches: of each pose training; None leaves it to ``minutes``. Other tasks get :data:`SHARES` of it.
        bfloat16: run the networks' matrix products in bfloat16 while training.
        descent_iterations: gradient steps of SoftRas and NMR.
        polish_iterations: gradient steps of SoftRas from a solved pose.
        ik_robot: arm of the inverse kinematics.
        ik_width, ik_batch: hidden width of its stages, targets in a batch.
        light_width, light_views, light_judged: hidden width of an illumination stage, views that are trained on, views
            that are judged.
        seed: of everything.
        methods: rows of table 1 and curves of figure 1, by name; all if empty.
    """

    quick: bool = False
    categories: tuple[str, ...] = tuple(CATEGORIES)
    meshes: tuple[str, ...] = ()
    instances: int = 40
    held_out: int = 4
    per_mesh: int = 2
    angle_deg: float = 30.0
    shift: float = 0.1
    feedback: str = "image"
    crop_size: int = 128
    sizes: tuple[int, ...] = (64, 128, 256)
    width: int = 24
    num_stages: int = 5
    simulation_faces: int = 1000
    batch_size: int = 32
    minutes: float | None = 60.0
    batches: int | None = None
    bfloat16: bool = False
    descent_iterations: int = 300
    polish_iterations: int = 60
    ik_robot: str = "panda"
    ik_width: int = 256
    ik_batch: int = 512
    light_width: int = 64
    light_views: int = 4000
    light_judged: int = 800
    seed: int = 0
    methods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.categories or len(set(self.categories)) != len(self.categories):
            raise ConfigError(f"categories={self.categories}: expected at least one, each once.")
        for name in self.categories:
            check_choice("categories", name, tuple(CATEGORIES))
        for entry in self.meshes:
            name = entry.partition("=")[0]
            if "=" not in entry or name not in self.categories:
                raise ConfigError(f"meshes={entry!r}: expected CATEGORY=PATH, one of {', '.join(self.categories)}.")
        check_choice("feedback", self.feedback, FEEDBACKS)
        for name in ("instances", "held_out", "per_mesh", "batch_size", "num_stages", "light_views", "light_judged"):
            check_range(name, getattr(self, name), 1, 1_000_000)
        for name in ("descent_iterations", "polish_iterations", "ik_batch"):
            check_range(name, getattr(self, name), 1, 1_000_000)
        check_range("angle_deg", self.angle_deg, 0.0, 180.0)
        check_range("shift", self.shift, 0.0, 1.0)
        check_range("seed", self.seed, 0, 1000)
        self.training()

    def training(self, task: str = "pose", learning_rate: float = 1e-3, average_decay: float = 0.998) -> TrainingConfig:
        """The budget that every training of a task gets."""
        batches = None if self.batches is None else max(1, round(self.batches * SHARES[task]))
        return TrainingConfig(
            minutes=self.minutes, max_batches=batches, learning_rate=learning_rate, average_decay=average_decay,
            bfloat16=self.bfloat16, seed=self.seed,
        )  # fmt: skip


def first_half(budget: TrainingConfig) -> TrainingConfig:
    """What one stage is trained with for all, before each has a copy."""
    return replace(
        budget,
        minutes=None if budget.minutes is None else 0.5 * budget.minutes,
        max_batches=None if budget.max_batches is None else max(1, budget.max_batches // 2),
    )


def second_half(budget: TrainingConfig, first: Mapping[str, Any]) -> TrainingConfig:
    """What is left of a budget after a training of ``first["minutes"]`` and ``first["batches"]``."""
    return replace(
        budget,
        minutes=None if budget.minutes is None else max(budget.minutes - first["minutes"], 0.0),
        max_batches=None if budget.max_batches is None else max(budget.max_batches - first["batches"], 1),
    )


def quick_config(seed: int = 0) -> PaperConfig:
    """A size that takes a few minutes on two cores."""
    return PaperConfig(
        quick=True, instances=3, held_out=1, per_mesh=1, width=8, simulation_faces=300, batch_size=16, minutes=None,
        batches=8, descent_iterations=15, polish_iterations=5, ik_width=32, ik_batch=128, light_width=16,
        light_views=40, light_judged=40, seed=seed,
    )  # fmt: skip


def digest(value: Any) -> str:
    """Eight hexadecimal digits of something ready for JSON, or of a file's content."""
    content = value.read_bytes() if isinstance(value, Path) else json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:8]


@dataclass(frozen=True)
class Workspace:
    """A folder of results; what was done is found there again.

    Attributes:
        config: see :class:`PaperConfig`.
        folder: results; half-done work is in a folder below it.
        provenance: columns that every row carries (commit, machine).
        quiet: no progress bar.
    """

    config: PaperConfig
    folder: Path
    provenance: Mapping[str, str] = field(default_factory=dict)
    quiet: bool = True

    def file(self, name: str, suffix: str) -> Path:
        """Where a result is written: ``table_1.csv``, of a quick run ``table_1_quick.csv``."""
        return self.folder / f"{name}{'_quick' if self.config.quick else ''}{suffix}"

    @property
    def work(self) -> Path:
        """Weights, states of trainings, journal."""
        return self.folder / ("paper_quick" if self.config.quick else "paper")

    def journal(self) -> Journal:
        """What was judged; its keys say all that a result depends on."""
        return Journal(self.work / "journal.jsonl", {"journal": "of the paper's tables and figures", "version": 1})

    def provenance_columns(self) -> dict[str, Any]:
        """Configuration (of mesh files without the folders of this machine), seed, commit and machine."""
        named = [entry.partition("=") for entry in self.config.meshes]
        config = {**asdict(self.config), "meshes": [f"{name}={Path(path).name}" for name, _, path in named]}
        return {"config": json.dumps(config), "seed": self.config.seed, **self.provenance}
