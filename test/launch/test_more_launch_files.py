# SPDX-License-Identifier: Apache-2.0
"""The launch files of grasping, the light estimator and the container, with stand-ins for ROS 2's launch."""

from __future__ import annotations

from pathlib import Path

import pytest

from .stand_in import ROOT, overrides, shown


def test_grasping_starts_the_whole_way(start):
    nodes = start("grasp", mesh="/data/part.stl", mesh_scale="0.001", base="base_link", tip="tool0", urdf="/a.urdf",
                  mask_topic="/seg/mask", camera_xyz="0 0 1", camera_rotation="3.14 0 0", grasp_xyz="0 0 0.1",
                  standoff="0.2", trajectory_topic="/arm/trajectory", command_topic="/cmd")  # fmt: skip
    assert set(nodes) == {"pose_tracker", "grasp_target", "ik_solver"}
    assert dict(nodes["pose_tracker"]["remappings"]) == {"~/mask": "/seg/mask"}
    assert overrides(nodes["pose_tracker"]) == {"mesh": "/data/part.stl", "mesh_scale": 0.001}
    assert dict(nodes["grasp_target"]["remappings"]) == {
        "~/tracked_object": "pose_tracker/tracked_object", "~/target_pose": "ik_solver/target_pose",
    }  # fmt: skip
    assert overrides(nodes["grasp_target"]) == {
        "base_frame": "base_link", "camera_xyz": "0 0 1", "camera_rotation": "3.14 0 0", "grasp_xyz": "0 0 0.1",
        "standoff": 0.2,
    }  # fmt: skip
    solver = overrides(nodes["ik_solver"])
    assert solver == {"urdf": "/a.urdf", "tip": "tool0", "base": "base_link", "max_joint_step": 0.0,
                      "max_joint_speed": 0.5, "publish_trajectory": True}  # fmt: skip
    assert dict(nodes["ik_solver"]["remappings"]) == {
        "~/joint_command": "/cmd",
        "~/joint_trajectory": "/arm/trajectory",
    }
    scene = overrides(start("grasp", mesh="/data/part.stl", planning_scene="true", mesh_scale="2")["grasp_target"])
    assert scene == {"mesh": "/data/part.stl", "mesh_scale": 2.0}


def test_grasping_without_hardware(start, arm_file):
    nodes = start("grasp", simulate="true", urdf=arm_file, tip="tool0", base="base_link", namespace="cell", rviz="true")
    assert set(nodes) == {
        "pose_tracker", "grasp_target", "ik_solver", "demo_arm", "demo_scene", "robot_state_publisher",
        "static_transform_publisher", "rviz2",
    }  # fmt: skip
    mesh = overrides(nodes["pose_tracker"])["mesh"]
    assert Path(mesh).is_file() and nodes["demo_scene"]["arguments"][:2] == ["--mesh", mesh]
    inputs = {f"~/{name}": f"demo_scene/{name}" for name in ("mask", "camera_info", "image")}
    assert dict(nodes["pose_tracker"]["remappings"]) == inputs
    assert {f"~/{name}": topic for name, topic in nodes["demo_scene"]["remappings"]} == inputs
    given = overrides(nodes["grasp_target"])
    scene = dict(zip(nodes["demo_scene"]["arguments"][::2], nodes["demo_scene"]["arguments"][1::2], strict=True))
    assert (scene["--camera-xyz"], scene["--camera-rotation"]) == (given["camera_xyz"], given["camera_rotation"])
    frames = nodes["static_transform_publisher"]["arguments"]
    assert frames[-4:] == ["--frame-id", "base_link", "--child-frame-id", "demo_camera_optical_frame"]
    assert nodes["demo_arm"]["remappings"] == [("joint_command", "ik_solver/joint_command")]


def test_the_simulated_camera_is_named_as_the_demo_names_it(start, arm_file):
    camera = pytest.importorskip("dfips_ros.nodes.demo_camera")
    nodes = start("grasp", simulate="true", urdf=arm_file, tip="tool0", base="base_link")
    assert nodes["static_transform_publisher"]["arguments"][-1] == camera.FRAME_ID


