# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics: Pinocchio, torch and compiled code agree; odd URDFs are read or refused as documented."""

import numpy as np
import pytest
import torch

from dfips_ros.errors import ConfigError
from dfips_ros.processes.example_robots import EXAMPLE_ROBOTS, example_robot
from dfips_ros.processes.kinematics import ChainForward, SerialChain
from dfips_ros.processes.kinematics_jit import pose_residual

pytest.importorskip("pinocchio")


def link(name):
    return f'<link name="{name}"/>'


def joint(name, kind, parent, child, body=""):
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        f'<origin xyz="0.1 0.2 0.3" rpy="0.3 -0.2 0.5"/>{body}</joint>'
    )


def robot(*parts):
    return '<?xml version="1.0"?><robot name="r">' + "".join(parts) + "</robot>"


LIMIT = '<limit lower="-1" upper="2" effort="1" velocity="1"/>'
AXIS = '<axis xyz="0.6 0 -0.8"/>'
ODD = robot(
    *(link(name) for name in "abcdefgh"),
    joint("turn", "revolute", "a", "b", AXIS + LIMIT),
    joint("slide", "prismatic", "b", "c", '<axis xyz="0 2 0"/>' + LIMIT),
    joint("stiff", "fixed", "c", "d"),
    joint("endless", "continuous", "d", "e", '<axis xyz="0 0 -1"/>'),
    joint("follower", "revolute", "e", "f", AXIS + LIMIT + '<mimic joint="turn" multiplier="-0.5" offset="0.2"/>'),
    joint("last", "revolute", "f", "g", '<limit lower="-2" upper="1" effort="1" velocity="1"/>'),
    joint("aside", "revolute", "b", "h", LIMIT),
)


def chains():
    yield "odd", lambda: SerialChain.from_urdf(ODD, "g")
    yield "odd, part", lambda: SerialChain.from_urdf(ODD, "g", "b")
    for name, r in EXAMPLE_ROBOTS.items():
        yield name, lambda r=r: SerialChain.from_urdf(r.urdf, r.tip, r.base)


@pytest.fixture(params=[c[1] for c in chains()], ids=[c[0] for c in chains()])
def chain(request):
    return request.param()


def samples(chain, count, seed=0):
    return np.random.default_rng(seed).uniform(chain.lower, chain.upper, (count, len(chain)))


def test_all_three_forward_kinematics_agree(chain):
    q = samples(chain, 50)
    reference = np.stack([chain.reference(x) for x in q])
    assert np.ptp(reference[:, :3, 3], axis=0).max() > 0.05  # the tip moves
    assert np.abs(chain.forward(q) - reference).max() < 1e-6
    assert np.abs(ChainForward(chain, torch.float64)(torch.from_numpy(q)).numpy() - reference).max() < 1e-6
    single = ChainForward(chain)(torch.from_numpy(q).float())
    assert single.dtype == torch.float32
    assert np.abs(single.numpy() - reference).max() < 1e-5


def test_batches_do_not_mix_and_inputs_stay(chain):
    q = torch.from_numpy(samples(chain, 8))
    kept = q.clone()
    process = ChainForward(chain, torch.float64)
    assert torch.allclose(process(q)[3:5], process(q[3:5]), atol=1e-12)
    assert torch.equal(q, kept)


def test_jacobian_is_the_derivative(chain):
    q = torch.from_numpy(samples(chain, 5, seed=1))
    process = ChainForward(chain, torch.float64)
    rotation, position, jacobian = process.with_jacobian(q)
    h = 1e-6
    for j in range(len(chain)):
        step = torch.zeros(len(chain), dtype=torch.float64)
        step[j] = h
        moved = process(q + step)
        linear = (moved[:, :3, 3] - position) / h
        turn = (moved[:, :3, :3] @ rotation.transpose(1, 2) - torch.eye(3)) / h
        angular = torch.stack([turn[:, 2, 1], turn[:, 0, 2], turn[:, 1, 0]], dim=1)
        assert torch.allclose(torch.cat([linear, angular], 1), jacobian[:, :, j], atol=1e-4)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-3, 1.0, 3.0, np.pi - 1e-7, np.pi])
