# SPDX-License-Identifier: Apache-2.0
"""``dfips replay inverse_kinematics`` and ``deblocking`` on small bags, and ``dfips demo bag``."""

import io
import json

import numpy as np
import pytest

from dfips_ros.bags.reader import Bag
from dfips_ros.bags.types import make, make_header, pose_message
from dfips_ros.bags.writer import BagWriter
from dfips_ros.cli.main import main
from dfips_ros.processes.kinematics import SerialChain

START, PERIOD, COUNT = 1_700_000_000_000_000_123, 10_000_000, 12
BEGIN = np.array([0.4, -0.7, 1.0, 0.3, -0.8, 0.6])


def contents(path):
    with Bag(path) as bag:
        return [(raw.topic.name, raw.time, bag.decode(raw)) for raw in bag.messages()]


def stamp(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def target(matrix, time, frame="base_link", **changes):
    pose = pose_message(matrix)
    for name, value in changes.items():
        setattr(pose.orientation, name, value)
    return make("geometry_msgs/msg/PoseStamped", header=make_header(time, frame), pose=pose)


@pytest.fixture
def arm_bag(arm_file, tmp_path):
    """Targets along a joint path; then one out of reach, one that is no pose, one in an unknown frame."""
    chain = SerialChain.from_urdf(arm_file, "tool0", "base_link")
    path = BEGIN + 0.02 * np.arange(COUNT)[:, None] * np.array([1, -1, 1, 1, 0, -1])
    with BagWriter(tmp_path / "in.mcap") as writer:
        state = make("sensor_msgs/msg/JointState", header=make_header(START - 1, ""), name=list(chain.names),
                     position=BEGIN + 0.05, velocity=np.zeros(0), effort=np.zeros(0))  # fmt: skip
        writer.write("/joint_states", state, START - 1)
        for k, q in enumerate(path):
            time = START + k * PERIOD
            writer.write("/target", target(chain.reference(q), time), time)
        far, end = np.eye(4), START + COUNT * PERIOD
        far[0, 3] = 9.0
        writer.write("/target", target(far, end), end)
        writer.write("/target", target(far, end + PERIOD, w=0.3), end + PERIOD)
        writer.write("/target", target(far, end + 2 * PERIOD, frame="moon"), end + 2 * PERIOD)
    return tmp_path / "in.mcap", chain, path


def test_targets_are_solved_from_the_solution_before(arm_bag, arm_file, tmp_path, capsys):
    source, chain, path = arm_bag
    words = ["--urdf", arm_file, "--tip", "tool0", "--base", "base_link", "--quiet"]
    files = []
    for run in ("a", "b"):
        view = ["--view", str(tmp_path / "view"), "--json", str(tmp_path / "s.json")] if run == "a" else []
        out = tmp_path / run / "out.mcap"
        assert main(["replay", "inverse_kinematics", str(source), str(out), *words, *view]) == 0
        files.append(out.read_bytes())
    assert files[0] == files[1], "two runs differ"
    assert f"{COUNT} solved" in capsys.readouterr().out
    found = contents(tmp_path / "a" / "out.mcap")
    answers = [m for topic, _, m in found if topic == "/ik_solver/solution"]
    states = [m for topic, _, m in found if topic == "/ik_solver/joint_command"]
    kind = type(answers[0])
    assert [a.status for a in answers] == [kind.SOLVED] * COUNT + [kind.FAILED] + 2 * [kind.REFUSED]
    assert "reach" in answers[-3].reason and "unit quaternion" in answers[-2].reason and "moon" in answers[-1].reason
    assert [stamp(s) for s in states] == [START + k * PERIOD for k in range(COUNT)]
    before = BEGIN + 0.05
    for answer, state, q in zip(answers, states, path, strict=False):
        assert answer.solve_time == 0.0 and answer.names == list(chain.names) == state.name
        assert np.array_equal(answer.positions, state.position)
        assert np.abs(chain.reference(state.position) - chain.reference(q)).max() < 2e-3
        assert answer.jump == pytest.approx(np.abs(state.position - before).max())
        before = state.position
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["solved"], summary["failed"], summary["refused"]) == (COUNT, 1, 2)
    assert (tmp_path / "view" / "report.html").read_text().count("<svg") == 6


