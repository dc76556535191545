# SPDX-License-Identifier: Apache-2.0
"""A lifecycle node that starts by itself, checks its parameters, and outlives every error in a callback."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

import rclpy
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from ..errors import DfipsError
from .parameters import ParameterReader
from .stop_signals import RosUntilSignal

P = TypeVar("P")
RCLError = rclpy_implementation.RCLError

LOG_PERIOD_SECONDS = 5.0


class ManagedNode(LifecycleNode, Generic[P]):
    """Base of the package's lifecycle nodes.

    A node fills in :meth:`configure` (load), :meth:`activate` (subscribe), :meth:`deactivate` (unsubscribe),
    :meth:`release` (free) and :meth:`parameters_changed`. What these raise refuses the transition.

    Args:
        name: name of the node.
        table: its parameter table, see :mod:`dfips_ros.nodes.parameters`.
        parameter_overrides: initial values, for tests and composition.
        context: rclpy context; None: the default one.
    """

    def __init__(
        self,
        name: str,
        table: type[P],
        parameter_overrides: list[Parameter] | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__(name, parameter_overrides=parameter_overrides, context=context)
        self._reader = ParameterReader(self, table)
        self.parameters: P | None = None
        self.problem = ""
        self.lifecycle = "unconfigured"
        self._log_times: dict[tuple[str, str], float] = {}
        self.add_on_set_parameters_callback(self._on_set_parameters)
        # rclpy lets the error of an impossible transition out of the service callback: that would end the node.
        change_state = self._service_change_state.callback
        self._service_change_state.callback = partial(self._on_change_state, change_state)

    # --- for the derived node

    def configure(self, parameters: P) -> None:
        """Load what the parameters name and create the publishers."""

    def activate(self) -> None:
        """Subscribe."""

    def deactivate(self) -> None:
        """Unsubscribe."""

    def release(self) -> None:
        """Free everything that :meth:`configure` made; called in any state, also after a failure."""

    def parameters_changed(self, parameters: P) -> None:
        """Take over parameters that changed at run time, before they are set; raise to refuse."""

    def note_failure(self, site: str, text: str) -> None:
        """An error in a callback was caught and logged."""

    # --- lifecycle

    def autostart(self) -> bool:
        """Configure and activate if the parameter ``autostart`` says so. -> False when that was refused."""
        if not self.get_parameter("autostart").value:
            return True
        if self.trigger_configure() != TransitionCallbackReturn.SUCCESS:
            return False
        return bool(self.trigger_activate() == TransitionCallbackReturn.SUCCESS)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and load; on failure the node stays unconfigured."""
        return self._transition("configure", "inactive", self._configure, super().on_configure, state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to publish and subscribe."""
        return self._transition("activate", "active", self.activate, super().on_activate, state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; everything stays loaded."""
        return self._transition("deactivate", "inactive", self.deactivate, super().on_deactivate, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything."""
        return self._transition("clean up", "unconfigured", self._release, super().on_cleanup, state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and free everything."""
        return self._transition("shut down", "finalized", self._release, super().on_shutdown, state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an error in a transition: free everything and go back to unconfigured."""
        return self._transition("recover", "unconfigured", self._release, super().on_error, state, keep_problem=True)

    def _configure(self) -> None:
        parameters = self._reader.read()
        self.configure(parameters)
        self.parameters = parameters

    def _release(self) -> None:
        self.deactivate()
        self.release()
        self.parameters = None

    def _transition(
        self,
        verb: str,
        reached: str,
        action: Callable[[], None],
        entities: Callable[[LifecycleState], TransitionCallbackReturn],
        state: LifecycleState,
        keep_problem: bool = False,
    ) -> TransitionCallbackReturn:
        try:
            if verb == "activate":  # publishers first, then what may publish
                result = entities(state)
                action()
            else:
                action()
                result = entities(state)
        except Exception as error:
            self.problem = f"cannot {verb}: {error}"
            if isinstance(error, DfipsError):
                self.get_logger().error(self.problem)
            elif self.context.ok():  # else a signal has ended ROS meanwhile
                self.problem = f"cannot {verb}: {type(error).__name__}: {error}"
                self.get_logger().error(f"{self.problem}\n{traceback.format_exc()}")
            if verb == "configure":
                self._release()
                self.lifecycle = "unconfigured"
            elif verb == "activate":
                self.deactivate()
                LifecycleNode.on_deactivate(self, state)
            return (
                TransitionCallbackReturn.FAILURE
                if verb in ("configure", "activate")
                else TransitionCallbackReturn.ERROR
            )
        if not keep_problem:
            self.problem = ""
        self.lifecycle = reached
        self.get_logger().info(f"{reached}")
        return result

    # --- callbacks

    def guarded(self, site: str, callback: Callable[..., None], *arguments: Any) -> str:
        """Call and survive: an error is logged (throttled), noted and returned as text; '' when all is well."""
        try:
            callback(*arguments)
            return ""
        except DfipsError as error:
            text = str(error)
            self.log_throttled("error", f"{site}: {text}", f"{site} {type(error).__name__}")
        except Exception as error:  # a defect of ours or of a library: say where, and live on
            text = f"{type(error).__name__}: {error}"
            self.log_throttled("error", f"{site}: {text}\n{traceback.format_exc()}", f"{site} {type(error).__name__}")
        self.note_failure(site, text)
        return text

    def log_throttled(self, level: str, text: str, key: str) -> None:
        """Log at most once in 5 s for each key."""
        now = time.monotonic()
        last = self._log_times.get((level, key))
        if last is not None and now - last < LOG_PERIOD_SECONDS:
            return
        self._log_times[(level, key)] = now
        # One call site for each level: rclpy refuses a call site that changes its level.
        if level == "error":
            self.get_logger().error(text)
        else:
            self.get_logger().warning(text)

    def _on_change_state(
        self, change_state: Callable[..., Any], request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            return change_state(request, response)
        except RCLError:
            wanted = request.transition.label or request.transition.id
            self.get_logger().warning(f"transition {wanted} is not possible in state {self.lifecycle}")
            response.success = False
            return response

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            parameters = self._reader.judge({each.name: each.value for each in changes}, self.parameters is not None)
            if parameters is not None:
                self.parameters_changed(parameters)
                self.parameters = parameters
        except DfipsError as error:
            return SetParametersResult(successful=False, reason=str(error))
        except Exception as error:
            return SetParametersResult(successful=False, reason=f"{type(error).__name__}: {error}")
        return SetParametersResult(successful=True)


def run_node(make_node: Callable[[], ManagedNode[Any]], args: list[str] | None = None) -> int:
    """Run a node until it is told to stop (SIGINT, SIGTERM). -> exit code: 0, or 2 when it cannot start."""
    node: ManagedNode[Any] | None = None
    executor: SingleThreadedExecutor | None = None
    ros = RosUntilSignal(args)
    try:
        with ros:
            node = make_node()
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            _surviving(node, node.autostart)
            while rclpy.ok():
                _surviving(node, executor.spin)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception as error:  # of the initialisation, as the rest survives
        if ros.received:
            return 0
        print(f"{sys.argv[0].rsplit('/', 1)[-1]}: cannot start: {error}", file=sys.stderr)
        return 2
    finally:
        _close(node, executor)
    return 0


def _surviving(node: ManagedNode[Any], action: Callable[[], Any]) -> None:
    """Call; an error is logged, unless it only comes from the shutdown of the context by a signal."""
    try:
        action()
    except ExternalShutdownException:
        raise
    except Exception as error:
        if rclpy.ok():
            node.get_logger().error(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")


def _close(node: ManagedNode[Any] | None, executor: SingleThreadedExecutor | None) -> None:
    """Free the node; a second Ctrl-C does not leave a traceback."""
    try:
        if executor is not None:
            executor.shutdown(timeout_sec=1.0)
        if node is not None:
            node.release()
            node.destroy_node()
        rclpy.try_shutdown()
    except KeyboardInterrupt:
        pass
