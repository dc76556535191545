# SPDX-License-Identifier: Apache-2.0
"""Writes a rosbag2 recording: one .mcap or .db3 file, or a folder with metadata.yaml."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from .reader import RawMessage
from .types import BagError, require_rosbags, typestore

VERSION: Final = 9  # of rosbag2's format: ROS 2 Jazzy


class BagWriter:
    """A recording that is being written; use it in a ``with``.

    It appears under its name when the ``with`` ends without an error, and not before.

    Args:
        out: ``name.mcap`` or ``name.db3`` for one file, a name without suffix for a folder (mcap).
        force: replace what is there.

    Raises:
        BagError: ``out`` exists or has another suffix; on entering, that it cannot be made there.
        MissingDependencyError: ``rosbags`` is not installed.
    """

    def __init__(self, out: str | Path, force: bool = False) -> None:
        require_rosbags()
        self.out = Path(out)
        check_out(self.out, force)
        self._folder = Path()
        self._writer: Any = None
        self._connections: dict[tuple[str, str], Any] = {}
        self.left_out: dict[str, str] = {}  # topics that could not be copied, and why

    def __enter__(self) -> BagWriter:
        from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=f".{self.out.name}.", dir=self.out.parent))
        except OSError as cause:
            raise BagError(f"bag '{self.out}': cannot be written ({cause.strerror or cause}).") from cause
        plugin = StoragePlugin.SQLITE3 if self.out.suffix == ".db3" else StoragePlugin.MCAP
        self._writer = Writer(self._folder / self.out.stem, version=VERSION, storage_plugin=plugin)
        if plugin is StoragePlugin.MCAP:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        try:
            self._writer.__exit__(kind, value, trace)
            if kind is None:
                self._put_in_place()
        except OSError as cause:
            raise BagError(f"bag '{self.out}': cannot be written ({cause.strerror or cause}).") from cause
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _put_in_place(self) -> None:
        written = self._folder / self.out.stem
        if self.out.suffix:
            (written,) = written.glob(f"*{self.out.suffix}")
        if self.out.is_dir():
            shutil.rmtree(self.out)
        written.replace(self.out)

    def write(self, topic: str, message: Any, time: int) -> None:
        """Add a message of :func:`~dfips_ros.bags.types.make`, recorded at ``time`` [ns]."""
        name = message.__msgtype__
        connection = self._connections.get((topic, name))
        if connection is None:
            connection = self._writer.add_connection(topic, name, typestore=typestore())
            self._connections[topic, name] = connection
        self._writer.write(connection, time, typestore().serialize_cdr(message, name))

    def copy(self, raw: RawMessage) -> None:
        """Add a message of another bag as it is."""
        key = (raw.topic.name, raw.topic.type)
        if key not in self._connections:
            self._connections[key] = self._copied_connection(raw)
        if self._connections[key] is not None:
            self._writer.write(self._connections[key], raw.time, raw.data)

    def _copied_connection(self, raw: RawMessage) -> Any:
        """The same connection here; None where the bag does not say what its messages are."""
        source, kind = raw.connection, raw.topic.type
        text, qos = source.msgdef.data, source.ext.offered_qos_profiles
        try:
            if text:
                digest = source.digest or _digest(kind, text)
                return self._writer.add_connection(
                    raw.topic.name, kind, msgdef=text, rihs01=digest, offered_qos_profiles=qos
                )
            if kind in typestore().types:
                return self._writer.add_connection(
                    raw.topic.name, kind, typestore=typestore(), offered_qos_profiles=qos
                )
            reason = f"the bag does not define {kind}"
        except Exception as cause:  # quality of service or definition that the writer does not know
            reason = f"{type(cause).__name__}: {cause}"
        self.left_out[raw.topic.name] = reason
        return None


def _digest(type_name: str, text: str) -> str:
    """Hash (RIHS01) of a type by its definition."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(text, type_name))
    return str(store.hash_rihs01(type_name))


def check_out(out: Path, force: bool) -> None:
    """Raise :class:`BagError` if a bag must not be written there."""
    if out.suffix not in ("", ".mcap", ".db3"):
        raise BagError(f"bag '{out}': expected a name that ends in .mcap or .db3, or one without suffix for a folder.")
    if out.name in ("", ".mcap", ".db3"):
        raise BagError(f"bag '{out}': expected the name of a file or folder.")
    if not out.exists():
        return
    if not force:
        raise BagError(f"bag '{out}': exists. Choose another name, or --force to replace it.")
    if out.is_dir() and (out.suffix or not (out / "metadata.yaml").is_file()):
        raise BagError(f"bag '{out}': is a folder that is no bag, so --force does not replace it.")
    if out.is_file() and not out.suffix:
        raise BagError(f"bag '{out}': is a file that is no bag, so --force does not replace it.")
