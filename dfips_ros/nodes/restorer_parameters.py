# SPDX-License-Identifier: Apache-2.0
"""The parameter table of the node ``image_restorer``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..tasks.deblocking.restorer import LUMINANCE
from .parameters import parameter, resolve_path


@dataclass(frozen=True)
class ImageRestorerParameters:
    """The parameters of the node ``image_restorer``. :func:`~.parameters.specs_of` gives ranges and descriptions."""

    weights: str = parameter(
        "",
        "Weights of the solver: a path, a file:// or a package:// URI. Empty: those that ship with the package.",
    )
    device: str = parameter(
        "auto", "Where the solver runs. auto: the GPU where there is one.", choices=("auto", "cpu", "cuda")
    )
    consistency: str = parameter(
        "exact",
        "project: the luminance's coefficients are moved into the quantisation cells of the JPEG. exact: that, and "
        "encoding the restored luminance again gives the same coefficients wherever 8 bits allow it. off: neither.",
        choices=("exact", "project", "off"),
    )
    max_pixels: int = parameter(10_000_000, "Larger images are refused.", low=1, high=1_000_000_000)
    autostart: bool = parameter(True, "Configure and activate by itself. false: wait for a lifecycle manager.")
    diagnostics_period: float = parameter(1.0, "Time between two /diagnostics messages [s].", low=0.05, high=60.0)

    @cached_property
    def weights_path(self) -> Path:
        """The weights file.

        Raises:
            ConfigError: unknown kind of URI, or the package is not installed.
        """
        return resolve_path("weights", self.weights) if self.weights.strip() else LUMINANCE