def test_residual_is_the_rotation_vector(angle):
    from scipy.spatial.transform import Rotation

    axis = np.array([0.36, -0.48, 0.8])
    target = Rotation.from_rotvec([0.3, 0.4, -0.2]).as_matrix()
    simulated = Rotation.from_rotvec(angle * axis).as_matrix() @ target
    residual = np.empty(6)
    pose_residual(np.append(simulated, [1.0, 2.0, 3.0]), np.append(target, [0.5, 0.5, 0.5]), residual)
    assert np.allclose(residual[:3], [0.5, 1.5, 2.5])
    assert min(np.abs(residual[3:] - s * angle * axis).max() for s in (1, -1)) < 1e-5


def test_odd_urdf_is_read_as_documented():
    chain = SerialChain.from_urdf(ODD, "g")
    assert chain.names == ("turn", "slide", "endless", "last")
    assert chain.base == "a"
    assert chain.wraps.tolist() == [False, False, True, False]
    # The follower moves by 0.2 - 0.5 x within [-1, 2], so x is within [-3.6, 2.4]: the limits of x itself are narrower.
    assert chain.lower.tolist() == [-1.0, -1.0, -np.pi, -2.0]
    assert chain.upper.tolist() == [2.0, 2.0, np.pi, 1.0]


def test_limits_of_a_follower_bind_its_source():
    tight = ODD.replace('multiplier="-0.5" offset="0.2"', 'multiplier="2" offset="0"')
    chain = SerialChain.from_urdf(tight, "g")
    assert (chain.lower[0], chain.upper[0]) == (-0.5, 1.0)


@pytest.mark.parametrize(
    "limit", ["", '<limit effort="1" velocity="1"/>', '<limit lower="-inf" upper="inf" effort="1" velocity="1"/>']
)
def test_a_revolute_joint_without_limits_turns_without_end(limit):
    xml = robot(link("a"), link("b"), joint("turn", "revolute", "a", "b", AXIS + limit))
    chain = SerialChain.from_urdf(xml, "b")
    assert chain.wraps.all()
    assert "'turn'" in chain.notes[0]


def test_safety_controllers_have_no_say():
    safe = '<safety_controller soft_lower_limit="0" soft_upper_limit="0" k_position="1" k_velocity="1"/>'
    xml = robot(link("a"), link("b"), joint("turn", "revolute", "a", "b", AXIS + LIMIT + safe))
    chain = SerialChain.from_urdf(xml, "b")
    assert (chain.lower[0], chain.upper[0]) == (-1.0, 2.0)


TWO = (link("a"), link("b"))


@pytest.mark.parametrize(
    ("xml", "tip", "base", "message"),
    [
        (ODD, "nowhere", None, "no such link.*a, b, h"),
        (ODD, "g", "nowhere", "base='nowhere'"),
        (ODD, "g", "h", "not between the root"),
        (ODD, "d", "c", "no moving joint"),
        ("<robot", "b", None, "not well-formed"),
        ("<sdf/>", "b", None, "expected a <robot>"),
        ("missing.urdf", "b", None, "no file"),
        (robot(*TWO, joint("j", "revolute", "a", "b", AXIS + '<limit lower="nan"/>')), "b", None, "not numbers"),
        (robot(*TWO, joint("j", "prismatic", "a", "b", AXIS)), "b", None, "finite limits"),
        (robot(*TWO, joint("j", "floating", "a", "b")), "b", None, "floating joint"),
        (robot(*TWO, joint("j", "revolute", "a", "b", '<axis xyz="0 0 0"/>' + LIMIT)), "b", None, "zero length"),
        (robot(*TWO, joint("j", "revolute", "a", "b", '<axis xyz="x"/>' + LIMIT)), "b", None, "3 finite numbers"),
        (robot(*TWO, joint("j", "revolute", "a", "b", LIMIT.replace('"2"', '"-3"'))), "b", None, "lower <= upper"),
        (robot(*TWO, joint("j", "revolute", "a", "b", LIMIT + '<mimic joint="k"/>')), "b", None, "mimics 'k'"),
        (robot(*TWO, joint("j", "revolute", "a", "b", LIMIT + '<mimic joint="j"/>')), "b", None, "loop"),
    ],
)
def test_unusable_urdfs_are_refused(xml, tip, base, message):
    with pytest.raises(ConfigError, match=message):
        SerialChain.from_urdf(xml, tip, base)


def test_unknown_example_robot_lists_the_known():
    with pytest.raises(ConfigError, match="panda, ur5"):
        example_robot("r2d2")
