# SPDX-License-Identifier: Apache-2.0
"""Joint states by name, and commands within speed limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfips_ros.nodes.ik_commander import JointCommander, JointMemory

JOINT = st.floats(-6.0, 6.0)
ARM = st.integers(1, 7).flatmap(lambda n: st.tuples(*[st.lists(JOINT, min_size=n, max_size=n)] * 2))


@given(ARM, st.floats(0.01, 3.0), st.floats(0.001, 0.1))
@settings(max_examples=100, deadline=None)
def test_no_joint_is_faster_than_its_limit_and_the_goal_is_reached(ends, speed, seconds):
    start, goal = map(np.array, ends)
    speeds = speed * np.linspace(1.0, 2.0, len(start))
    commander = JointCommander(speeds, np.zeros(len(start), bool))
    commander.start(start)
    commander.head_for(goal)
    before, periods = start, math.ceil(np.max(np.abs(goal - start) / speeds) / seconds) + 1
    for _ in range(min(periods, 200)):
        positions, velocities = commander.step(seconds)
        assert np.all(np.abs(positions - before) <= speeds * seconds * (1 + 1e-9))
        assert np.allclose(velocities * seconds, positions - before)
        before = positions
    if periods <= 200:
        assert not commander.moving and np.array_equal(before, goal)


def test_joints_arrive_together():
    commander = JointCommander(np.array([1.0, 1.0]), np.zeros(2, bool))
    commander.start(np.zeros(2))
    commander.head_for(np.array([1.0, 0.2]))
    positions, _ = commander.step(0.5)
    assert positions == pytest.approx([0.5, 0.1])


@given(JOINT, st.floats(-math.pi, math.pi))
@settings(max_examples=50, deadline=None)
def test_a_joint_that_turns_without_end_takes_the_short_way(start, goal):
    commander = JointCommander(np.array([100.0]), np.array([True]))
    commander.start(np.array([start]))
    commander.head_for(np.array([goal]))
    way = commander.goal[0] - start
    assert abs(way) <= math.pi + 1e-9
    assert math.cos(start + way - goal) == pytest.approx(1.0)


def test_a_new_goal_on_the_way_does_not_make_the_command_jump():
    commander = JointCommander(np.array([1.0]), np.array([False]))
    commander.start(np.array([0.0]))
    commander.head_for(np.array([1.0]))
    commander.step(0.1)
    commander.head_for(np.array([-1.0]))
    assert commander.step(0.1)[0] == pytest.approx([0.0])
    commander.stop()
    assert commander.command is None and not commander.moving


def test_joint_states_are_matched_by_name():
    memory = JointMemory(("a", "b"))
    memory.note(["finger", "b"], [9.0, 2.0], 10.0)
    assert memory.missing(10.0, 1.0) == ["a"] and memory.age(10.0) is None
    memory.note(["a", "b"], [1.0, math.nan], 10.5)
    assert memory.missing(10.5, 1.0) == [] and memory.known() == {"a": 1.0, "b": 2.0}
    assert memory.age(11.0) == pytest.approx(1.0)
    assert memory.missing(11.2, 1.0) == ["b"]
    memory.note(["a", "b"], [], 11.2)
    assert memory.missing(11.2, 1.0) == ["b"]
