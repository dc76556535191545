# SPDX-License-Identifier: Apache-2.0
"""Symmetries of objects as text: the format of BOP's models_info.json, in metres."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ..tasks.object_pose import Symmetries


def symmetries_text(symmetries: Mapping[str, Symmetries]) -> str:
    """JSON with one entry for each object, that the parameter models_info reads back with mesh_scale 1."""
    return json.dumps({name: _entry(each) for name, each in symmetries.items()})


def _entry(symmetries: Symmetries) -> dict[str, list[object]]:
    turns = zip(symmetries.axes.tolist(), symmetries.offsets.tolist(), strict=True)
    return {
        "symmetries_discrete": [matrix.ravel().tolist() for matrix in symmetries.discrete[1:]],
        "symmetries_continuous": [{"axis": axis, "offset": offset} for axis, offset in turns],
    }
