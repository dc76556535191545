# SPDX-License-Identifier: Apache-2.0
"""The node ik_solver over the real middleware, in a process of its own, with the real solver and no weights."""

from __future__ import annotations

import math
import signal
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytestmark = pytest.mark.ros

from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from visualization_msgs.msg import InteractiveMarkerFeedback  # noqa: E402

from dfips_ros.geometry import make_pose  # noqa: E402
from dfips_ros.msg import JointSolution  # noqa: E402
from dfips_ros.nodes.conversions import pose_from_matrix  # noqa: E402
from dfips_ros.nodes.ik_frames import FixedFrames  # noqa: E402
from dfips_ros.nodes.ik_service import service_type  # noqa: E402

OK, WARN, ERROR = b"\x00", b"\x01", b"\x02"
FAR = make_pose(np.eye(3), np.array([50.0, 0.0, 0.0]))


def received(solver, name):
    return list(solver.client.received[name])


def values(status):
    return {pair.key: pair.value for pair in status.values}


def wait_for_goal(solver, positions):
    """The commands until the arm has been sent to these positions."""

    def there():
        commands = received(solver, "command")
        return commands if commands and np.allclose(commands[-1].position, positions, atol=1e-9) else None

    return solver.client.wait(there, "a command that reaches the solution")


def test_moves_to_a_target_within_the_speed_limit(solver, arm, rest):
    goal = rest + [0.2, -0.1, 0.15, 0.1, -0.2, 0.3]
    message = solver.target(arm.forward(goal))
    answer = solver.send(message)
    assert answer.status == JointSolution.SOLVED and answer.reason == ""
    assert answer.header.stamp == message.header.stamp and answer.header.frame_id == "base_link"
    assert (answer.tip, tuple(answer.names)) == ("tool0", arm.joint_names)
    assert answer.position_error < 1e-4 and answer.orientation_error < 1e-3
    assert answer.jump == pytest.approx(np.abs(np.array(answer.positions) - rest).max(), abs=1e-6)
    assert 0.0 < answer.solve_time < 0.2 and 0.0 <= answer.target_age < 5.0
    commands = wait_for_goal(solver, answer.positions)
    assert all(tuple(c.name) == arm.joint_names for c in commands)
    path = np.array([rest, *(c.position for c in commands)])
    steps = np.abs(np.diff(path, axis=0))
    assert steps.max() <= 2.0 / 100 + 1e-9  # max_joint_speed, rate
    assert steps.max() == pytest.approx(0.02, abs=1e-3)
    assert np.allclose(arm.forward(path[-1]), arm.forward(goal), atol=1e-3)
    status = solver.status(lambda s: s.level == OK and s.message == "SOLVED", "SOLVED")
    assert values(status)["weights"].startswith("none for this arm")
    assert values(status)["targets solved"] == "1" and status.hardware_id == "tool0"


def test_commands_end_after_the_hold_time_and_begin_at_the_joints_again(solver, arm, rest):
    assert received(solver, "command") == []
    answer = solver.send(solver.target(arm.forward(rest + 0.02)))
    wait_for_goal(solver, answer.positions)
    counts = [-1]

    def ended():  # hold_time is 0.3 s
        time.sleep(0.5)
        counts.append(len(received(solver, "command")))
        return counts[-1] == counts[-2]

    solver.client.wait(ended, "the end of the commands")
    solver.client.forget()
    solver.be_at(arm.joint_names, rest - 0.1)
    answer = solver.send(solver.target(arm.forward(rest - 0.05)))
    first = solver.client.wait(lambda: received(solver, "command"), "a command")[0]
    assert np.abs(np.array(first.position) - (rest - 0.1)).max() <= 0.02 + 1e-9
    assert answer.jump < 0.2


def test_follows_a_stream_of_targets(solver, arm, rest):
    goals = rest + np.linspace(0.0, 0.3, 40)[:, None]
    for goal in goals:
        solver.targets.publish(solver.target(arm.forward(goal)))
        time.sleep(0.01)
    solutions = solver.client.wait(lambda: s if len(s := received(solver, "solution")) >= 20 else None, "20 answers")
    assert {each.status for each in solutions} == {JointSolution.SOLVED}
    assert max(each.jump for each in solutions) < 0.3
    commands = wait_for_goal(solver, solutions[-1].positions)
    assert np.abs(np.diff([c.position for c in commands], axis=0)).max() <= 0.02 + 1e-9


def test_other_frames_that_do_not_move(solver, arm, rest):
    target = arm.forward(rest + 0.05)
    for frame in ("", "table", "camera"):
        pose = np.linalg.inv(FixedFrames(arm.chain.model, "base_link").pose(frame)) @ target
        answer = solver.send(solver.target(pose, frame))
        assert answer.status == JointSolution.SOLVED, answer.reason
        assert answer.header.frame_id == "base_link"
        assert answer.target.position.z == pytest.approx(target[2, 3])