@pytest.mark.parametrize("name", ["light_estimator", "grasp_target", "container"])
def test_every_argument_that_overrides_is_a_parameter(start, name):
    ros_api = pytest.importorskip("dfips_ros.nodes.ros_api")
    known = {spec.name for spec in ros_api.specs_of(ros_api.NODES[name].parameters)}
    if name == "grasp_target":
        given = dict.fromkeys(("mesh", "camera_xyz", "camera_rotation", "grasp_xyz", "grasp_rotation", "base"), "1")
        nodes = start("grasp", planning_scene="true", standoff="1", mesh_scale="1", autostart="true", **given)
    elif name == "container":
        nodes = start(name, nodes="ik_solver left/arm=ik_solver")
        assert overrides(nodes[name])["nodes"] == ["ik_solver", "left/arm=ik_solver"]
    else:
        nodes = start(name, mesh="m", mesh_scale="1", object_name="003", kind="point", rate="5", autostart="true")
        assert overrides(nodes[name])["object_name"] == "003"
    assert overrides(nodes[name]) and set(overrides(nodes[name])) <= known | {"use_sim_time"}


def test_light_estimator_takes_topics_and_the_parameters_file(start):
    plain = start("light_estimator", params_file="my.yaml")["light_estimator"]
    assert plain["parameters"] == ["my.yaml"] and plain["remappings"] == []
    given = start("light_estimator", image_topic="/camera/image", pose_topic="/pose_tracker/pose")["light_estimator"]
    assert dict(given["remappings"]) == {"~/image": "/camera/image", "~/pose": "/pose_tracker/pose"}


def test_the_container_hands_remappings_on(start):
    rules = "pose_tracker:~/mask:=/seg/mask /tf:=/other/tf"
    arguments = start("container", nodes="pose_tracker", remap=rules)["container"]["arguments"]
    assert arguments[-4:] == ["-r", "pose_tracker:~/mask:=/seg/mask", "-r", "/tf:=/other/tf"]


@pytest.mark.parametrize("name", ["grasp", "light_estimator", "image_restorer"])
def test_rviz_follows_the_nodes_and_shows_their_topics(start, name):
    rviz = start(name, rviz="true", namespace="/cell/")["rviz2"]
    moved = dict(rviz["remappings"])
    assert set(moved) <= set(shown(name)) and moved == {topic: f"/cell{topic}" for topic in moved}
    own = {topic for topic in shown(name) if topic.startswith(f"/{name}/") or name == "grasp"}
    assert own <= set(moved)
    assert start(name, rviz="true")["rviz2"]["remappings"] == []


@pytest.mark.parametrize(
    ("file", "values", "reason"),
    [
        ("grasp", {"simulate": "perhaps"}, "simulate:=perhaps: expected true or false"),
        (
            "grasp",
            {"simulate": "true", "urdf": "/no.urdf", "tip": "t"},
            "urdf:=/no.urdf: simulate:=true expected a URDF",
        ),
        ("grasp", {"standoff": "far"}, "standoff:=far: expected a number"),
        ("light_estimator", {"rate": "often"}, "rate:=often: expected a number"),
        ("light_estimator", {"rviz": "1"}, "rviz:=1: expected true or false"),
        ("image_restorer", {"rviz": "1"}, "rviz:=1: expected true or false"),
        ("container", {"remap": "a=b"}, "remap:=a=b: expected from:=to"),
    ],
)
def test_a_bad_argument_is_told_by_name(start, file, values, reason):
    with pytest.raises(RuntimeError, match=reason):
        start(file, **values)


def test_the_executables_are_installed():
    text = (ROOT / "CMakeLists.txt").read_text()
    for name, module in (
        ("light_estimator", "light_estimator"), ("grasp_target", "grasp_target"), ("container", "container"),
        ("demo_scene", "grasp_demo_scene"), ("demo_arm", "demo_arm"),
    ):  # fmt: skip
        assert f"dfips_executable({name} dfips_ros.nodes.{module} " in text
