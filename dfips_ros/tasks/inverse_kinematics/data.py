# SPDX-License-Identifier: Apache-2.0
"""Training examples, made on the fly: targets are the tip's poses at random joint positions, starts are other ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ...processes.kinematics_jit import forward_many
from .problem import ArmCore


def joint_samples(core: ArmCore, count: int, generator: torch.Generator) -> Tensor:
    """Joint positions (count, n) uniform within the limits of the core."""
    lower, upper = torch.from_numpy(core.lower).float(), torch.from_numpy(core.upper).float()
    return lower + (upper - lower) * torch.rand(count, len(lower), generator=generator)


def target_batches(core: ArmCore, batch_size: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless training batches: target poses (B, 4, 4), initial (B, n), and the targets again as ground truth."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        hidden = joint_samples(core, batch_size, generator).double().numpy()
        targets = torch.from_numpy(forward_many(core.table, hidden)).float()
        yield targets, joint_samples(core, batch_size, generator), targets
