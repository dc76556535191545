# SPDX-License-Identifier: Apache-2.0
"""Starts the way from masks to a moving arm: pose_tracker, grasp_target, ik_solver, and on request RViz.

ros2 launch dfips_ros grasp.launch.py simulate:=true rviz:=true
ros2 launch dfips_ros grasp.launch.py mesh:=/data/part.stl mask_topic:=/segmentation/mask \
    camera_info_topic:=/camera/camera_info base:=base_link tip:=tool0 grasp_xyz:="0 0 0.05" grasp_rotation:="3.1416 0 0"
"""

from importlib.util import find_spec
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare("dfips_ros"), "config"])

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
    ("tracker_params_file", PathJoinSubstitution([CONFIG, "pose_tracker.yaml"]), "Parameters file of pose_tracker."),
    ("grasp_params_file", PathJoinSubstitution([CONFIG, "grasp_target.yaml"]), "Parameters file of grasp_target."),
    ("ik_params_file", PathJoinSubstitution([CONFIG, "ik_solver.yaml"]), "Parameters file of ik_solver."),
    ("namespace", "", "Namespace of the nodes."),
    (
        "simulate",
        "false",
        "Without hardware: an arm that goes where it is commanded, and a camera that sees an object.",
    ),
    ("rviz", "false", "Start RViz too: true or false."),
    ("log_level", "info", "Log level of the nodes: debug, info, warn, error or fatal."),
    ("autostart", "", "Configure and activate the nodes by themselves: true or false; by default true."),
    ("use_sim_time", "", "Take the time from /clock: true or false; by default false."),
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


class _Given:
    """The launch arguments; those of the simulated cell where they are not given."""

    def __init__(self, context):
        self._context = context
        self.simulate = self.boolean("simulate")
        self._simulated = _simulated_cell(self) if self.simulate else {}

    def __call__(self, name):
        return LaunchConfiguration(name).perform(self._context) or getattr(self, "_simulated", {}).get(name, "")

    def boolean(self, name):
        if self(name).lower() not in ("true", "false"):
            raise RuntimeError(f"{name}:={self(name)}: expected true or false.")
        return self(name).lower() == "true"

    def topic(self, name):
        """Of an input of the tracker; with simulate, what the simulated camera publishes."""
        text = self(f"{name}_topic")
        return f"demo_scene/{name}" if self.simulate and text == f"~/{name}" else text

    def overrides(self, texts=(), numbers=()):
        """The parameters that were given: they win over the parameters file."""
        found = {name: self.boolean(name) for name in ("autostart", "use_sim_time") if self(name)}
        found |= {name: ParameterValue(self(name), value_type=str) for name in texts if self(name)}
        return found | {name: _number(name, self(name)) for name in numbers if self(name)}


def _simulated_cell(value):
    cell = dict(SIMULATED)
    if not value("mesh"):
        folders = [Path(folder) for folder in find_spec("dfips_ros").submodule_search_locations]
        cell["mesh"] = str(next(f for f in (folder / DRILL for folder in folders) if f.is_file()))
    if not value("urdf"):
        from dfips_ros.processes.example_robots import example_robot

        robot = example_robot("panda")
        cell |= {"urdf": str(robot.urdf), "tip": robot.tip, "base": robot.base}
    return cell


def _node(value, executable, parameters_file, overrides, remappings):
    return Node(
        package="dfips_ros",
        executable=executable,
        name=executable,
        namespace=value("namespace"),
        parameters=[value(parameters_file), *([overrides] if overrides else [])],
        remappings=remappings,
        arguments=["--ros-args", "--log-level", value("log_level")],
        output="screen",
        emulate_tty=True,
    )


