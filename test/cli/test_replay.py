# SPDX-License-Identifier: Apache-2.0
"""``dfips replay object_pose`` on small bags that are made here, and on damaged and foreign ones."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from dfips_ros.bags.reader import Bag
from dfips_ros.bags.types import make, make_header
from dfips_ros.bags.writer import BagWriter
from dfips_ros.cli.main import main
from dfips_ros.geometry import make_pose, rotation_angle, so3_exp
from dfips_ros.messages.image import image_fields
from dfips_ros.processes.silhouette import RasterRenderer

SIZE = (240, 320)
FRAMES = 12
PERIOD = 33_333_333
START = 1_700_000_000_000_000_123  # so that digits would be lost in a float
MASK, INFO, IMAGE = "/seg/mask", "/cam/camera_info", "/cam/image_raw"


@pytest.fixture(scope="module")
def matrix():
    return np.array([[310.0, 0.0, 160.5], [0.0, 308.0, 118.0], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def mesh_file(bracket_solid, tmp_path_factory):
    path = tmp_path_factory.mktemp("mesh") / "bracket.stl"
    bracket_solid.export(path)
    return path


@pytest.fixture(scope="module")
def scene(bracket, matrix):
    """Truth (FRAMES, 4, 4) and masks (FRAMES, H, W) of a bracket that moves and turns slowly."""
    poses = []
    for k in range(FRAMES):
        turn = so3_exp(torch.tensor([0.9 + 0.01 * k, 0.4 - 0.02 * k, 0.3], dtype=torch.float64)).numpy()
        center = np.array([0.03 - 0.004 * k, 0.01, 0.55 + 0.004 * k])
        poses.append(make_pose(turn, center - turn @ bracket.center))
    depth = RasterRenderer(bracket).render(
        torch.from_numpy(np.stack(poses).astype(np.float32)), torch.from_numpy(matrix.astype(np.float32)), SIZE
    )
    return np.stack(poses), depth.numpy() > 0


def camera_info(matrix, time, **changes):
    fields = {
        "header": make_header(time, "eye"), "height": SIZE[0], "width": SIZE[1], "distortion_model": "plumb_bob",
        "d": np.zeros(5), "k": matrix.ravel(), "r": np.eye(3).ravel(),
        "p": np.hstack([matrix, np.zeros((3, 1))]).ravel(), "binning_x": 0, "binning_y": 0,
        "roi": make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    }  # fmt: skip
    return make("sensor_msgs/msg/CameraInfo", **{**fields, **changes})


def image(pixels, time, **changes):
    fields = {"header": make_header(time, "eye"), **image_fields(pixels)}
    return make("sensor_msgs/msg/Image", **{**fields, **changes})


@pytest.fixture
def write_bag(tmp_path, scene, matrix):
    """Write a bag of the scene; ``more(writer)`` adds to it."""

    def write(name="in.mcap", infos=True, colour=True, more=None):
        with BagWriter(tmp_path / name) as writer:
            for k, mask in enumerate(scene[1]):
                time = START + k * PERIOD
                writer.write(MASK, image(mask, time), time)
                if infos:  # recorded after the mask that it belongs to
                    writer.write(INFO, camera_info(matrix, time), time + 1000)
                if colour:
                    grey = np.repeat(mask[..., None], 3, axis=2) * np.uint8(90)
                    writer.write(IMAGE, image(grey, time), time + 2000)
            if more is not None:
                more(writer)
        return tmp_path / name

    return write


@pytest.fixture
def replay(mesh_file, tmp_path, capsys):
    """Run the command. -> exit status, what it printed, what it complained of."""

    def call(source, out, *more):
        status = main(["replay", "object_pose", str(source), str(out), "--mesh", str(mesh_file), "--device", "cpu",
                       "--quiet", *map(str, more)])  # fmt: skip
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return status, printed.out, printed.err

    return call


def contents(path):
    """(topic, time of recording, message) of all messages."""
    with Bag(path) as bag:
        return [(raw.topic.name, raw.time, bag.decode(raw)) for raw in bag.messages()]


def raw_contents(path):
    with Bag(path) as bag:
        return [(raw.topic.name, raw.topic.type, raw.time, raw.data) for raw in bag.messages()]


def stamp(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


@pytest.mark.parametrize("names", [("in.mcap", "out.mcap"), ("in.db3", "out.db3"), ("in", "out")], ids=str)
def test_poses_are_the_true_ones_with_the_stamps_of_the_masks(names, write_bag, replay, scene, bracket, tmp_path):
    from dfips_ros.geometry import pose_from_position_quaternion

    status, printed, _ = replay(write_bag(names[0]), tmp_path / names[1], "--json", tmp_path / "s.json")
    assert status == 0 and f"tracked: {FRAMES} (100.0%)" in printed
    found = contents(tmp_path / names[1])
    poses = [m for topic, _, m in found if topic == "/pose_tracker/pose"]
    answers = [m for topic, _, m in found if topic == "/pose_tracker/tracked_object"]
    transforms = [m.transforms[0] for topic, _, m in found if topic == "/tf"]
    overlays = [m for topic, _, m in found if topic == "/pose_tracker/overlay/compressed"]
    expected = [START + k * PERIOD for k in range(FRAMES)]
    for messages in (poses, answers, transforms, overlays):
        assert [stamp(m) for m in messages] == expected
        assert {m.header.frame_id for m in messages} == {"eye"}
    assert {time for topic, time, _ in found} == set(expected)
    assert {m.state for m in answers} == {type(answers[0]).TRACKING} and {m.solve_time for m in answers} == {0.0}
    assert all(len(m.residual_norms) >= 1 and m.iou > 0.8 for m in answers)
    for message, transform, truth in zip(poses, transforms, scene[0], strict=True):
        p, q = message.pose.pose.position, message.pose.pose.orientation
        pose = pose_from_position_quaternion(np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w]))
        center = np.append(bracket.center, 1.0)
        assert np.degrees(rotation_angle(pose[:3, :3], truth[:3, :3])) < 5.0
        assert np.linalg.norm((pose - truth) @ center) < 0.01
        assert transform.child_frame_id == "bracket" and transform.transform.translation.x == p.x
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["frames"], summary["tracked"], summary["lost"], summary["recovered"]) == (FRAMES, FRAMES, 0, 0)
    assert summary["solve_ms"]["p99"] >= summary["solve_ms"]["median"] > 0
    assert summary["topics"] == {"mask": MASK, "camera_info": INFO, "image": IMAGE, "label_info": None}
    assert not summary["skipped"]


def test_two_runs_write_the_same_messages_and_the_input_is_kept(write_bag, replay, tmp_path):
    source = write_bag()
    for name in ("a.mcap", "b.db3"):
        assert replay(source, tmp_path / name, "--keep-input")[0] == 0
    first, second, before = (sorted(raw_contents(p)) for p in (tmp_path / "a.mcap", tmp_path / "b.db3", source))
    assert first == second and len(first) > len(before)
    assert all(message in first for message in before)
    status, _, complaint = replay(tmp_path / "a.mcap", tmp_path / "c.mcap", "--keep-input")
    assert status == 2 and "/pose_tracker/pose" in complaint and "--namespace" in complaint


def test_what_cannot_be_used_is_counted_and_the_rest_is_tracked(write_bag, replay, scene, matrix, tmp_path):
    mask, end = scene[1][-1], START + FRAMES * PERIOD
    wrong = matrix.copy()
    wrong[0, 0] = np.nan

    def more(writer):
        writer.write(INFO, camera_info(wrong, end), end)
        writer.write(MASK, image(mask, end, encoding="32FC1"), end)
        writer.write(MASK, image(mask, end + PERIOD, data=np.zeros(7, np.uint8)), end + PERIOD)
        writer.write(MASK, image(mask, end), end + 1 * PERIOD + 1)  # late
        writer.write(MASK, image(np.zeros_like(mask), end + 2 * PERIOD), end + 2 * PERIOD)
        writer.write(MASK, image(mask, end + 3 * PERIOD), end + 3 * PERIOD)
        connection = writer._connections[MASK, "sensor_msgs/msg/Image"]
        for k, data in enumerate((b"", b"\x00\x01\x00\x00", bytes(40), b"\xff" * 200)):
            writer._writer.write(connection, end + 4 * PERIOD + k, data)

    status, printed, _ = replay(write_bag(more=more), tmp_path / "out.mcap", "--json", tmp_path / "s.json")
    summary = json.loads((tmp_path / "s.json").read_text())
    assert status == 0 and "32FC1" in printed and "truncated" in printed and "left out: 1 masks" in printed
    answers = [m for topic, _, m in contents(tmp_path / "out.mcap") if topic == "/pose_tracker/tracked_object"]
    assert len(answers) == summary["frames"] and sum(summary["unusable_masks"].values()) >= 2
    assert summary["tracked"] == FRAMES + 1 and summary["late_masks"] == 1
    assert sum(count for reason, count in summary["skipped"].items() if reason.startswith(INFO)) == 1
    assert 3 <= sum(count for reason, count in summary["skipped"].items() if "cannot be decoded" in reason) <= 4
    by_stamp = {stamp(m): m for m in answers}
    for k in (0, 1, 2):
        assert by_stamp[end + k * PERIOD].reason and by_stamp[end + k * PERIOD].pose.covariance[0] == -1.0


def test_a_calibration_file_stands_for_missing_camera_info(write_bag, replay, matrix, tmp_path):
    import yaml

    source = write_bag(infos=False, colour=False)
    status, _, complaint = replay(source, tmp_path / "out.mcap")
    assert status == 2 and "CameraInfo" in complaint and MASK in complaint and "--camera FILE" in complaint
    (tmp_path / "camera.yaml").write_text(
        yaml.safe_dump({"image_width": SIZE[1], "image_height": SIZE[0], "camera_matrix": matrix.ravel().tolist()})
    )
    status, printed, _ = replay(source, tmp_path / "out.mcap", "--camera", tmp_path / "camera.yaml", "--no-overlay")
    assert status == 0 and f"tracked: {FRAMES} (100.0%)" in printed
    assert {topic for topic, *_ in contents(tmp_path / "out.mcap")} == {
        "/pose_tracker/pose", "/pose_tracker/tracked_object", "/tf",
    }  # fmt: skip


def test_camera_infos_of_which_none_is_usable_are_refused_with_the_reason(write_bag, replay, matrix, tmp_path):
    def more(writer):
        writer.write(INFO, camera_info(0 * matrix, START), START)

    status, _, complaint = replay(write_bag(infos=False, more=more), tmp_path / "out.mcap")
    assert status == 2 and "no usable calibration" in complaint and "focal" in complaint
    assert not (tmp_path / "out.mcap").exists()


def test_topics_that_are_not_clear_are_asked_for(write_bag, replay, scene, tmp_path):
    def more(writer):
        writer.write("/other/mask", image(scene[1][0], START), START)

    source = write_bag(more=more)
    for words, expected in (
        ((), ("/other/mask", MASK, "--mask-topic")),
        (("--mask-topic", "/nothing"), ("/nothing", "not in the bag", MASK)),
        (("--mask-topic", INFO), (INFO, "CameraInfo")),
        (("--mask-topic", MASK, "--camera-info-topic", MASK), (MASK, "expected sensor_msgs/msg/CameraInfo")),
        (("--mask-topic", MASK, "--image-topic", "/nowhere"), ("/nowhere",)),
    ):
        status, _, complaint = replay(source, tmp_path / "out.mcap", *words)
        assert status == 2 and all(word in complaint for word in expected), complaint
        assert len(complaint.strip().splitlines()) == 1


def test_what_exists_is_replaced_only_when_told(write_bag, replay, tmp_path):
    source = write_bag()
    for name in ("out.mcap", "folder"):
        out = tmp_path / name
        if name == "folder":
            out.mkdir()
            (out / "thesis.txt").write_text("precious")
        else:
            out.write_text("precious")
        status, _, complaint = replay(source, out)
        assert status == 2 and "--force" in complaint
    assert (tmp_path / "out.mcap").read_text() == "precious"
    assert replay(source, tmp_path / "folder", "--force")[0] == 2
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "precious"
    assert replay(source, tmp_path / "out.mcap", "--force", "--no-overlay")[0] == 0
    assert len(contents(tmp_path / "out.mcap")) == 3 * FRAMES
    for out in (source, source.parent):
        before = source.read_bytes()
        assert replay(source, out, "--force")[0] == 2
        assert source.read_bytes() == before


@pytest.mark.parametrize("suffix", [".mcap", ".db3"])
def test_a_bag_that_was_cut_off_is_refused_or_read_as_far_as_it_goes(suffix, write_bag, replay, tmp_path):
    source = write_bag("in" + suffix)
    data = source.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for share in (0.0, 0.001, 0.3, 0.7, 0.999):
        cut.write_bytes(data[: int(share * len(data))])
        status, _, complaint = replay(cut, tmp_path / "out.mcap", "--force", "--no-overlay")
        assert status in (1, 2) and "dfips replay: " in complaint
        assert (tmp_path / "out.mcap").exists() == (status == 1)
        if status == 1:
            contents(tmp_path / "out.mcap")
            (tmp_path / "out.mcap").unlink()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "something half-written was left"


def test_what_is_no_bag_is_refused_in_one_line(replay, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no bag")
    (tmp_path / "old.bag").write_text("#ROSBAG V2.0\n")
    (tmp_path / "text.mcap").write_text("no bag")
    (tmp_path / "text.db3").write_text("no bag")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "metadata.yaml").write_text("rosbag2_bagfile_information: [1, 2")
    for name in ("missing.mcap", "empty", "notes.txt", "old.bag", "text.mcap", "text.db3", "odd"):
        status, _, complaint = replay(tmp_path / name, tmp_path / "out.mcap")
        assert status == 2 and name in complaint and len(complaint.strip().splitlines()) == 1, complaint
    assert "rosbags-convert" in replay(tmp_path / "old.bag", tmp_path / "out.mcap")[2]


@pytest.mark.parametrize("name", [
    "evo/nav2_turtlebot.mcap", "evo/tf_example", "plotjuggler/rosbag2_test", "plotjuggler/fake_joint_state.bag",
    "rosbag2/py/test/resources/mcap/talker", "rosbag2/tests/resources/mcap/cdr_test",
    "rosbag2/tests/resources/sqlite3/cdr_test",
])  # fmt: skip
def test_bags_of_others_are_refused_with_what_they_hold(name, shared_data, replay, tmp_path):
    source = shared_data / "bags" / name
    if not source.exists():
        pytest.skip(f"no {name} in shared/data/bags")
    status, _, complaint = replay(source, tmp_path / "out.mcap")
    assert status == 2 and ("ROS 1" in complaint or "The bag holds /" in complaint), complaint


class Page(HTMLParser):
    """Tags, and every address that the page refers to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "poster", "data")]
        if tag not in ("meta", "img", "line", "circle", "rect", "polyline", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag


def test_the_report_is_one_page_that_needs_no_network(write_bag, replay, tmp_path):
    import cv2

    assert replay(write_bag(), tmp_path / "out.mcap", "--view", tmp_path / "view")[0] == 0
    text = (tmp_path / "view" / "report.html").read_text()
    page = Page(text)
    assert not page.open and page.tags.count("svg") == 6 and {"table", "video", "figure", "main"} <= set(page.tags)
    assert page.addresses and all(address.startswith("data:") for address in page.addresses)
    assert "http" not in text.replace("http-equiv", "") and "prefers-color-scheme: dark" in text
    movie = cv2.VideoCapture(str(tmp_path / "view" / "overlay.webm"))
    frames = 0
    while movie.read()[0]:
        frames += 1
    assert frames == FRAMES
    assert json.loads((tmp_path / "view" / "summary.json").read_text())["frames"] == FRAMES


def test_a_bag_without_one_usable_mask_has_a_report_too(replay, matrix, tmp_path):
    with BagWriter(tmp_path / "in.mcap") as writer:
        writer.write(INFO, camera_info(matrix, START), START)
        writer.write(MASK, image(np.zeros(SIZE, bool), START), START)
        writer._writer.write(writer._connections[MASK, "sensor_msgs/msg/Image"], START + 1, b"\x00\x01")
    words = ("--view", tmp_path / "view", "--mask-topic", MASK)
    status, printed, _ = replay(tmp_path / "in.mcap", tmp_path / "out.mcap", *words)
    assert status == 0 and "tracked: 0 (0.0%)" in printed and "1 skipped" in printed
    page = Page((tmp_path / "view" / "report.html").read_text())
    assert not page.open and page.tags.count("svg") == 6
    answers = [m for topic, _, m in contents(tmp_path / "out.mcap") if topic == "/pose_tracker/tracked_object"]
    assert [m.reason for m in answers] == ["the mask is empty, at least 64 pixels are needed"]


@pytest.mark.parametrize("words", [
    ("--namespace", "tracker"), ("--namespace", "/a b"), ("--threads", "0"), ("--name", "/part"), ("--name", ""),
    ("--view", "v", "--no-overlay"), ("--models-info-key", "3"), ("--camera", "nowhere.yaml"), ("--scale", "-1"),
])  # fmt: skip
def test_wrong_options_are_refused_before_the_work_begins(words, write_bag, replay, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, complaint = replay(write_bag(), tmp_path / "out.mcap", *words)
    assert status == 2 and not (tmp_path / "out.mcap").exists()
    assert words[0].lstrip("-") in complaint or words[1] in complaint, complaint


def test_without_rosbags_it_says_what_to_install(write_bag, replay, tmp_path, monkeypatch):
    import importlib.util

    source, find = write_bag(), importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "rosbags" else find(name, *a))
    status, _, complaint = replay(source, tmp_path / "out.mcap")
    assert status == 2 and "pip install rosbags" in complaint


def test_a_file_stands_for_the_default_task(tmp_path, mesh_file, capsys):
    assert main(["replay", str(tmp_path / "no.mcap"), str(tmp_path / "o.mcap"), "--mesh", str(mesh_file)]) == 2
    assert "no such file or folder" in capsys.readouterr().err
