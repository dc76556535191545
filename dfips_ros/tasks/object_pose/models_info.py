# SPDX-License-Identifier: Apache-2.0
"""Symmetries of an object from a file in the format of BOP's ``models_info.json``."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ...errors import ConfigError
from .symmetry import Symmetries


def load_symmetries(path: str | Path, mesh_file: str | Path, key: str = "", scale: float = 0.001) -> Symmetries:
    """Read the symmetries of one object.

    Args:
        path: the JSON file: one entry per object, which may have ``symmetries_discrete`` and ``symmetries_continuous``.
        mesh_file: file of the object's mesh; without ``key`` it tells which entry is meant.
        key: name of the entry. Empty: the name of the mesh file without its ending, or the number in it
            (``obj_000005.ply`` is "5", as in BOP).
        scale: factor from the file's unit to metres; that of the mesh, whose unit it shares (BOP: millimetres).

    Returns:
        The symmetry group; only the identity where the entry lists none.

    Raises:
        ConfigError: the file cannot be read, has no such entry, or the entry is malformed.
    """
    try:
        table = json.loads(Path(path).expanduser().read_text())
    except (OSError, UnicodeDecodeError, ValueError) as cause:
        raise ConfigError(f"models_info '{path}': cannot be read as JSON ({cause}).") from cause
    if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
        raise ConfigError(f"models_info '{path}': expected an object with one entry per model, as in BOP.")
    stem = Path(mesh_file).stem
    number = re.search(r"(\d+)$", stem)
    wanted = [key] if key else [stem, *([str(int(number.group(1)))] if number else [])]
    found = next((name for name in wanted if name in table), None)
    if found is None:
        raise ConfigError(
            f"models_info '{path}': expected an entry {' or '.join(repr(w) for w in wanted)}; it has "
            f"{', '.join(repr(name) for name in list(table)[:20]) or 'none'}."
        )
    try:
        return Symmetries.from_models_info(table[found], scale)
    except (KeyError, TypeError, ValueError) as cause:
        raise ConfigError(f"models_info '{path}', entry {found!r}: {_reason(cause)}") from cause


def _reason(cause: Exception) -> str:
    return f"'{cause.args[0]}' is missing." if isinstance(cause, KeyError) else str(cause)