def _nodes(context):
    """The three nodes, and what stands for the hardware."""
    value = _Given(context)
    inputs = {name: value.topic(name) for name in ("mask", "camera_info", "image")}
    tracker = _node(
        value, "pose_tracker", "tracker_params_file", value.overrides(("mesh", "object_name"), ("mesh_scale",)),
        [(f"~/{name}", topic) for name, topic in inputs.items() if topic != f"~/{name}"],
    )  # fmt: skip
    scene = ("mesh",) if value.boolean("planning_scene") else ()
    texts = ("camera_xyz", "camera_rotation", "grasp_xyz", "grasp_rotation", *scene)
    aim = value.overrides(texts, ("standoff", *(("mesh_scale",) if scene else ())))
    if value("base"):
        aim["base_frame"] = ParameterValue(value("base"), value_type=str)
    outputs = {"tracked_object": "pose_tracker/tracked_object", "target_pose": "ik_solver/target_pose"}
    target = _node(value, "grasp_target", "grasp_params_file", aim, [(f"~/{n}", t) for n, t in outputs.items()])
    joints = value.overrides(("urdf", "tip", "base"), ("max_joint_step", "max_joint_speed"))
    commands = [("~/joint_command", value("command_topic"))] if value("command_topic") else []
    if value("trajectory_topic"):
        commands.append(("~/joint_trajectory", value("trajectory_topic")))
        joints["publish_trajectory"] = True
    solver = _node(value, "ik_solver", "ik_params_file", joints, commands)
    return [tracker, target, solver, *_camera_transform(value), *(_hardware(value) if value.simulate else [])]


def _camera_transform(value):
    """The camera's place on /tf, for RViz."""
    if not value("camera_frame") or not value("camera_xyz"):
        return []
    x, y, z = value("camera_xyz").replace(",", " ").split()
    turn = value("camera_rotation").replace(",", " ").split()
    names = ("--roll", "--pitch", "--yaw") if len(turn) == 3 else ("--qx", "--qy", "--qz", "--qw")
    place = ["--x", x, "--y", y, "--z", z, *(word for pair in zip(names, turn) for word in pair)]  # noqa: B905
    frames = ["--frame-id", value("base"), "--child-frame-id", value("camera_frame")]
    return [Node(package="tf2_ros", executable="static_transform_publisher", arguments=[*place, *frames])]


def _hardware(value):
    """An arm, its links' transforms, and a camera before which the object moves."""
    urdf = value("urdf").removeprefix("file://")
    if not Path(urdf).is_file():
        raise RuntimeError(f"urdf:={urdf}: simulate:=true expected a URDF file that is there.")
    base = ["--base", value("base")] if value("base") else []
    scale = ["--scale", value("mesh_scale")] if value("mesh_scale") else []
    command = value("command_topic") or "ik_solver/joint_command"
    description = ParameterValue(Path(urdf).read_text(), value_type=str)
    return [
        Node(
            package="dfips_ros", executable="demo_arm", name="demo_arm", namespace=value("namespace"),
            arguments=["--urdf", urdf, "--tip", value("tip"), *base], remappings=[("joint_command", command)],
        ),
        Node(
            package="dfips_ros", executable="demo_scene", name="demo_scene", namespace=value("namespace"),
            arguments=["--mesh", value("mesh"), *scale, "--at", PLACE, "--camera-xyz", value("camera_xyz"),
                       "--camera-rotation", value("camera_rotation")],
            remappings=[(name, f"demo_scene/{name}") for name in ("mask", "image", "camera_info")],
        ),
        Node(
            package="robot_state_publisher", executable="robot_state_publisher", namespace=value("namespace"),
            parameters=[{"robot_description": description}],
        ),
    ]  # fmt: skip


def _rviz(context):
    """RViz when it is wanted; the topics in its file move into the nodes' namespace."""
    value = _Given(context)
    if not value.boolean("rviz"):
        return []
    namespace = value("namespace").strip("/")
    fixed_frame = ["-f", value("base")] if value("base") else []
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        arguments=["-d", PathJoinSubstitution([CONFIG, "grasp.rviz"]), *fixed_frame],
        remappings=[(f"/{topic}", f"/{namespace}/{topic}") for topic in SHOWN_TOPICS] if namespace else [],
    )
    return [rviz]


def _number(name, text):
    try:
        return float(text)
    except ValueError:
        raise RuntimeError(f"{name}:={text}: expected a number, for example 0.1.") from None


def generate_launch_description():
    """Arguments, nodes, RViz."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=_nodes), OpaqueFunction(function=_rviz)])