def bad(**fields):
    return Pose(position=Point(x=0.4), orientation=Quaternion(**{"w": 1.0, **fields}))


@pytest.mark.parametrize(
    ("pose", "frame", "age", "words"),
    [
        (bad(), "map", 0.0, "frame_id='map': the robot has no such link"),
        (bad(), "/base_link", 0.0, "does not begin with '/'"),
        (bad(), "elbow_link", 0.0, "joint 'elbow' moves it with respect to 'base_link'"),
        (bad(w=0.5), "base_link", 0.0, "unit quaternion"),
        (bad(x=math.nan), "base_link", 0.0, "finite numbers"),
        (bad(), "base_link", 60.0, "the target is 6"),
        (bad(), "base_link", -60.0, "in the future"),
    ],
)
def test_targets_that_are_refused(solver, pose, frame, age, words):
    answer = solver.send(solver.target(pose, frame, age))
    assert answer.status == JointSolution.REFUSED and words in answer.reason
    assert list(answer.positions) == [] and answer.target.orientation.w == 0.0
    assert received(solver, "command") == []
    solver.status(lambda s: s.level == ERROR and words in s.message, words)


def test_a_target_without_a_stamp_is_taken(solver, arm, rest):
    message = solver.target(arm.forward(rest + 0.01))
    message.header.stamp = PoseStamped().header.stamp
    answer = solver.send(message)
    assert answer.status == JointSolution.SOLVED and answer.target_age == 0.0
    assert answer.header.stamp.sec > 0


def test_targets_without_a_stamp_are_never_late(solver, arm, rest):
    """Simulated time stands still, so that all of them are of the same moment."""
    assert solver.set_parameters(use_sim_time=True) == []
    try:
        for step in (0.01, 0.02, 0.03):
            message = solver.target(arm.forward(rest + step))
            message.header.stamp = PoseStamped().header.stamp
            answer = solver.send(message)
            assert answer.status == JointSolution.SOLVED and answer.jump == pytest.approx(0.01, abs=2e-3)
    finally:
        assert solver.set_parameters(use_sim_time=False) == []


def test_the_same_stamp_twice_is_answered_once(solver, arm, rest):
    message = solver.target(arm.forward(rest + 0.01))
    solver.send(message)
    solver.targets.publish(message)
    solver.status(lambda s: values(s)["targets late"] == "1", "a late target")
    assert len(received(solver, "solution")) == 1


def test_of_two_targets_in_one_period_the_newer_one_wins(solver, arm, rest):
    goals = [solver.target(arm.forward(rest + 0.2)), solver.target(arm.forward(rest - 0.1))]
    for message in goals:
        solver.targets.publish(message)
    newest = goals[1].header.stamp

    def answered():
        return [s for s in received(solver, "solution") if s.header.stamp == newest]

    (answer,) = solver.client.wait(answered, "an answer to the newer target")
    assert answer.status == JointSolution.SOLVED
    commands = wait_for_goal(solver, answer.positions)
    assert np.abs(np.diff([c.position for c in commands], axis=0)).max() <= 0.02 + 1e-9


def test_joints_a_hair_beyond_their_limits_are_a_seed(solver, arm, rest):
    beyond = rest.copy()
    beyond[5] = 3.1004
    solver.be_at(arm.joint_names, beyond)
    answer = solver.send(solver.target(arm.forward(np.clip(beyond, -3.1, 3.1) - 0.01)))
    assert answer.status == JointSolution.SOLVED and answer.positions[5] <= 3.1
    wait_for_goal(solver, answer.positions)


def test_out_of_reach_and_too_far_leave_the_arm_where_it_is(solver, arm, rest):
    answer = solver.send(solver.target(FAR))
    assert answer.status == JointSolution.FAILED and answer.reason
    far = solver.send(solver.target(arm.forward(rest + [2.0, 0.0, 0.0, 0.0, 0.0, 0.0])))
    assert far.status == JointSolution.FAILED and far.reason
    assert np.allclose(answer.positions, rest) and received(solver, "command") == []
    solver.status(lambda s: s.level == WARN and s.message.startswith("FAILED"), "FAILED")


def test_without_joint_states_a_motion_cannot_begin(solver, arm, rest):
    assert solver.change("deactivate") and solver.change("cleanup")
    assert solver.change("configure") and solver.change("activate")
    solver.handshake()
    answer = solver.send(solver.target(arm.forward(rest)))
    assert answer.status == JointSolution.REFUSED and "no position of shoulder_pan, shoulder_lift" in answer.reason
    solver.status(lambda s: s.level >= WARN and "the arm is not moved" in s.message, "no joint states")


