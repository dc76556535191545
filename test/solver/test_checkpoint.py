# SPDX-License-Identifier: Apache-2.0
"""Weights files: round trip, and every way in which one can be unusable."""

import pytest
import torch

from dfips_ros.errors import CheckpointError
from dfips_ros.solver import Checkpoint, checkpoint, load_checkpoint, save_checkpoint

CONTENT = Checkpoint("toy", {"width": 3, "solver": {"num_stages": 2}}, {"seed": 7}, {"a.b": torch.arange(6.0)})


def test_round_trip(tmp_path):
    save_checkpoint(tmp_path / "deep" / "w.safetensors", CONTENT)
    back = load_checkpoint(tmp_path / "deep" / "w.safetensors", kind="toy")
    assert (back.kind, back.config, back.provenance) == (CONTENT.kind, CONTENT.config, CONTENT.provenance)
    assert torch.equal(back.weights["a.b"], CONTENT.weights["a.b"])


def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match="no file"):
        load_checkpoint(tmp_path / "none.safetensors")


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", bytes(200)])
def test_corrupt(tmp_path, content):
    file = tmp_path / "w.safetensors"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable"):
        load_checkpoint(file)


def test_truncated(tmp_path):
    file = tmp_path / "w.safetensors"
    save_checkpoint(file, CONTENT)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="not a readable"):
        load_checkpoint(file)


def test_other_version(tmp_path, monkeypatch):
    file = tmp_path / "w.safetensors"
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 99)
    save_checkpoint(file, CONTENT)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="expected format version 1, got 99"):
        load_checkpoint(file)


def test_other_kind(tmp_path):
    save_checkpoint(tmp_path / "w.safetensors", CONTENT)
    with pytest.raises(CheckpointError, match="'object_pose', got 'toy'"):
        load_checkpoint(tmp_path / "w.safetensors", kind="object_pose")
