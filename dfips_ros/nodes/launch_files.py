# SPDX-License-Identifier: Apache-2.0
"""What the launch files share: their common arguments, the values that were given, nodes, RViz."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launch import LaunchDescription  # type: ignore[attr-defined]  # mypy finds the folder launch/ here
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

# Name, default, description.
Argument = tuple[str, Any, str]

FIXED_FRAME: Argument = (
    "fixed_frame", "", "Fixed frame of RViz, usually the camera's optical frame; by default that of its file.",
)  # fmt: skip
NODE_ARGUMENTS: tuple[Argument, ...] = (
    ("namespace", "", "Namespace of the nodes."),
    ("rviz", "false", "Start RViz too: true or false."),
    ("log_level", "info", "Log level of the nodes: debug, info, warn, error or fatal."),
    ("autostart", "", "Configure and activate the nodes by themselves: true or false; by default true."),
    ("use_sim_time", "", "Take the time from /clock: true or false; by default false."),
)


def config_file(name: str) -> Any:
    """An installed file of the folder config, as a default of an argument."""
    return PathJoinSubstitution([FindPackageShare("dfips_ros"), "config", name])


class Given:
    """Values of the arguments while a launch file runs: ``given(name)`` is text, empty where none was given."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __call__(self, name: str) -> str:
        text: str = LaunchConfiguration(name).perform(self._context)
        return text

    def boolean(self, name: str) -> bool:
        """True or false.

        Raises:
            RuntimeError: another text.
        """
        if self(name).lower() not in ("true", "false"):
            raise RuntimeError(f"{name}:={self(name)}: expected true or false.")
        return self(name).lower() == "true"

    def number(self, name: str) -> float:
        """A number.

        Raises:
            RuntimeError: another text.
        """
        try:
            return float(self(name))
        except ValueError:
            raise RuntimeError(f"{name}:={self(name)}: expected a number, for example 0.001.") from None

    def overrides(self, texts: Sequence[str] = (), numbers: Sequence[str] = ()) -> dict[str, Any]:
        """The parameters that were given: they win over the parameters file. A name like 003 stays text."""
        found: dict[str, Any] = {name: self.boolean(name) for name in ("autostart", "use_sim_time") if self(name)}
        found |= {name: ParameterValue(self(name), value_type=str) for name in texts if self(name)}
        return found | {name: self.number(name) for name in numbers if self(name)}

    def remapped(self, topics: Mapping[str, str]) -> list[tuple[str, str]]:
        """Remappings of a node's own topics: name below ``~/`` -> the argument that tells another one."""
        return [(f"~/{name}", self(each)) for name, each in topics.items() if self(each) not in ("", f"~/{name}")]

    def node(
        self,
        executable: str,
        overrides: Mapping[str, Any],
        remappings: Sequence[tuple[str, str]] = (),
        params_file: str = "params_file",
        words: Sequence[str] = (),
    ) -> Node:
        """A node of this package that carries its executable's name.

        Args:
            executable: of the package.
            overrides: parameters that win over the file.
            remappings: pairs of names.
            params_file: argument that names the parameters file.
            words: behind ``--ros-args``.
        """
        return Node(
            package="dfips_ros",
            executable=executable,
            name=executable,
            namespace=self("namespace"),
            parameters=[self(params_file), *([dict(overrides)] if overrides else [])],
            remappings=list(remappings),
            arguments=["--ros-args", "--log-level", self("log_level"), *words],
            output="screen",
            emulate_tty=True,
        )

    def rviz(self, file: str, topics: Sequence[str], fixed_frame: str = "") -> list[Node]:
        """RViz where it is wanted.

        Args:
            file: of the folder config.
            topics: that it shows, without a slash before; they move into the nodes' namespace.
            fixed_frame: in place of the file's; empty: that one.
        """
        namespace = self("namespace").strip("/")
        before = f"/{namespace}" if namespace else ""
        return self.rviz_moved(file, {f"/{topic}": f"{before}/{topic}" for topic in topics}, fixed_frame)

    def rviz_moved(self, file: str, topics: Mapping[str, str], fixed_frame: str = "") -> list[Node]:
        """As :meth:`rviz`, with the new names of the topics."""
        if not self.boolean("rviz"):
            return []
        frame = ["-f", fixed_frame] if fixed_frame else []
        moved = [(old, new) for old, new in topics.items() if old != new]
        return [Node(package="rviz2", executable="rviz2", name="rviz2", arguments=["-d", config_file(file), *frame],
                     remappings=moved)]  # fmt: skip

    def simulated_arm(self, urdf: str, command_topic: str) -> list[Node]:
        """An arm that goes where it is commanded, and its links' transforms.

        Raises:
            RuntimeError: there is no such URDF file.
        """
        path = urdf.removeprefix("file://")
        try:
            with open(path, encoding="utf-8") as file:
                robot = ParameterValue(file.read(), value_type=str)
        except OSError:
            raise RuntimeError(f"urdf:={path}: simulate:=true expected a URDF file that is there.") from None
        base = ["--base", self("base")] if self("base") else []
        return [
            Node(
                package="dfips_ros", executable="demo_arm", name="demo_arm", namespace=self("namespace"),
                arguments=["--urdf", path, "--tip", self("tip"), *base], remappings=[("joint_command", command_topic)],
            ),
            Node(
                package="robot_state_publisher", executable="robot_state_publisher", namespace=self("namespace"),
                parameters=[{"robot_description": robot}],
            ),
        ]  # fmt: skip


def description(arguments: Sequence[Argument], actions: Callable[[Any], list[Any]]) -> LaunchDescription:
    """Declared arguments, and what is started once their values are known.

    Args:
        arguments: of the launch file.
        actions: makes the actions from the launch context.
    """
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in arguments
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=actions)])
