# SPDX-License-Identifier: Apache-2.0
"""The contract of GetPositionIK, on stand-ins with the fields of moveit_msgs, and with moveit_msgs where it is."""

from __future__ import annotations

import math
from types import SimpleNamespace as Fields

import numpy as np
import pytest

pytest.importorskip("rclpy")

from geometry_msgs.msg import PoseStamped  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402

from dfips_ros.nodes import ik_service  # noqa: E402
from dfips_ros.nodes.conversions import pose_from_matrix  # noqa: E402
from dfips_ros.nodes.ik_frames import FixedFrames  # noqa: E402
from dfips_ros.nodes.ik_service import PositionIkService, service_type  # noqa: E402


def stand_ins():
    """Request and response with the fields of moveit_msgs/srv/GetPositionIK that the contract names."""
    constraints = Fields(
        name="", joint_constraints=[], position_constraints=[], orientation_constraints=[], visibility_constraints=[]
    )
    ik_request = Fields(
        group_name="arm",
        robot_state=Fields(joint_state=JointState(), multi_dof_joint_state=None, attached_collision_objects=[],
                           is_diff=False),
        constraints=constraints,
        avoid_collisions=True,
        ik_link_name="tool0",
        pose_stamped=PoseStamped(),
        ik_link_names=[],
        pose_stamped_vector=[],
        timeout=Fields(sec=0, nanosec=0),
    )  # fmt: skip
    response = Fields(
        solution=Fields(joint_state=JointState(), is_diff=False), error_code=Fields(val=0, message="", source="")
    )
    return Fields(ik_request=ik_request), response


def real_ones():
    kind = service_type()
    if kind is None:
        pytest.skip("moveit_msgs is not installed")
    request = kind.Request()
    request.ik_request.group_name, request.ik_request.ik_link_name = "arm", "tool0"
    return request, kind.Response()


@pytest.fixture(params=[stand_ins, real_ones], ids=["stand-ins", "moveit_msgs"])
def messages(request):
    return request.param()


@pytest.fixture(scope="module")
def service(arm):
    model = arm.chain.model
    return PositionIkService(arm, FixedFrames(model, "base_link"), FixedFrames(model, "tool0"))


@pytest.fixture
def ask(service, arm, messages):
    """Ask for a pose that the arm reaches, after a change of the request; -> code, response."""
    request, response = messages
    truth = np.array([0.3, -0.4, 0.9, 0.2, -0.7, 1.0])
    request.ik_request.pose_stamped.header.frame_id = "base_link"
    request.ik_request.pose_stamped.pose = pose_from_matrix(arm.forward(truth))

    def call(change=lambda request: None, present=None, group="arm", timeout=0.5):
        change(request.ik_request)
        answer = service.answer(request, response, present or {}, group, timeout)
        return answer.error_code.val, answer

    call.truth, call.target = truth, arm.forward(truth)
    return call


def named(answer):
    state = answer.solution.joint_state
    assert len(state.name) == len(state.position)
    return dict(zip(state.name, state.position, strict=True))


def seed_of(positions, arm, extra=True):
    """All joints of the robot in another order, as the plugin sends them."""
    names = [*arm.joint_names[::-1], *(["finger_joint"] if extra else [])]
    values = [*(float(p) for p in positions[::-1]), *([0.02] if extra else [])]

    def change(request):
        request.robot_state.joint_state = JointState(name=names, position=values)

    return change


def test_solves_from_the_seed_that_names_every_joint_of_the_robot(ask, arm):
    code, answer = ask(seed_of(ask.truth + 0.05, arm))
    assert code == ik_service.SUCCESS
    found = named(answer)
    assert set(found) == set(arm.joint_names)
    positions = np.array([found[name] for name in arm.joint_names])
    assert np.abs(positions - ask.truth).max() < 0.1
    assert np.allclose(arm.forward(positions), ask.target, atol=1e-3)


def test_the_answer_depends_on_the_seed(ask, arm):
    near = named(ask(seed_of(ask.truth, arm))[1])
    far = named(ask(seed_of(np.array([-2.5, -2.0, -1.2, 2.0, 0.9, -2.0]), arm))[1])
    assert max(abs(near[name] - far[name]) for name in near) > 0.5


@pytest.mark.parametrize("present", [{}, {"elbow": 0.9}], ids=["nothing known", "joint_states"])
def test_a_seed_may_lack_joints(ask, arm, present):
    def change(request):
        request.robot_state.joint_state = JointState(name=["wrist_1"], position=[0.2])

    code, answer = ask(change, present)
    assert code == ik_service.SUCCESS and set(named(answer)) == set(arm.joint_names)


def test_a_request_without_any_seed(ask):
    assert ask()[0] == ik_service.SUCCESS


def test_the_target_may_be_in_a_link_that_does_not_move(ask, arm):
    camera = FixedFrames(arm.chain.model, "base_link").pose("camera")

    def change(request):
        request.pose_stamped.header.frame_id = "camera"
        request.pose_stamped.pose = pose_from_matrix(np.linalg.inv(camera) @ ask.target)

    code, answer = ask(change)
    assert code == ik_service.SUCCESS
    found = named(answer)
    assert np.allclose(arm.forward([found[name] for name in arm.joint_names]), ask.target, atol=1e-3)


