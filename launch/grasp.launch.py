# SPDX-License-Identifier: Apache-2.0
"""Starts the way from masks to a moving arm: pose_tracker, grasp_target, ik_solver, and on request RViz.

ros2 launch dfips_ros grasp.launch.py simulate:=true rviz:=true
ros2 launch dfips_ros grasp.launch.py mesh:=/data/part.stl mask_topic:=/segmentation/mask \
    camera_info_topic:=/camera/camera_info base:=base_link tip:=tool0 grasp_xyz:="0 0 0.05" grasp_rotation:="3.1416 0 0"
"""

from importlib.util import find_spec
from pathlib import Path

from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from dfips_ros.nodes.launch_files import NODE_ARGUMENTS, Given, config_file, description

# Name, default, description. An empty value leaves the choice to the parameters files.
ARGUMENTS = (
    ("mesh", "", "Mesh of the object: absolute path, file:// or package:// URI."),
    ("mesh_scale", "", "Factor from the mesh file's units to metres: 0.001 for a mesh in millimetres."),
    ("object_name", "", "Name of the object; by default the mesh file's name without ending."),
    ("mask_topic", "~/mask", "Topic of the masks (sensor_msgs/Image)."),
    ("camera_info_topic", "~/camera_info", "Topic of the calibration (sensor_msgs/CameraInfo)."),
    ("image_topic", "~/image", "Topic of the colour image behind the overlay (optional)."),
    ("camera_xyz", "", "Where the camera's optical frame is in base, 'x y z' [m]; by default looked up in /tf."),
    ("camera_rotation", "", "How it lies there: 'roll pitch yaw' [rad], or a quaternion 'x y z w'."),
    ("camera_frame", "", "Name of that frame: publishes camera_xyz and camera_rotation on /tf too, for RViz."),
    ("grasp_xyz", "", "Where the tip is in the object's frame when it grasps, 'x y z' [m]."),
    ("grasp_rotation", "", "How it lies there: 'roll pitch yaw' [rad], or a quaternion 'x y z w'."),
    ("standoff", "", "How far the target stays back from the grasp [m]."),
    ("planning_scene", "false", "Give the object to MoveIt's planning scene: true or false; needs moveit_msgs."),
    ("urdf", "", "URDF file: absolute path, file:// or package:// URI; by default the topic robot_description."),
    ("tip", "", "Link that is to reach the target."),
    ("base", "", "First link of the arm; targets are in its frame."),
    ("max_joint_step", "0.0", "As of ik_solver; the first target is far from where the arm is: by default no limit."),
    ("max_joint_speed", "0.5", "No joint is commanded faster than this [rad/s or m/s]."),
    ("command_topic", "", "Topic of the joint commands (sensor_msgs/JointState); by default ik_solver/joint_command."),
    ("trajectory_topic", "", "Topic of a joint_trajectory_controller; publishes there when given."),
    ("tracker_params_file", config_file("pose_tracker.yaml"), "Parameters file of pose_tracker."),
    ("grasp_params_file", config_file("grasp_target.yaml"), "Parameters file of grasp_target."),
    ("ik_params_file", config_file("ik_solver.yaml"), "Parameters file of ik_solver."),
    (
        "simulate",
        "false",
        "Without hardware: an arm that goes where it is commanded, and a camera that sees an object.",
    ),
    *NODE_ARGUMENTS,
)

# With simulate:=true, what is not given: a drill before a panda, seen from the other side.
SIMULATED = {
    "camera_xyz": "1.1 0 0.9",
    "camera_rotation": "-2.356194 0 1.570796",
    "camera_frame": "demo_camera_optical_frame",
    "grasp_xyz": "0 0 0.1",
    "grasp_rotation": "3.141593 0 0",
    "object_name": "drill",
}
PLACE = "0.5 0 0.3"
DRILL = "data/demo/meshes/drill.obj"

# What the RViz file shows, below the namespace.
SHOWN_TOPICS = (
    "robot_description", "pose_tracker/markers", "pose_tracker/overlay", "ik_solver/target_pose",
    "grasp_target/grasp_pose",
)  # fmt: skip