def test_a_seed_of_another_size_is_refused(arm_bag, arm_file, tmp_path, capsys):
    words = ["--urdf", arm_file, "--tip", "tool0", "--base", "base_link", "--seed", "1", "2"]
    assert main(["replay", "inverse_kinematics", str(arm_bag[0]), str(tmp_path / "o.mcap"), *words]) == 2
    assert "--seed: expected 6 positions" in capsys.readouterr().err


def jpeg(seed, quality=20):
    from PIL import Image

    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 215, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save(out, "JPEG", quality=quality)
    return out.getvalue()


def test_images_are_restored_and_what_is_no_jpeg_is_counted(tmp_path, capsys):
    from dfips_ros.tasks.deblocking import JpegRestorer

    def message(data, time, kind="rgb8; jpeg compressed bgr8"):
        return make("sensor_msgs/msg/CompressedImage", header=make_header(time, "eye"), format=kind,
                    data=np.frombuffer(data, np.uint8))  # fmt: skip

    with BagWriter(tmp_path / "in.db3") as writer:
        for k in range(3):
            writer.write("/image/compressed", message(jpeg(k), START + k * PERIOD), START + k * PERIOD)
        end = START + 3 * PERIOD
        writer.write("/image/compressed", message(b"\xff\xd8 no jpeg", end), end)
        writer.write("/image/compressed", message(jpeg(3), end + PERIOD, "rgb8; png compressed"), end + PERIOD)
        writer.write("/image/compressed", message(jpeg(3), end), end + PERIOD + 1)  # late
    words = ["--device", "cpu", "--quiet", "--view", str(tmp_path / "view"), "--json", str(tmp_path / "s.json")]
    assert main(["replay", "deblocking", str(tmp_path / "in.db3"), str(tmp_path / "out.mcap"), *words]) == 0
    assert "restored: 3" in capsys.readouterr().out
    restorer = JpegRestorer(device="cpu")
    found = contents(tmp_path / "out.mcap")
    assert [(topic, stamp(m), m.encoding) for topic, _, m in found] == [
        ("/image_restorer/restored", START + k * PERIOD, "rgb8") for k in range(3)
    ]
    for k, (_, _, m) in enumerate(found):
        assert np.array_equal(m.data.reshape(48, 64, 3), restorer.restore(jpeg(k)))
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["images"], summary["restored"], summary["late_images"]) == (5, 3, 1)
    assert sum(summary["skipped"].values()) == 2 and any("png" in reason for reason in summary["skipped"])
    text = (tmp_path / "view" / "report.html").read_text()
    assert text.count("<figure>") >= 1 and "REFUSED: 2" in text


def test_the_demo_is_written_as_a_bag_that_can_be_replayed(tmp_path, capsys):
    words = ["demo", "bag", str(tmp_path / "box.mcap"), "--part", "gelatin_box", "--seconds", "0.5", "--quiet"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert main(words) == 2 and "--force" in capsys.readouterr().err
    mesh = printed.split("--mesh ")[1].split()[0]
    out = tmp_path / "out.mcap"
    assert main(["replay", str(tmp_path / "box.mcap"), str(out), "--mesh", mesh, "--device", "cpu", "--quiet"]) == 0
    truth = {stamp(m): m.pose for topic, _, m in contents(tmp_path / "box.mcap") if topic == "/camera/ground_truth"}
    poses = [m for topic, _, m in contents(out) if topic == "/pose_tracker/pose"]
    assert len(truth) == 15 and len(poses) == 15
    for message in poses:
        found, true = message.pose.pose.position, truth[stamp(message)].position
        assert np.linalg.norm([found.x - true.x, found.y - true.y, found.z - true.z]) < 0.03


@pytest.mark.parametrize("words", [
    ["--part", "teapot"], ["--part", "foam_brick", "--mesh", "a.stl"], ["--seconds", "0"],
])  # fmt: skip
def test_wrong_words_for_a_bag_of_the_demo_are_refused(words, tmp_path, capsys):
    assert main(["demo", "bag", str(tmp_path / "o.mcap"), *words]) == 2
    assert words[0] in capsys.readouterr().err
