# SPDX-License-Identifier: Apache-2.0
"""Generated sequences: repeatable, smooth, and with the events that they promise."""

import numpy as np
import pytest

from dfips_ros.errors import ConfigError, DfipsError, ShapeError
from dfips_ros.geometry import rotation_angle
from dfips_ros.tasks.object_pose.demo_data import demo_mesh
from dfips_ros.tasks.object_pose.recording import load_recording, make_recording
from dfips_ros.tasks.object_pose.sequences import SequenceConfig, SequenceGenerator, degrade_mask, trajectory

SMALL = {"height": 240, "width": 320, "focal_length": 350.0}


@pytest.fixture(scope="module")
def mesh():
    return demo_mesh("drill")


@pytest.fixture(scope="module")
def sequence(mesh):
    return SequenceGenerator(mesh, SequenceConfig(**SMALL))


def test_the_same_seed_gives_the_same_frames(mesh, sequence):
    again = SequenceGenerator(mesh, SequenceConfig(**SMALL))
    for index in (150, 3, 330):
        one, other = sequence.frame(index), again.frame(index)
        assert np.array_equal(one.mask, other.mask)
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.T_camera_object, other.T_camera_object)
        assert one.tag == other.tag


def test_another_seed_gives_other_frames(mesh, sequence):
    other = SequenceGenerator(mesh, SequenceConfig(seed=1, **SMALL))
    assert not np.array_equal(sequence.frame(3).mask, other.frame(3).mask)
    assert not np.allclose(sequence.poses, other.poses)


def test_events_are_there(sequence):
    frames = [sequence.frame(i) for i in range(0, len(sequence), 3)]
    tags = [f.tag for f in frames]
    occluded = [f for f in frames if f.tag == "occluded"]
    assert len(sequence) == 600
    assert tags.count("clean") > 100
    assert len(occluded) > 15
    assert 0.25 < 1 - np.percentile([f.visible_fraction for f in occluded], 10) < 0.4
    gone = [f.stamp for f in frames if not f.mask.any()]
    assert 0.4 <= gone[-1] - gone[0] <= 0.8
    assert all(f.tag == "hidden" for f in frames if not f.mask.any())


def test_masks_are_noisy_but_near_the_silhouette(sequence):
    for index in (20, 60, 100):
        frame = sequence.frame(index)
        assert frame.tag == "clean"
        silhouette = sequence._depth(frame.T_camera_object) > 0
        mask = frame.mask > 0
        iou = (mask & silhouette).sum() / (mask | silhouette).sum()
        assert 0.8 < iou < 0.999
        assert set(np.unique(frame.mask)) == {0, 255}


def test_motion_is_that_of_a_hand(mesh, sequence):
    config = sequence.config
    turns = np.degrees(rotation_angle(sequence.poses[1:, :3, :3], sequence.poses[:-1, :3, :3])) * config.rate
    assert 0.9 * config.max_turn_deg < turns.max() < 1.001 * config.max_turn_deg
    centers = sequence.poses[:, :3, :3] @ mesh.center + sequence.poses[:, :3, 3]
    speed = np.linalg.norm(np.diff(centers, axis=0), axis=1) * config.rate
    assert speed.max() < 5 * mesh.diameter
    depth = centers[:, 2] / mesh.diameter
    assert depth.min() >= config.nearest - 1e-6
    assert depth.max() <= config.farthest + 1e-6
    assert np.ptp(depth) > 0.3


@pytest.mark.parametrize("name", ["drill", "foam_brick", "gelatin_box"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_object_stays_in_the_image(name, seed):
    object_mesh = demo_mesh(name)
    config = SequenceConfig(seed=seed, **SMALL)
    matrix = np.array([[350.0, 0, 159.5], [0, 350.0, 119.5], [0, 0, 1]])
    for pose in trajectory(object_mesh, config, matrix)[::20]:
        points = (object_mesh.vertices @ pose[:3, :3].T + pose[:3, 3]) @ matrix.T
        pixels = points[:, :2] / points[:, 2:]
        assert (pixels >= 0).all()
        assert (pixels <= (319, 239)).all()


def test_short_and_plain_sequences(mesh):
    plain = SequenceGenerator(
        mesh, SequenceConfig(seconds=0.5, occlusion=0.0, hidden_seconds=0.0, edge_noise=0.0, holes=0.0, **SMALL)
    )
    frames = list(plain)
    assert len(frames) == 15
    assert {f.tag for f in frames} == {"clean"}
    assert np.array_equal(frames[4].mask > 0, plain._depth(frames[4].T_camera_object) > 0)
    with pytest.raises(IndexError, match="15"):
        plain.frame(15)


@pytest.mark.parametrize(
    "changes",
    [{"seconds": 0.0}, {"rate": float("nan")}, {"occlusion": 0.9}, {"nearest": 5.0, "farthest": 3.0},
     {"seconds": 1.0, "hidden_seconds": 0.5}, {"edge_noise": -1.0}],
)  # fmt: skip
def test_impossible_configurations_are_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        SequenceConfig(**changes)


def test_degrading_an_empty_mask_gives_an_empty_mask():
    rng = np.random.default_rng(0)
    assert not degrade_mask(np.zeros((40, 60), bool), 1.0, 3.0, rng).any()


def test_recording_round_trip(tmp_path, sequence):
    frames = [sequence.frame(i) for i in (10, 11)]
    pairs = [(f.mask, f.image) for f in frames]
    recording = make_recording(sequence.camera_matrix, 30.0, pairs, np.array([0, 1, 0]))
    recording.save(tmp_path / "r.npz")
    loaded = load_recording(tmp_path / "r.npz")
    assert len(loaded) == 3
    assert loaded.size == (240, 320)
    assert loaded.rate == 30.0
    assert np.array_equal(loaded.mask(2), frames[0].mask)
    assert np.abs(loaded.image(1).astype(int) - frames[1].image).mean() < 4.0
    assert np.allclose(loaded.camera_matrix, sequence.camera_matrix)


def test_bad_recordings_are_refused(tmp_path):
    with pytest.raises(DfipsError, match=r"missing\.npz"):
        load_recording(tmp_path / "missing.npz")
    (tmp_path / "bad.npz").write_bytes(b"nonsense")
    with pytest.raises(DfipsError, match=r"bad\.npz"):
        load_recording(tmp_path / "bad.npz")
    pairs = [(np.zeros((4, 4), np.uint8), np.zeros((s, 4, 3), np.uint8)) for s in (4, 5)]
    with pytest.raises(ShapeError, match="one size"):
        make_recording(np.eye(3), 30.0, pairs)
