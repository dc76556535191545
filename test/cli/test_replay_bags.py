# SPDX-License-Identifier: Apache-2.0
"""Bags are read as they were written, and damaged ones raise nothing but our errors."""

import random

import numpy as np
import pytest

from dfips_ros.bags.reader import Bag
from dfips_ros.bags.types import BagError, make, make_header, nanoseconds_from_stamp, stamp_from_nanoseconds, typestore
from dfips_ros.bags.writer import BagWriter

OWN = sorted(name for name in typestore().types if name.startswith("dfips_ros/msg/"))
NAMES = ("bag.mcap", "bag.db3", "bag")


def filled(type_name, rng):
    """A message of this type with random contents."""
    from rosbags.interfaces import Nodetype

    store = typestore()

    def value(kind):
        node, what = kind
        if node == Nodetype.NAME:
            return filled(what, rng)
        if node == Nodetype.BASE:
            name = what[0]
            if name == "string":
                return "".join(rng.choice("aé/ 0") for _ in range(rng.randrange(6)))
            if name == "bool":
                return rng.random() < 0.5
            return rng.random() if name.startswith("float64") else rng.randrange(120)
        inner, size = what
        count = size or rng.randrange(4)
        if inner[0] == Nodetype.BASE and inner[1][0] != "string":
            return np.array([rng.randrange(120) for _ in range(count)], dtype=inner[1][0])
        return [value(inner) for _ in range(count)]

    return make(type_name, **{name: value(kind) for name, kind in store.fielddefs[type_name][1]})


def written(path, count=20):
    rng = random.Random(0)
    kinds = [*OWN, "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"]
    messages = [(f"/topic_{k % len(kinds)}", filled(kinds[k % len(kinds)], rng), 10**9 + k) for k in range(count)]
    with BagWriter(path) as writer:
        for topic, message, time in messages:
            writer.write(topic, message, time)
    return messages


def read(path):
    with Bag(path) as bag:
        return [(raw.topic.name, bag.decode(raw), raw.time) for raw in bag.messages()], bag.damage


def test_the_package_has_messages_of_its_own():
    assert "dfips_ros/msg/TrackedObject" in OWN and "dfips_ros/msg/JointSolution" in OWN


@pytest.mark.parametrize("name", NAMES)
def test_every_message_comes_back(name, tmp_path):
    messages = written(tmp_path / name)
    found, damage = read(tmp_path / name)
    assert not damage and len(found) == len(messages)
    for (topic, message, time), (topic_read, message_read, time_read) in zip(messages, found, strict=True):
        assert (topic, time) == (topic_read, time_read)
        data = typestore().serialize_cdr(message, message.__msgtype__)
        assert bytes(data) == bytes(typestore().serialize_cdr(message_read, message.__msgtype__))


@pytest.mark.parametrize("name", NAMES)
def test_types_that_nobody_knows_are_copied(name, tmp_path):
    """The definition goes with the messages, so that another machine reads them."""
    from rosbags.rosbag2 import Reader, StoragePlugin, Writer

    definition = "float64[] values\nstring what\n"
    plugin = StoragePlugin.SQLITE3 if name.endswith("db3") else StoragePlugin.MCAP
    with Writer(tmp_path / "foreign", version=9, storage_plugin=plugin) as writer:
        connection = writer.add_connection("/odd", "acme_msgs/msg/Odd", msgdef=definition, rihs01="RIHS01_" + 64 * "a")
        writer.write(connection, 5, b"\x00\x01\x00\x00whatever")
    with Bag(tmp_path / "foreign") as bag, BagWriter(tmp_path / name) as writer:
        for raw in bag.messages():
            writer.copy(raw)
        assert not writer.left_out
        with pytest.raises(BagError, match="cannot be decoded"):
            bag.decode(raw)
    with Reader(tmp_path / name) as reader:
        ((connection, time, data),) = reader.messages()
        assert (connection.topic, connection.msgtype, time) == ("/odd", "acme_msgs/msg/Odd", 5)
        assert connection.msgdef.data == definition and bytes(data) == b"\x00\x01\x00\x00whatever"


@pytest.mark.parametrize("suffix", [".mcap", ".db3"])
def test_damage_anywhere_raises_nothing_but_our_error(suffix, tmp_path):
    path = tmp_path / f"bag{suffix}"
    written(path)
    data = bytearray(path.read_bytes())
    rng, outcomes = random.Random(1), set()
    for _ in range(150):
        changed = bytearray(data)
        begin = rng.randrange(len(changed))
        for k in range(begin, min(begin + rng.choice((1, 4, 64)), len(changed))):
            changed[k] = rng.randrange(256)
        path.write_bytes(changed)
        try:
            with Bag(path) as bag:
                for raw in bag.messages():
                    try:
                        bag.decode(raw)
                    except BagError:
                        outcomes.add("message")
                outcomes.add("damage" if bag.damage else "read")
        except BagError:
            outcomes.add("refused")
    assert {"read", "refused"} <= outcomes, outcomes


