# SPDX-License-Identifier: Apache-2.0
"""Training examples, degradations, and a short training that must help."""

import numpy as np
import pytest
import torch

from dfips_ros.errors import CheckpointError, ConfigError, MeshError
from dfips_ros.geometry import rotation_angle_torch
from dfips_ros.solver import SolverConfig, TrainingConfig, load_checkpoint
from dfips_ros.tasks.object_pose import ObjectPoseConfig, ObjectPoseEstimator, PoseDataConfig
from dfips_ros.tasks.object_pose.data import pose_batches
from dfips_ros.tasks.object_pose.degradation import degrade, holes, occluder, ragged_edges
from dfips_ros.tasks.object_pose.problem import ContourFeedback, MeshSet, pose_loss
from dfips_ros.tasks.object_pose.shapes import random_shape
from dfips_ros.tasks.object_pose.training_recipe import PoseTrainingConfig, find_meshes, train


@pytest.fixture(scope="module")
def disc():
    v, u = np.mgrid[:128, :128]
    return (((u - 60) ** 2 + (v - 66) ** 2) < 40**2).astype(np.uint8)


def test_shapes_are_seeded_and_diverse():
    assert np.array_equal(random_shape(5).vertices, random_shape(5).vertices)
    shapes = [random_shape(i) for i in range(80)]
    assert len({s.name.rsplit("_", 1)[0] for s in shapes}) >= 8
    assert all(0.15 < s.diameter < 2.0 for s in shapes)


def test_batches_show_the_object_at_the_true_pose():
    meshes = MeshSet([random_shape(i) for i in range(6)], 2000)
    config = ObjectPoseConfig()
    data = PoseDataConfig(batch_size=40, degraded=0.0, angles=(30.0,), angle_weights=(1.0,))
    observation, initial, truth = next(pose_batches(meshes, config, data))
    at_truth = ContourFeedback(meshes)(observation, truth["pose"]).residual_norm
    at_start = ContourFeedback(meshes)(observation, initial).residual_norm
    assert at_truth.median() < 0.02 and at_truth.max() < 0.2
    assert (at_start > at_truth).float().mean() > 0.95
    angle = torch.rad2deg(rotation_angle_torch(initial[:, :3, :3], truth["pose"][:, :3, :3]))
    assert angle.max() <= 30.01 and angle.max() > 20
    assert torch.allclose(pose_loss(truth["pose"], truth), torch.zeros(40), atol=1e-5)
    assert (pose_loss(initial, truth) > 0.005).all()


def test_batches_are_seeded():
    meshes = MeshSet([random_shape(0)], 2000)
    batches = [next(pose_batches(meshes, ObjectPoseConfig(), PoseDataConfig(batch_size=6, seed=4))) for _ in range(2)]
    assert torch.equal(batches[0][1], batches[1][1]) and torch.equal(batches[0][0].mask, batches[1][0].mask)


def test_occluder_hides_the_asked_fraction(disc):
    for seed in range(10):
        hidden = occluder(disc, 0.25, np.random.default_rng(seed))
        assert (hidden & (disc > 0)).sum() / disc.sum() == pytest.approx(0.25, abs=0.03)


def test_degradations_change_the_mask_a_little(disc):
    rng = np.random.default_rng(0)
    for changed in (ragged_edges(disc, 2.0, rng), holes(disc, 3, rng)):
        difference = (changed != disc).sum() / disc.sum()
        assert 0.002 < difference < 0.25


def test_degrade_always_leaves_something(disc):
    rng = np.random.default_rng(0)
    unknown = 0
    for _ in range(60):
        mask, valid = degrade(disc, rng)
        assert mask.sum() >= 0.4 * disc.sum() and set(np.unique(mask)) <= {0, 1}
        assert not (mask & (1 - valid)).any()
        unknown += int((valid == 0).any())
    assert 2 < unknown < 30


@pytest.mark.slow
@pytest.mark.parametrize("feedback", ["contour", "image"])
def test_a_short_training_helps_and_ships_provenance(tmp_path, bracket_solid, feedback):
    bracket_solid.export(tmp_path / "part.stl")
    out = tmp_path / "w.safetensors"
    config = PoseTrainingConfig(
        meshes=(str(tmp_path / "part.stl"),), generated_shapes=0, out=str(out),
        model=ObjectPoseConfig(
            feedback=feedback, width=24 if feedback == "contour" else 8, simulation_faces=500,
            solver=SolverConfig(num_stages=2),
        ),
        data=PoseDataConfig(batch_size=24, degraded=0.0),
        training=TrainingConfig(minutes=None, max_batches=40, learning_rate=2e-3),
    )  # fmt: skip
    provenance = train(config, quiet=True)
    state = torch.load(out.with_suffix(".state"), weights_only=True)
    losses = state["losses"]
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    assert provenance["samples"] == 40 * 24 and 0 < provenance["validation"]["iou_mean"] <= 1
    checkpoint = load_checkpoint(out, "object_pose")
    assert checkpoint.provenance["recipe"]["data"]["batch_size"] == 24
    estimator = ObjectPoseEstimator.from_mesh(tmp_path / "part.stl", weights=out, device="cpu")
    assert estimator.num_stages == 2


def test_resume_needs_a_state(tmp_path):
    config = PoseTrainingConfig(generated_shapes=1, out=str(tmp_path / "w.safetensors"))
    with pytest.raises(CheckpointError, match="no file"):
        train(config, resume=True, quiet=True)


def test_nothing_to_train_on(tmp_path):
    with pytest.raises(ConfigError, match="nothing to train on"):
        PoseTrainingConfig(generated_shapes=0)
    with pytest.raises(MeshError, match="no mesh file below"):
        find_meshes([str(tmp_path)], None)


@pytest.mark.parametrize(
    "bad", [{"batch_size": 0}, {"depth_range": (5.0, 2.0)}, {"angle_weights": (1.0,)}, {"degraded": 2.0}]
)
def test_data_config_rejects(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        PoseDataConfig(**bad)


def test_model_config_round_trip_and_rejections():
    config = ObjectPoseConfig(width=32, solver=SolverConfig(num_stages=3, adaptive=False))
    assert ObjectPoseConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match=r"unknown depth; known are .*crop_size"):
        ObjectPoseConfig.from_dict({**config.to_dict(), "depth": 3})
    with pytest.raises(ConfigError, match="unknown stages"):
        ObjectPoseConfig.from_dict({"solver": {"stages": 3}})
    for bad in ({"feedback": "sound"}, {"crop_size": 3}, {"width": 0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            ObjectPoseConfig(**bad)
