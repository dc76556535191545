# SPDX-License-Identifier: Apache-2.0
"""Where networks run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    import torch

# What the drivers of GPUs that torch calls CUDA make: NVIDIA, Jetson, Windows' Linux, AMD.
_DRIVERS = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg", "/dev/kfd")


def pick_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU; anything else is a torch device.

    Raises:
        ConfigError: no such device, or CUDA is asked for and there is none.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as cause:
        raise ConfigError(f"device={device!r}: expected auto, cpu or cuda.") from cause
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={device!r}: this machine has no CUDA device. Use auto or cpu.")
    return chosen


def device_name(device: str) -> str:
    """As :func:`pick_device`, by name; torch is not imported where it is not needed to tell.

    Raises:
        ConfigError: see :func:`pick_device`.
    """
    if device == "cpu" or (device == "auto" and not any(Path(driver).exists() for driver in _DRIVERS)):
        return "cpu"
    return str(pick_device(device))