def test_nothing_is_left_where_the_writer_fails(tmp_path):
    with pytest.raises(KeyError), BagWriter(tmp_path / "bag.mcap") as writer:
        writer.write("/x", make_message(), 0)
        raise KeyError("something else goes wrong")
    assert list(tmp_path.iterdir()) == []


def make_message():
    return make("geometry_msgs/msg/PointStamped", header=make_header(1, "a"),
                point=make("geometry_msgs/msg/Point", x=1.0, y=2.0, z=3.0))  # fmt: skip


@pytest.mark.parametrize("name", ["bag.txt", ".mcap", ".db3"])
def test_names_that_are_no_bags_are_refused(name, tmp_path):
    with pytest.raises(BagError):
        BagWriter(tmp_path / name)


@pytest.mark.parametrize("time", [0, 1, 10**9 - 1, 10**9, 1_700_000_000_123_456_789])
def test_times_keep_their_nanoseconds(time):
    assert nanoseconds_from_stamp(stamp_from_nanoseconds(time)) == time


def test_a_topic_is_chosen_by_type_only_where_that_is_clear(tmp_path):
    with BagWriter(tmp_path / "bag.mcap") as writer:
        for topic in ("/a", "/b"):
            writer.write(topic, make_message(), 0)
        writer.write("/c", make_header(1, "x"), 1)
    with Bag(tmp_path / "bag.mcap") as bag:
        kind = "geometry_msgs/msg/PointStamped"
        assert bag.choose(kind, "/b", "--topic").name == "/b"
        assert bag.choose("std_msgs/msg/Header", None, "--topic").name == "/c"
        for given, wanted, words in (
            (None, kind, ("/a", "/b", "--topic")),
            (None, "sensor_msgs/msg/Image", ("no topic", "/c (std_msgs/msg/Header, 1)")),
            ("/c", kind, ("/c", "std_msgs/msg/Header", kind)),
            ("/d", kind, ("/d", "not in the bag")),
        ):
            with pytest.raises(BagError) as error:
                bag.choose(wanted, given, "--topic")
            assert all(word in str(error.value) for word in words)


def test_a_type_that_was_recorded_with_another_definition_is_refused(tmp_path):
    from rosbags.rosbag2 import StoragePlugin, Writer

    for definition, fits in (("float64 x\nfloat64 y\nfloat64 z\n", True), ("float64 x\nfloat32 y\n", False)):
        folder = tmp_path / str(fits)
        with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            writer.add_connection(
                "/p", "geometry_msgs/msg/Vector3", msgdef=definition, rihs01="RIHS01_" + 64 * "b"
            )  # fmt: skip
        with Bag(folder) as bag:
            (topic,) = bag.topics
            if fits:
                bag.check_definition(topic)
            else:
                with pytest.raises(BagError, match="another definition of geometry_msgs/msg/Vector3"):
                    bag.check_definition(topic)


@pytest.mark.parametrize("storage", ["SQLITE3", "MCAP"])
@pytest.mark.parametrize("mode", ["NONE", "FILE", "MESSAGE"])
def test_split_and_compressed_bags_are_read(storage, mode, tmp_path):
    """As rosbag2 writes them: two files of one folder, one metadata.yaml."""
    import yaml
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    pieces = []
    for piece in range(2):
        writer = Writer(tmp_path / f"piece_{piece}", version=9, storage_plugin=StoragePlugin[storage])
        writer.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)
        with writer:
            connection = writer.add_connection("/x", "geometry_msgs/msg/PointStamped", typestore=typestore())
            for k in range(3):
                data = typestore().serialize_cdr(make_message(), "geometry_msgs/msg/PointStamped")
                writer.write(connection, 10 * piece + k, data)
        pieces.append(yaml.safe_load((tmp_path / f"piece_{piece}" / "metadata.yaml").read_text()))
    info, more = (piece["rosbag2_bagfile_information"] for piece in pieces)
    (tmp_path / "bag").mkdir()
    for each in (info, more):
        (name,) = each["relative_file_paths"]
        (tmp_path / name.split(".")[0] / name).rename(tmp_path / "bag" / name)
    info["relative_file_paths"] += more["relative_file_paths"]
    info["files"] += more["files"]
    info["message_count"] = info["topics_with_message_count"][0]["message_count"] = 6
    info["duration"]["nanoseconds"] = 12
    (tmp_path / "bag" / "metadata.yaml").write_text(yaml.safe_dump(pieces[0]))
    with Bag(tmp_path / "bag") as bag:
        assert (bag.count, bag.seconds) == (6, 12e-9)
        found = [(raw.time, bag.decode(raw).point.y) for raw in bag.messages()]
    assert found == [(time, 2.0) for time in (0, 1, 2, 10, 11, 12)]
