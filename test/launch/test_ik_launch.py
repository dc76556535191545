# SPDX-License-Identifier: Apache-2.0
"""The launch file of ik_solver, with stand-ins for ROS 2's launch."""

from __future__ import annotations

import functools

import pytest
import yaml

from .stand_in import ROOT, shown


@pytest.fixture
def launched(start):
    """Options of the nodes that the launch file starts with given arguments."""
    return functools.partial(start, "ik_solver")


def test_only_what_is_given_wins_over_the_parameters_file(launched):
    nodes = launched(params_file="my.yaml")
    assert set(nodes) == {"ik_solver"}
    assert nodes["ik_solver"]["parameters"] == ["my.yaml"] and nodes["ik_solver"]["remappings"] == []
    _, overrides = launched(params_file="my.yaml", tip="tool0", urdf="/data/arm.urdf", autostart="false")["ik_solver"][
        "parameters"
    ]
    assert overrides["autostart"] is False
    assert {n: overrides[n].arguments[0] for n in ("tip", "urdf")} == {"tip": "tool0", "urdf": "/data/arm.urdf"}


def test_outputs_for_controllers_are_switched_on_with_their_topics(launched):
    node = launched(params_file="p", trajectory_topic="/arm/joint_trajectory", array_topic="/forward/commands",
                    command_topic="/robot_joint_commands", service="/solve_ik")["ik_solver"]  # fmt: skip
    assert node["parameters"][1] == {"publish_trajectory": True, "publish_array": True}
    assert dict(node["remappings"]) == {
        "~/joint_command": "/robot_joint_commands",
        "~/joint_trajectory": "/arm/joint_trajectory",
        "~/commands": "/forward/commands",
        "solve_ik": "/solve_ik",
    }


def test_every_argument_that_overrides_is_a_parameter(launched):
    parameters = pytest.importorskip("dfips_ros.nodes.ik_parameters")
    names = {spec.name for spec in parameters_specs(parameters)}
    given = dict.fromkeys(("urdf", "tip", "base", "srdf", "group"), "x")
    node = launched(params_file="p", trajectory_topic="a", array_topic="b", autostart="true", **given)["ik_solver"]
    assert set(node["parameters"][1]) <= names


def parameters_specs(module):
    from dfips_ros.nodes.parameters import specs_of

    return specs_of(module.IkSolverParameters)


def test_a_simulated_arm(launched, arm_file, arm_urdf):
    nodes = launched(simulate="true", urdf=arm_file, tip="tool0", base="base_link", namespace="cell")
    assert set(nodes) == {"ik_solver", "demo_arm", "robot_state_publisher"}
    assert nodes["demo_arm"]["arguments"] == ["--urdf", arm_file, "--tip", "tool0", "--base", "base_link"]
    assert nodes["demo_arm"]["remappings"] == [("joint_command", "ik_solver/joint_command")]
    (parameters,) = nodes["robot_state_publisher"]["parameters"]
    assert parameters["robot_description"].arguments[0] == arm_urdf
    assert {options["namespace"] for options in nodes.values()} == {"cell"}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"simulate": "true"}, "urdf:=: simulate:=true expected a URDF file"),
        ({"simulate": "perhaps"}, "simulate:=perhaps: expected true or false"),
        ({"rviz": "1"}, "rviz:=1: expected true or false"),
        ({"autostart": "no"}, "autostart:=no: expected true or false"),
    ],
)
def test_a_bad_argument_is_told_by_name(launched, values, reason):
    with pytest.raises(RuntimeError, match=reason):
        launched(**values)


def test_rviz_follows_the_node_and_shows_its_topics(launched):
    rviz = launched(rviz="true", namespace="/cell/", base="base_link")["rviz2"]
    assert dict(rviz["remappings"]) == {topic: f"/cell{topic}" for topic in shown("ik_solver")}
    assert rviz["arguments"][-2:] == ["-f", "base_link"]
    assert launched(rviz="true")["rviz2"]["remappings"] == []


def test_kinematics_yaml_asks_the_service_of_the_node():
    endpoints = pytest.importorskip("dfips_ros.nodes.ik_endpoints")
    (group,) = yaml.safe_load((ROOT / "config" / "kinematics.yaml").read_text()).values()
    assert group["kinematics_solver"] == "srv_kinematics_plugin/SrvKinematicsPlugin"
    assert group["kinematics_solver_service_name"] == "/" + endpoints.IK_SERVICES[0][0]


@pytest.mark.ros
def test_launch(launch_test):
    launch_test("launched_ik_solver.py")