def test_an_arm_that_does_not_tell_where_it_is_is_not_moved_on(solver, arm, rest):
    assert solver.set_parameters(joint_states_timeout=0.4, max_joint_speed=0.1) == []
    solver.be_at(arm.joint_names, rest)
    answer = solver.send(solver.target(arm.forward(rest + 0.3)))
    assert answer.status == JointSolution.SOLVED
    solver.status(lambda s: s.level >= WARN and "the arm is not moved" in s.message, "no joint states")
    solver.client.forget()
    time.sleep(0.2)
    assert received(solver, "command") == []


def test_after_a_refused_target_a_motion_begins_at_the_joints(solver, arm, rest):
    """The solution is near its seed, which was clipped to the limits, but farther from where the joint is."""
    start = rest.copy()
    start[5] = 3.12
    solver.be_at(arm.joint_names, start)
    goal = start - [0, 0, 0, 0, 0, 0.51]
    assert solver.send(solver.target(arm.forward(goal))).status == JointSolution.FAILED
    solver.be_at(arm.joint_names, rest)
    answer = solver.send(solver.target(arm.forward(rest + 0.1)))
    assert answer.status == JointSolution.SOLVED
    first = solver.client.wait(lambda: received(solver, "command"), "a command")[0]
    assert np.abs(np.array(first.position) - rest).max() <= 0.02 + 1e-9


def test_targets_that_run_away_from_the_arm(solver, arm, rest):
    """Each is near the one before, which the arm has not reached."""
    assert solver.set_parameters(max_joint_speed=0.01) == []
    answers = [solver.send(solver.target(arm.forward(rest + 0.2 * i))) for i in (1, 2, 3, 4)]
    assert [answer.status for answer in answers] == [JointSolution.SOLVED] * 2 + [JointSolution.FAILED] * 2
    assert "behind, max_joint_step is 0.5: the targets move faster" in answers[2].reason
    assert np.allclose(answers[2].positions, answers[1].positions)  # the seed, as the message promises
    commands = solver.client.wait(lambda: received(solver, "command"), "a command")
    assert np.abs(np.array(commands[-1].position) - rest).max() < 0.4


def test_an_arm_that_does_not_follow_is_not_led_away(solver, arm, rest):
    """Its joint states stay where they were, as after an emergency stop."""
    for step in (0.2, 0.4):
        answer = solver.send(solver.target(arm.forward(rest + step)))
        assert answer.status == JointSolution.SOLVED
        wait_for_goal(solver, answer.positions)
    refused = solver.send(solver.target(arm.forward(rest + 0.6)))
    assert refused.status == JointSolution.FAILED and "the arm does not follow its commands" in refused.reason
    assert np.allclose(refused.positions, answer.positions) and refused.jump == 0.0
    assert np.abs(np.array([c.position for c in received(solver, "command")]) - rest).max() < 0.41


def test_a_dragged_marker_is_a_target(solver, arm, rest):
    stamped = solver.target(arm.forward(rest + 0.03))
    feedback = InteractiveMarkerFeedback(header=stamped.header, pose=stamped.pose)
    feedback.event_type = InteractiveMarkerFeedback.MOUSE_DOWN
    solver.markers.publish(feedback)
    feedback.event_type = InteractiveMarkerFeedback.POSE_UPDATE
    assert solver.send(feedback, solver.markers).status == JointSolution.SOLVED
    time.sleep(0.2)
    assert len(received(solver, "solution")) == 1


def test_commands_for_controllers(solver, arm, rest):
    assert solver.set_parameters(publish_trajectory=True, publish_array=True) == []
    answer = solver.send(solver.target(arm.forward(rest + 0.1)))
    commands = wait_for_goal(solver, answer.positions)
    trajectory = solver.client.wait(lambda: received(solver, "trajectory"), "a trajectory")[-1]
    assert tuple(trajectory.joint_names) == arm.joint_names and trajectory.header.stamp.sec == 0
    (point,) = trajectory.points
    assert point.time_from_start.nanosec == 20_000_000 and list(point.velocities) == []
    array = solver.client.wait(lambda: received(solver, "array"), "an array")[-1]
    assert any(list(array.data) == list(c.position) for c in commands)


def test_speed_may_change_and_the_robot_may_not(solver, arm, rest):
    assert solver.set_parameters(max_joint_speed=0.5) == []
    assert "while the node is configured" in solver.set_parameters(tip="flange")[0]
    answer = solver.send(solver.target(arm.forward(rest + 0.1)))
    commands = wait_for_goal(solver, answer.positions)
    assert np.abs(np.diff([c.position for c in commands], axis=0)).max() <= 0.005 + 1e-9


