# SPDX-License-Identifier: Apache-2.0
"""Where networks run."""

from __future__ import annotations

import torch

from ..errors import ConfigError


def pick_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU; anything else is a torch device.

    Raises:
        ConfigError: no such device, or CUDA is asked for and there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as cause:
        raise ConfigError(f"device={device!r}: expected auto, cpu or cuda.") from cause
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={device!r}: this machine has no CUDA device. Use auto or cpu.")
    return chosen
