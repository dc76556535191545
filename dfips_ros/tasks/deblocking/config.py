# SPDX-License-Identifier: Apache-2.0
"""Configurations of the deblocking task."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ...checks import check_choice, check_range, config_from_dict
from ...errors import ConfigError
from ...solver import SolverConfig

NETWORKS = ("dct_unet", "dncnn")


def plain_stages(count: int = 3) -> SolverConfig:
    """Stages without adaptive updates: the observation explains itself, so the residual cannot judge an update."""
    return SolverConfig(num_stages=count, adaptive=False, keep_best=False)


@dataclass(frozen=True)
class DeblockingConfig:
    """The network and how it is unrolled.

    Attributes:
        network: ``dct_unet`` (ours) or ``dncnn`` (the baseline: one stage that does not see the forward process).
        widths: of ``dct_unet``: for each stage (the last one serves all further ones) the channels at each level, the
            finest first. The last level has one position per 8x8 block, each one before it twice the resolution.
        depth: residual blocks at one position per 8x8 block, or convolutions of DnCNN.
        fine_depth: residual blocks at each finer level of ``dct_unet``.
        width: channels of DnCNN.
        batch_norm: of DnCNN.
        solver: how the stages are unrolled.
    """

    network: str = "dct_unet"
    widths: tuple[tuple[int, ...], ...] = ((32, 64, 160), (16, 64))
    depth: int = 2
    fine_depth: int = 2
    width: int = 48
    batch_norm: bool = True
    solver: SolverConfig = field(default_factory=plain_stages)

    def __post_init__(self) -> None:
        check_choice("network", self.network, NETWORKS)
        check_range("width", self.width, 4, 1024)
        if not self.widths or any(len(levels) not in (2, 3) for levels in self.widths):
            raise ConfigError(f"widths={self.widths}: expected two or three numbers of channels for each stage.")
        for levels in self.widths:
            for channels in levels:
                check_range("widths", channels, 4, 1024)
        check_range("fine_depth", self.fine_depth, 0, 100)
        check_range("depth", self.depth, 3 if self.network == "dncnn" else 1, 100)
        if self.solver.adaptive or self.solver.keep_best:
            raise ConfigError(
                "solver: expected adaptive=False and keep_best=False; a JPEG explains itself, "
                "so the residual cannot tell a better estimate from the observation."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for a weights file."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> DeblockingConfig:
        """The inverse of :meth:`to_dict`; unknown keys are refused."""
        plain = dict(values)
        if "solver" in plain:
            plain["solver"] = config_from_dict(SolverConfig, plain["solver"])
        if "widths" in plain:
            plain["widths"] = tuple(tuple(levels) for levels in plain["widths"])
        return config_from_dict(DeblockingConfig, plain)


# For colour planes, which are smooth: one stage, no level at half of the resolution.
COLOUR = DeblockingConfig(widths=((32, 96),), fine_depth=1, solver=plain_stages(1))
# The baseline: trains in about the same time as ours.
DNCNN = DeblockingConfig("dncnn", width=48, depth=10, solver=plain_stages(1))


@dataclass(frozen=True)
class DeblockingLossConfig:
    """What a stage is pulled towards, beside a small absolute difference.

    Attributes:
        similarity: weight of ``1 - SSIM``.
        blocking: weight of the blocking effect that PSNR-B counts (Yim and Bovik 2011), as far as the ground truth does
            not have it: how much larger the squared steps across block borders are than those elsewhere.
    """

    similarity: float = 0.0
    blocking: float = 0.0

    def __post_init__(self) -> None:
        check_range("similarity", self.similarity, 0.0, 100.0)
        check_range("blocking", self.blocking, 0.0, 100.0)


@dataclass(frozen=True)
class DeblockingDataConfig:
    """Training examples: crops of clean images, encoded on the fly.

    Attributes:
        batch_size: crops in a batch.
        crop_size: side of a crop, a multiple of 8.
        tables_per_batch: how many quantisation tables are drawn for a batch; crops share them evenly.
        quality: lowest and highest quality.
        low_quality: fraction of tables drawn from the lower half of that range.
        chroma: fraction of tables of the kind that colour planes have; contrast is then lowered too.
        seed: of the examples.
    """

    batch_size: int = 16
    crop_size: int = 64
    tables_per_batch: int = 8
    quality: tuple[int, int] = (5, 95)
    low_quality: float = 0.7
    chroma: float = 0.12
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("batch_size", self.batch_size, 1, 10_000)
        check_range("tables_per_batch", self.tables_per_batch, 1, self.batch_size)
        check_range("crop_size", self.crop_size, 8, 4096)
        if self.crop_size % 8:
            raise ConfigError(f"crop_size={self.crop_size}: expected a multiple of 8.")
        low, high = self.quality
        if not 1 <= low <= high <= 100:
            raise ConfigError(f"quality={self.quality}: expected 1 <= low <= high <= 100.")
        check_range("low_quality", self.low_quality, 0.0, 1.0)
        check_range("chroma", self.chroma, 0.0, 1.0)