def test_the_target_may_be_for_a_link_on_the_tip(ask, arm):
    flange = FixedFrames(arm.chain.model, "tool0").pose("flange")

    def change(request):
        request.ik_link_name = "flange"
        request.pose_stamped.pose = pose_from_matrix(ask.target @ flange)

    code, answer = ask(change)
    found = named(answer)
    assert code == ik_service.SUCCESS
    assert np.allclose(arm.forward([found[name] for name in arm.joint_names]), ask.target, atol=1e-3)


def test_one_pose_in_the_vector(ask):
    def change(request):
        request.pose_stamped_vector, request.ik_link_names = [request.pose_stamped], ["tool0"]
        request.ik_link_name, request.pose_stamped = "", PoseStamped()

    assert ask(change)[0] == ik_service.SUCCESS


def set_field(path, value):
    def change(request):
        *parents, last = path.split(".")
        for name in parents:
            request = getattr(request, name)
        setattr(request, last, value)

    return change


def both(*changes):
    def change(request):
        for each in changes:
            each(request)

    return change


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (set_field("group_name", "hand"), ik_service.INVALID_GROUP_NAME, "group_name='hand'"),
        (set_field("ik_link_name", "elbow_link"), ik_service.INVALID_LINK_NAME, "expected 'tool0'"),
        (set_field("ik_link_name", "nose"), ik_service.INVALID_LINK_NAME, "ik_link_name='nose'"),
        (set_field("pose_stamped_vector", [PoseStamped(), PoseStamped()]), ik_service.INVALID_LINK_NAME, "one tip"),
        (set_field("pose_stamped.header.frame_id", "map"), ik_service.FRAME_TRANSFORM_FAILURE, "no such link"),
        (
            set_field("pose_stamped.header.frame_id", "elbow_link"),
            ik_service.FRAME_TRANSFORM_FAILURE,
            "joint 'elbow' moves it",
        ),
        (set_field("pose_stamped.pose.orientation.w", 3.0), ik_service.FAILURE, "unit quaternion"),
        (set_field("pose_stamped.pose.position.x", math.nan), ik_service.FAILURE, "finite"),
        (
            set_field("robot_state.joint_state", JointState(name=["elbow"], position=[math.nan])),
            ik_service.INVALID_ROBOT_STATE,
            "'elbow' is not finite",
        ),
        (
            set_field("robot_state.joint_state", JointState(name=["elbow"])),
            ik_service.INVALID_ROBOT_STATE,
            "as many positions as names",
        ),
        (set_field("timeout.sec", -1), ik_service.FAILURE, "timeout=-1 s"),
    ],
)
def test_what_cannot_be_served_has_a_code_and_a_reason(ask, change, code, words):
    got, answer = ask(change)
    assert got == code and answer.solution.joint_state.name == []
    if hasattr(answer.error_code, "message"):
        assert words in answer.error_code.message


def test_constraints_are_refused_and_not_ignored(service, arm):
    request, response = stand_ins()
    request.ik_request.constraints.joint_constraints = [Fields()]
    assert service.answer(request, response, {}, "", 0.1).error_code.val == ik_service.INVALID_GOAL_CONSTRAINTS


def test_out_of_reach(ask):
    code, answer = ask(set_field("pose_stamped.pose.position.x", 50.0), timeout=0.02)
    assert code in (ik_service.NO_IK_SOLUTION, ik_service.TIMEOUT)
    assert answer.solution.joint_state.name == []


@pytest.mark.parametrize(
    ("sec", "nanosec", "expected"), [(0, 0, 0.05), (0, 20_000_000, 0.02), (1, 500_000_000, 1.5), (3600, 0, 10.0)]
)
def test_seconds_and_nanoseconds_of_the_timeout_count(arm, sec, nanosec, expected):
    given = []

    class Watched:
        def __getattr__(self, name):
            return getattr(arm, name)

        def solve(self, target, seed, timeout):
            given.append(timeout)
            return arm.solve(target, seed, 0.1)

    model = arm.chain.model
    service = PositionIkService(Watched(), FixedFrames(model, "base_link"), FixedFrames(model, "tool0"))
    request, response = stand_ins()
    request.ik_request.pose_stamped.pose = pose_from_matrix(arm.forward(np.full(6, 0.3)))
    request.ik_request.timeout = Fields(sec=sec, nanosec=nanosec)
    assert service.answer(request, response, {}, "", 0.05).error_code.val == ik_service.SUCCESS
    assert given == [pytest.approx(expected)]


def test_a_defect_becomes_an_error_code(service):
    request, response = stand_ins()
    request.ik_request.pose_stamped = None
    answer = service.answer(request, response, {}, "", 0.1)
    assert answer.error_code.val == ik_service.FAILURE and "AttributeError" in answer.error_code.message


def test_frames(arm):
    frames = FixedFrames(arm.chain.model, "base_link")
    assert np.array_equal(frames.pose(""), np.eye(4)) and np.allclose(frames.pose("base_link"), np.eye(4))
    assert np.allclose(frames.pose("table")[:3, 3], [0, 0, -0.7])
    assert np.allclose(frames.pose("camera"), [[-1, 0, 0, 1], [0, -1, 0, 0], [0, 0, 1, 0.5], [0, 0, 0, 1]])