def test_deadline_zero_has_an_answer(solver, arm, rest):
    assert solver.set_parameters(timeout=0.0) == []
    assert solver.send(solver.target(arm.forward(rest))).status == JointSolution.SOLVED
    assert solver.send(solver.target(arm.forward(rest + 0.2))).status == JointSolution.FAILED


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"tip": ""}, "parameter tip=''"),
        ({"tip": "nose"}, "nose"),
        ({"urdf": "/nowhere/arm.urdf"}, "/nowhere/arm.urdf"),
        ({"base": "finger"}, "finger"),
        ({"weights": "file:///nowhere.safetensors"}, "no file '/nowhere.safetensors'"),
        ({"weights": "package://nowhere/arm.safetensors"}, "the package 'nowhere' is not installed"),
        ({"return_approximate": True, "approximate_position": 1e-6}, "approximate_position=1e-06"),
    ],
)
def test_configuration_is_refused_with_a_reason(ik_process, arm_file, parameters, reason):
    ik_process.unconfigure()
    good = {"tip": "tool0", "base": "base_link", "urdf": arm_file, "weights": "", "return_approximate": False,
            "approximate_position": 0.05}  # fmt: skip
    try:
        assert ik_process.set_parameters(**parameters) == []
        assert not ik_process.change("configure")
        ik_process.status(lambda s: s.level == ERROR and reason in s.message, reason)
        assert ik_process.state() == "unconfigured"
    finally:
        assert ik_process.set_parameters(**good) == []


def test_the_robot_comes_from_its_topic(client, arm_process, arm_urdf, arm):
    """Late, while the node waits for it; then the node is stopped by SIGTERM."""
    parameters = {"tip": "tool0", "diagnostics_period": 0.1, "joint_states_timeout": 3600.0}
    command = ["-m", "dfips_ros.nodes.ik_solver"]
    node = arm_process(client, command, "/late", parameters)
    try:
        client.wait(lambda: "waiting for the robot on /late/robot_description" in node.output(), "the wait", 60.0)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        publisher = client.node.create_publisher(String, "/late/robot_description", latched)
        publisher.publish(String(data=arm_urdf))
        client.wait(lambda: ": active" in node.output(), "activation", 60.0)
        node.handshake()
        node.be_at(arm.joint_names, np.full(6, 0.4))
        pose = FixedFrames(arm.chain.model, "table").pose("base_link") @ arm.forward(np.full(6, 0.42))
        answer = node.send(node.target(pose, "table"))
        assert answer.status == JointSolution.SOLVED and answer.header.frame_id == "table"
    finally:
        assert node.stop(signal.SIGTERM) == 0, node.output()
    assert "Traceback" not in node.output()


def test_no_robot_on_the_topic_is_told(client, arm_process):
    parameters = {"tip": "tool0", "robot_description_timeout": 0.3, "diagnostics_period": 0.1}
    node = arm_process(client, ["-m", "dfips_ros.nodes.ik_solver"], "/lone", parameters)
    try:
        words = "no robot came on /lone/robot_description within 0.3 s"
        node.status(lambda s: s.level == ERROR and words in s.message, words)
        assert node.state() == "unconfigured"
    finally:
        assert node.stop() == 0, node.output()


def test_moveit_asks_for_a_solution(solver, arm, rest):
    """GetPositionIK over the middleware, as srv_kinematics_plugin calls it; nothing moves."""
    if service_type() is None:
        status = solver.status(lambda s: s.level == OK, "OK")
        assert values(status)["service solve_ik"] == "off: moveit_msgs is not installed"
        pytest.skip("moveit_msgs is not installed")
    kind, goal = service_type(), rest + 0.3
    request = kind.Request()
    question = request.ik_request
    question.group_name, question.ik_link_name, question.avoid_collisions = "anything", "tool0", True
    question.robot_state.joint_state.name = ["finger_joint", *arm.joint_names]
    question.robot_state.joint_state.position = [0.0, *(float(p) for p in goal - 0.1)]
    question.pose_stamped.header.frame_id = "base_link"
    question.pose_stamped.pose = pose_from_matrix(arm.forward(goal))
    response = solver.client.call(kind, "/arm/solve_ik", request)
    assert (response.error_code.val, response.error_code.message) == (1, "")
    found = dict(zip(response.solution.joint_state.name, response.solution.joint_state.position, strict=True))
    assert np.allclose(arm.forward([found[name] for name in arm.joint_names]), arm.forward(goal), atol=1e-3)
    assert received(solver, "command") == []
    assert solver.set_parameters(group="manipulator") == []
    assert solver.client.call(kind, "/arm/solve_ik", request).error_code.val == -15
    assert solver.set_parameters(group="") == [] and solver.change("deactivate")
    refused = solver.client.call(kind, "/arm/solve_ik", request)
    assert refused.error_code.val == 99999 and "the node is inactive" in refused.error_code.message