class _Cell(Given):
    """The launch arguments; those of the simulated cell where they are not given."""

    def __init__(self, context):
        super().__init__(context)
        self._simulated = {}
        self.simulate = self.boolean("simulate")
        self._simulated = _simulated_cell(self) if self.simulate else {}

    def __call__(self, name):
        return super().__call__(name) or self._simulated.get(name, "")

    def topic(self, name):
        """Of an input of the tracker; with simulate, what the simulated camera publishes."""
        text = self(f"{name}_topic")
        return f"demo_scene/{name}" if self.simulate and text == f"~/{name}" else text


def _simulated_cell(given):
    cell = dict(SIMULATED)
    if not given("mesh"):
        folders = [Path(folder) for folder in find_spec("dfips_ros").submodule_search_locations]
        cell["mesh"] = str(next(f for f in (folder / DRILL for folder in folders) if f.is_file()))
    if not given("urdf"):
        from dfips_ros.processes.example_robots import example_robot

        robot = example_robot("panda")
        cell |= {"urdf": str(robot.urdf), "tip": robot.tip, "base": robot.base}
    return cell


def _nodes(context):
    """The three nodes, what stands for the hardware, and RViz."""
    given = _Cell(context)
    inputs = {name: given.topic(name) for name in ("mask", "camera_info", "image")}
    tracker = given.node(
        "pose_tracker", given.overrides(("mesh", "object_name"), ("mesh_scale",)),
        [(f"~/{name}", topic) for name, topic in inputs.items() if topic != f"~/{name}"], "tracker_params_file",
    )  # fmt: skip
    scene = ("mesh",) if given.boolean("planning_scene") else ()
    texts = ("camera_xyz", "camera_rotation", "grasp_xyz", "grasp_rotation", *scene)
    aim = given.overrides(texts, ("standoff", *(("mesh_scale",) if scene else ())))
    if given("base"):
        aim["base_frame"] = ParameterValue(given("base"), value_type=str)
    links = [("~/tracked_object", "pose_tracker/tracked_object"), ("~/target_pose", "ik_solver/target_pose")]
    target = given.node("grasp_target", aim, links, "grasp_params_file")
    joints = given.overrides(("urdf", "tip", "base"), ("max_joint_step", "max_joint_speed"))
    if given("trajectory_topic"):
        joints["publish_trajectory"] = True
    commands = given.remapped({"joint_command": "command_topic", "joint_trajectory": "trajectory_topic"})
    solver = given.node("ik_solver", joints, commands, "ik_params_file")
    hardware = _hardware(given) if given.simulate else []
    rviz = given.rviz("grasp.rviz", SHOWN_TOPICS, given("base"))
    return [tracker, target, solver, *_camera_transform(given), *hardware, *rviz]


def _camera_transform(given):
    """The camera's place on /tf, for RViz."""
    if not given("camera_frame") or not given("camera_xyz"):
        return []
    x, y, z = given("camera_xyz").replace(",", " ").split()
    turn = given("camera_rotation").replace(",", " ").split()
    names = ("--roll", "--pitch", "--yaw") if len(turn) == 3 else ("--qx", "--qy", "--qz", "--qw")
    place = ["--x", x, "--y", y, "--z", z, *(word for pair in zip(names, turn) for word in pair)]  # noqa: B905
    frames = ["--frame-id", given("base"), "--child-frame-id", given("camera_frame")]
    return [Node(package="tf2_ros", executable="static_transform_publisher", arguments=[*place, *frames])]


def _hardware(given):
    """An arm, its links' transforms, and a camera before which the object moves."""
    scale = ["--scale", given("mesh_scale")] if given("mesh_scale") else []
    camera = Node(
        package="dfips_ros", executable="demo_scene", name="demo_scene", namespace=given("namespace"),
        arguments=["--mesh", given("mesh"), *scale, "--at", PLACE, "--camera-xyz", given("camera_xyz"),
                   "--camera-rotation", given("camera_rotation")],
        remappings=[(name, f"demo_scene/{name}") for name in ("mask", "image", "camera_info")],
    )  # fmt: skip
    return [*given.simulated_arm(given("urdf"), given("command_topic") or "ik_solver/joint_command"), camera]


def generate_launch_description():
    """Arguments, nodes, RViz."""
    return description(ARGUMENTS, _nodes)
