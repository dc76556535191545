# SPDX-License-Identifier: Apache-2.0
"""A file of what a long evaluation has done so far, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError


class Journal:
    """Results by key, one JSON line each; the first line holds the settings that they belong to.

    Args:
        path: file; made if needed, continued if it is there.
        settings: all that the results depend on, ready for JSON.

    Raises:
        ConfigError: the file belongs to other settings, is no journal, or cannot be read or written.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        plain = json.loads(json.dumps(settings))
        self._results: dict[str, Any] = {}
        try:
            if not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.write_text(json.dumps({"settings": plain}))
            lines = self.path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as cause:
            raise ConfigError(f"journal '{path}': cannot be read or written ({cause}).") from cause
        entries = [entry for entry in map(_parsed, lines) if entry is not None]
        if not entries or "settings" not in entries[0]:
            raise ConfigError(f"journal '{path}': is no journal of an evaluation. Name another file.")
        before = entries[0]["settings"]
        if before != plain:
            names = sorted(n for n in {*before, *plain} if before.get(n) != plain.get(n))
            raise ConfigError(
                f"journal '{path}': belongs to another evaluation ({', '.join(names)} differ). Delete it or name "
                "another file."
            )
        self._results = {entry["key"]: entry["result"] for entry in entries[1:]}

    def get(self, key: str) -> Any:
        """The result under ``key``; None if there is none yet."""
        return self._results.get(key)

    def put(self, key: str, result: Any) -> None:
        """Note a result, ready for JSON, and write it to the disk."""
        self._results[key] = result
        with self.path.open("a") as stream:  # the line break first: an interruption may have cut the last line short
            stream.write("\n" + json.dumps({"key": key, "result": result}))


def _parsed(line: str) -> dict[str, Any] | None:
    """One line; None where an interruption cut it short."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and ("settings" in entry or {"key", "result"} <= set(entry)) else None
