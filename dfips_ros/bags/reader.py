# SPDX-License-Identifier: Apache-2.0
"""Reads a rosbag2 recording: which topics it holds, and their messages in the order of recording."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from .types import BagError, require_rosbags, typestore

SUFFIXES = (".mcap", ".db3")
DAMAGED = "Was the recording cut off? `ros2 bag reindex` (folders) or `mcap recover` (mcap files) may mend it."


@dataclass(frozen=True)
class Topic:
    """One topic of a bag: name, message type (``sensor_msgs/msg/Image``), number of messages."""

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class RawMessage:
    """One recorded message.

    Attributes:
        topic: where it came from.
        time: of recording, nanoseconds.
        data: serialised (CDR).
        connection: of the bag, for copies.
    """

    topic: Topic
    time: int
    data: bytes
    connection: Any


class Bag:
    """A recording opened for reading; use it in a ``with``.

    Args:
        path: a folder with ``metadata.yaml``, or a bare ``.mcap`` or ``.db3`` file.

    Raises:
        BagError: it is missing, is no ROS 2 bag, or is damaged.
        MissingDependencyError: ``rosbags`` is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        require_rosbags()
        from rosbags.rosbag2 import Reader

        self.path = _storage(Path(path))
        try:
            self._reader = Reader(self.path)
            self._reader.open()
        except Exception as cause:  # damaged files make the readers of both storages raise all kinds of errors
            raise BagError(f"bag '{path}': cannot be read ({_words(cause)}). {DAMAGED}") from cause
        self.damage = ""  # why the messages ended early
        counts: dict[tuple[str, str], int] = {}
        for c in self._reader.connections:
            counts[c.topic, c.msgtype] = counts.get((c.topic, c.msgtype), 0) + c.msgcount
        self._by_connection = {key: Topic(*key, count) for key, count in sorted(counts.items())}

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        with contextlib.suppress(Exception):  # nothing that was read depends on it
            self._reader.close()

    @property
    def topics(self) -> list[Topic]:
        """What the bag holds, by name."""
        return list(self._by_connection.values())

    @property
    def seconds(self) -> float:
        """Time between the first and the last message."""
        return round(1e-9 * max(self._reader.duration - 1, 0), 9)  # the reader counts to one nanosecond after the last

    @property
    def count(self) -> int:
        """Number of messages."""
        return sum(topic.count for topic in self.topics)

    def choose(self, type_name: str, given: str | None, option: str) -> Topic:
        """The topic that was named, or the only one of this type.

        Args:
            type_name: message type that it must have.
            given: name of the topic, or None.
            option: how the user names it, for the message.

        Raises:
            BagError: no such topic, another type, none or several to choose from. The message lists the bag's topics.
        """
        fitting = [topic for topic in self.topics if topic.type == type_name]
        if given is not None:
            named = [topic for topic in fitting if topic.name == given]
            if named:
                return named[0]
            others = [topic.type for topic in self.topics if topic.name == given]
            what = f"is of type {', '.join(others)}, expected {type_name}" if others else "is not in the bag"
            raise BagError(f"{option} {given}: {what}. {self.contents()}")
        if len(fitting) == 1:
            return fitting[0]
        if not fitting:
            raise BagError(f"bag '{self.path}': has no topic of type {type_name}. {self.contents()}")
        names = ", ".join(topic.name for topic in fitting)
        raise BagError(f"bag '{self.path}': several topics have type {type_name}: {names}. Choose one with {option}.")

    def contents(self) -> str:
        """The topics in words."""
        if not self.topics:
            return "The bag holds no topics."
        return "The bag holds " + ", ".join(f"{t.name} ({t.type}, {t.count})" for t in self.topics) + "."

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Messages in the order of recording, of these topics or of all.

        Where the file is damaged in the middle the messages end, and :attr:`damage` says why.
        """
        wanted = [c for c in self._reader.connections if topics is None or c.topic in topics]
        if not wanted:
            return
        try:
            for connection, time, data in self._reader.messages(connections=wanted):
                topic = self._by_connection[connection.topic, connection.msgtype]
                yield RawMessage(topic, time, bytes(data), connection)
        except Exception as cause:  # see __init__
            self.damage = f"the bag cannot be read to its end ({_words(cause)}). {DAMAGED}"

    def check_definition(self, topic: Topic) -> None:
        """Raise :class:`BagError` if the bag defines the type of ``topic`` otherwise than ROS 2 Jazzy does."""
        from rosbags.interfaces import MessageDefinitionFormat
        from rosbags.typesys import get_types_from_msg

        store = typestore()
        for connection in self._reader.connections:
            text = connection.msgdef.data
            if connection.topic != topic.name or connection.msgdef.format != MessageDefinitionFormat.MSG:
                continue
            try:
                found = get_types_from_msg(text, topic.type)
            except Exception:  # a text that is not understood says nothing against the messages
                continue
            for name, (_, recorded) in found.items():
                known = store.fielddefs.get(name, ((), None))[1]
                if known is not None and _layout(known) != _layout(recorded):
                    raise BagError(
                        f"topic {topic.name}: the bag was recorded with another definition of {name} than that of "
                        "ROS 2 Jazzy. Convert it with a ROS 2 that knows both."
                    )

    def decode(self, raw: RawMessage) -> Any:
        """The message.

        Raises:
            BagError: the data are damaged.
        """
        try:
            return typestore().deserialize_cdr(raw.data, raw.topic.type)
        except Exception as cause:  # the decoder trusts its data: lengths beyond the end, strings that are no UTF-8
            raise BagError(f"the data cannot be decoded ({_words(cause)})") from cause


def _storage(path: Path) -> Path:
    """The path that the reader takes; a folder without metadata.yaml is taken for the only file in it."""
    if not path.exists():
        raise BagError(f"bag '{path}': no such file or folder.")
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        files = [file for file in sorted(path.iterdir()) if file.suffix in SUFFIXES]
        if len(files) != 1:
            raise BagError(
                f"bag '{path}': expected a folder with metadata.yaml, or with one .mcap or .db3 file, got "
                f"{len(files)} of them. `ros2 bag reindex {path}` makes metadata.yaml."
            )
        return files[0]
    if path.is_file() and path.name == "metadata.yaml":
        return path.parent
    if path.is_file() and path.suffix == ".bag":
        raise BagError(f"bag '{path}': is a bag of ROS 1. Convert it first: rosbags-convert --src {path} --dst FOLDER")
    if path.is_file() and path.suffix not in SUFFIXES:
        raise BagError(f"bag '{path}': expected a folder, or a file that ends in {' or '.join(SUFFIXES)}.")
    return path


def _words(cause: Exception) -> str:
    text = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__


def _layout(fields: Any) -> list[tuple[str, str]]:
    """Names and types of fields, without default values."""
    return [(name, str(kind)) for name, kind in fields]
