# SPDX-License-Identifier: Apache-2.0
"""Weights files: safetensors with the config and the provenance in the header."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """The content of a weights file.

    Attributes:
        kind: which network it is for, for example ``"object_pose"``.
        config: the configuration that rebuilds the network.
        provenance: recipe, seed, data, date, versions and metrics of the training.
        weights: name -> tensor.
    """

    kind: str
    config: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a weights file, replacing an older one in one step."""
    from safetensors.torch import save_file

    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    header = {
        "format_version": str(FORMAT_VERSION),
        "kind": checkpoint.kind,
        "config": json.dumps(checkpoint.config, sort_keys=True),
        "provenance": json.dumps(checkpoint.provenance, sort_keys=True),
    }
    temporary = file.with_suffix(file.suffix + ".part")
    weights = {name: value.detach().cpu().contiguous() for name, value in checkpoint.weights.items()}
    save_file(weights, temporary, metadata=header)
    temporary.chmod(0o644)
    temporary.replace(file)


def load_checkpoint(
    path: str | Path, kind: str | None = None, framework: Literal["pt", "numpy"] = "pt"
) -> Checkpoint:
    """Read a weights file.

    Args:
        path: the file.
        kind: what the caller can use; anything else is refused.
        framework: weights as tensors or as numpy arrays.

    Raises:
        CheckpointError: missing, corrupt, of another format version, or of another kind.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"weights: no file '{path}'. Train one with 'dfips train', or leave the path empty.")
    try:
        with safe_open(file, framework=framework) as content:
            header = content.metadata() or {}
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as cause:
        message = f"weights '{path}': not a readable safetensors file ({cause}). Fetch it again."
        raise CheckpointError(message) from cause
    version = header.get("format_version")
    if version != str(FORMAT_VERSION):
        raise CheckpointError(
            f"weights '{path}': expected format version {FORMAT_VERSION}, got {version}. "
            "Train them again with this version of dfips_ros."
        )
    if kind is not None and header.get("kind") != kind:
        raise CheckpointError(f"weights '{path}': expected weights for '{kind}', got '{header.get('kind')}'.")
    try:
        config, provenance = json.loads(header["config"]), json.loads(header.get("provenance", "{}"))
    except (KeyError, json.JSONDecodeError) as cause:
        raise CheckpointError(f"weights '{path}': the header has no readable config ({cause!r}).") from cause
    return Checkpoint(header["kind"], config, provenance, weights)
