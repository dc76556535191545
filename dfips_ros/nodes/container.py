# SPDX-License-Identifier: Apache-2.0
"""Several nodes of this package in one process.

    ros2 run dfips_ros container --ros-args -p nodes:="[pose_tracker, ik_solver]" --params-file my.yaml

Each node has a thread, an executor and a ROS context of its own, so that it works as it does alone: its callbacks come
one after another, in one thread from its making to its end, and an error in one leaves the others at work.
"""

from __future__ import annotations

import importlib
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from ..errors import ConfigError, DfipsError
from .endpoints import Endpoint
from .managed_node import ManagedNode
from .parameters import ParameterReader, parameter
from .stop_signals import RosUntilSignal

# What can be in it: module of this folder and class.
KINDS = {
    "pose_tracker": ("pose_tracker", "PoseTrackerNode"),
    "ik_solver": ("ik_solver", "IkSolverNode"),
    "image_restorer": ("image_restorer", "ImageRestorerNode"),
    "light_estimator": ("light_estimator", "LightEstimatorNode"),
    "grasp_target": ("grasp_target", "GraspTargetNode"),
}
STOP_POLL_SECONDS = 0.2

CONTAINER_ENDPOINTS = {
    "diagnostics": Endpoint(
        "/diagnostics",
        DiagnosticArray,
        "diagnostic_msgs/msg/DiagnosticArray",
        "out",
        "State of each node in it. The nodes publish their own as well.",
        managed=False,
    ),
}


@dataclass(frozen=True)
class ContainerParameters:
    """The parameters of the container. :func:`~.parameters.specs_of` gives ranges and descriptions."""

    nodes: tuple[str, ...] = parameter(
        (),
        f"Nodes to run: kind, or name=kind, or namespace/name=kind. Kinds: {', '.join(KINDS)}. A namespace that begins "
        "with / is taken as it is, others are below the container's.",
    )
    diagnostics_period: float = parameter(1.0, "Time between two /diagnostics messages [s].", low=0.05, high=60.0)

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ConfigError(
                f"parameter nodes=[]: expected some of {', '.join(KINDS)}, for example "
                '-p nodes:="[pose_tracker, ik_solver]".'
            )
        names = [entry.full_name("/") for entry in self.entries]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"parameter nodes: two nodes are called {twice[0]}. Give one another name: name=kind.")

    @property
    def entries(self) -> list[Entry]:
        """The nodes that are asked for.

        Raises:
            ConfigError: an unknown kind, or a name that is none.
        """
        return [Entry.read(text) for text in self.nodes]


