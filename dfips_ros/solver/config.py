# SPDX-License-Identifier: Apache-2.0
"""How a solver's stages are unrolled."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import check_range


@dataclass(frozen=True)
class SolverConfig:
    """How the stages are unrolled.

    Attributes:
        num_stages: T, at least 1.
        shared_weights: one network for all stages instead of one each.
        adaptive: scale or reject an update that does not lower the residual.
        max_scalings: how often a bad update is scaled before it is rejected.
        scaling: factor of each scaling, in (0, 1).
        tolerance: relative growth of the residual that is still accepted.
        keep_best: return the estimate with the smallest residual of the history, not the last one.
        enough: an element whose residual norm is at most this is left as it is by the remaining stages (the history
            repeats its estimate); 0 runs all stages on all elements.
    """

    num_stages: int = 5
    shared_weights: bool = False
    adaptive: bool = True
    max_scalings: int = 1
    scaling: float = 0.4
    tolerance: float = 0.0
    keep_best: bool = True
    enough: float = 0.0

    def __post_init__(self) -> None:
        check_range("num_stages", self.num_stages, 1, 1000, whole=True)
        check_range("max_scalings", self.max_scalings, 0, 20, whole=True)
        check_range("scaling", self.scaling, 1e-6, 1.0 - 1e-6)
        check_range("tolerance", self.tolerance, 0.0)
        check_range("enough", self.enough, 0.0)