@dataclass(frozen=True)
class Entry:
    """One node that is asked for."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def read(cls, text: str) -> Entry:
        """``kind``, ``name=kind`` or ``namespace/name=kind``.

        Raises:
            ConfigError: an unknown kind, or a name that is none.
        """
        path, _, kind = text.rpartition("=")
        if kind not in KINDS:
            raise ConfigError(f"parameter nodes: '{text}': expected one of {', '.join(KINDS)}.")
        namespace, slash, name = (path or kind).rpartition("/")
        inner = namespace.removeprefix("/")
        if not all(piece.isidentifier() for piece in [name, *(inner.split("/") if inner else [])]):
            raise ConfigError(f"parameter nodes: '{text}': expected name=kind or namespace/name=kind.")
        return cls(kind, namespace or slash, name)

    def full_namespace(self, outer: str) -> str:
        """Its namespace in a container of the namespace ``outer``."""
        return self.namespace if self.namespace.startswith("/") else f"{outer.rstrip('/')}/{self.namespace}".rstrip("/")

    def full_name(self, outer: str) -> str:
        """Its name with the namespace."""
        return f"{self.full_namespace(outer).rstrip('/')}/{self.name}"


class HostedNode:
    """A node in a thread of its own.

    Args:
        entry: which.
        outer: the container's namespace.
        args: ROS arguments of the container: parameters files, remappings, log levels are for its nodes too.
    """

    def __init__(self, entry: Entry, outer: str, args: Sequence[str]) -> None:
        self.name = entry.full_name(outer)
        self.problem = ""
        self._entry = entry
        # The first rule that fits counts, so that these win over the container's own name.
        rules = ["-r", f"__node:={entry.name}", "-r", f"__ns:={entry.full_namespace(outer) or '/'}"]
        self._args = ["--ros-args", *rules, "--", *args]
        self._node: ManagedNode[Any] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    @property
    def state(self) -> str:
        """Its lifecycle state, in words."""
        if self.problem:
            return f"ended: {self.problem}"
        node = self._node
        return "starting" if node is None else f"{node.lifecycle}: {node.problem}" if node.problem else node.lifecycle

    def stop(self) -> None:
        """Ask it to end; :meth:`join` waits for that."""
        self._stop.set()

    def join(self) -> None:
        """Wait until its thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        context = Context()
        executor: SingleThreadedExecutor | None = None
        try:
            rclpy.init(args=self._args, context=context)  # of another context than the default one: no signal handlers
            module, name = KINDS[self._entry.kind]
            make = getattr(importlib.import_module(f"{__package__}.{module}"), name)
            node = self._node = make(context=context)
            executor = SingleThreadedExecutor(context=context)
            executor.add_node(node)
            self._surviving(node.autostart)
            while context.ok() and not self._stop.is_set():
                self._surviving(executor.spin_once, STOP_POLL_SECONDS)
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"
            print(f"container: {self.name} ended: {self.problem}\n{traceback.format_exc()}", file=sys.stderr)
        finally:
            self._close(executor)
            context.try_shutdown()

    def _surviving(self, action: Any, *arguments: Any) -> None:
        """Call; an error is logged."""
        assert self._node is not None
        try:
            action(*arguments)
        except Exception as error:
            self._node.get_logger().error(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")

    def _close(self, executor: SingleThreadedExecutor | None) -> None:
        try:
            if executor is not None:
                executor.shutdown(timeout_sec=1.0)
            if self._node is not None:
                self._node.release()
                self._node.destroy_node()
        except Exception:
            print(f"container: {self.name} did not end well\n{traceback.format_exc()}", file=sys.stderr)


class Container(Node):
    """Runs the nodes from :meth:`start` to :meth:`stop`, and tells how they are.

    Args:
        args: command line with ROS arguments.

    Raises:
        ConfigError: the parameters are wrong.
    """

    def __init__(self, args: Sequence[str]) -> None:
        super().__init__("container")
        self.hosted: list[HostedNode] = []
        self._args = _without_own(args)
        self._wanted = ParameterReader(self, ContainerParameters).read()
        self._diagnostics = CONTAINER_ENDPOINTS["diagnostics"].publisher(self)  # type: ignore[arg-type]
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(self._wanted.diagnostics_period, self._report, clock=steady)

    def start(self) -> None:
        """Start all nodes."""
        outer = self.get_namespace()
        self.hosted = [HostedNode(entry, outer, self._args) for entry in self._wanted.entries]
        self.get_logger().info(f"runs {', '.join(each.name for each in self.hosted)}")

    def stop(self) -> None:
        """End all nodes; waits for those that are at work."""
        for each in self.hosted:
            each.stop()
        for each in self.hosted:
            each.join()

    def _report(self) -> None:
        states = {each.name: each.state for each in self.hosted}
        ended = [each.name for each in self.hosted if each.problem]
        level = DiagnosticStatus.ERROR if ended else DiagnosticStatus.OK
        text = f"{', '.join(ended)} ended" if ended else f"{len(states)} nodes"
        pairs = [KeyValue(key=name, value=state) for name, state in states.items()]
        status = DiagnosticStatus(level=level, name=self.get_fully_qualified_name(), message=text, values=pairs)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def _without_own(args: Sequence[str]) -> list[str]:
    """The arguments without the container's own parameters, which the nodes do not know."""
    kept: list[str] = []
    for word in args:
        own = any(word.startswith(f"{name}:=") for name in ("nodes", "diagnostics_period"))
        if own and kept and kept[-1] in ("-p", "--param"):
            kept.pop()
            continue
        kept.append(word)
    return kept


def main(args: list[str] | None = None) -> int:
    """Run the nodes until SIGINT or SIGTERM; 2 when none can be started."""
    given = sys.argv if args is None else args
    container: Container | None = None
    begun = False
    try:
        with RosUntilSignal(given):
            begun = True
            try:
                container = Container(given)
            except DfipsError as error:
                print(f"container: {error}", file=sys.stderr)
                return 2
            container.start()
            while rclpy.ok():
                try:
                    rclpy.spin(container)
                except ExternalShutdownException:
                    break
                except Exception as error:  # of its diagnostics: the nodes are none the worse for it
                    if rclpy.ok():
                        container.get_logger().error(f"{type(error).__name__}: {error}")
                        time.sleep(STOP_POLL_SECONDS)
    except KeyboardInterrupt:
        pass
    except Exception as error:  # of the initialisation, as the rest survives
        if not begun or rclpy.ok():  # else a signal has ended ROS meanwhile
            print(f"container: cannot start: {error}", file=sys.stderr)
            return 2
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # `ros2 launch` hands on a Ctrl-C that has come here already
        if container is not None:
            container.stop()
            container.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
