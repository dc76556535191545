# SPDX-License-Identifier: Apache-2.0
"""What the health of every node has: its lifecycle, its last error, and how both become a DiagnosticStatus."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

WINDOW = 300
ERROR_SECONDS = 2.0  # how long an error of a callback is shown, and a silence is none

Verdict = tuple[bytes, str]  # level and text of a DiagnosticStatus


@dataclass
class NodeHealth:
    """Base of the nodes' running figures. Times are seconds of a steady clock.

    Attributes:
        lifecycle: label of the lifecycle state.
        problem: why the last lifecycle transition failed; empty when it did not.
        active_since: None while the node is not active.
    """

    lifecycle: str = "unconfigured"
    problem: str = ""
    active_since: float | None = None
    last_error: str = ""
    last_error_time: float | None = None

    def note_error(self, site: str, text: str, now: float) -> None:
        """Take note of an error in the callback ``site``."""
        self.last_error, self.last_error_time = f"{site}: {text}", now

    def idle(self, what: str) -> Verdict | None:
        """Of a node that is not active (``what`` it does not do then), or could not become it; None: it is active."""
        if self.problem:
            return DiagnosticStatus.ERROR, self.problem
        return (DiagnosticStatus.OK, f"{self.lifecycle}: {what}") if self.active_since is None else None

    def recent_error(self, now: float, seconds: float = ERROR_SECONDS) -> Verdict | None:
        """Of a callback that failed within the last ``seconds``; None: none did."""
        recent = self.last_error_time is not None and now - self.last_error_time < seconds
        return (DiagnosticStatus.ERROR, self.last_error) if recent else None


@dataclass
class CameraHealth(NodeHealth):
    """Base of those that need a calibrated camera.

    Attributes:
        camera_time: of the last usable camera_info.
        camera_problem: why the last camera_info was refused; empty when it was not.
    """

    camera_time: float | None = None
    camera_problem: str = ""

    def inputs(
        self, now: float, timeout: float, camera_topic: str, silence: float | None, what: str
    ) -> Verdict | None:  # fmt: skip
        """Of an input that is missing, or a callback that failed; None: all is there.

        Args:
            now: the present.
            timeout: silence [s] of an input that is a fault.
            camera_topic: of camera_info.
            silence: [s] of the other input, None: nothing came yet.
            what: the other input, with its topic.
        """
        assert self.active_since is not None
        waited = now - self.active_since
        if self.camera_time is None:
            level = DiagnosticStatus.ERROR if waited > timeout or self.camera_problem else DiagnosticStatus.WARN
            cause = f": {self.camera_problem}" if self.camera_problem else ""
            return level, f"no usable camera_info on {camera_topic} for {waited:.1f} s{cause}"
        silence = waited if silence is None else min(silence, waited)
        return (DiagnosticStatus.WARN, f"no {what} for {silence:.1f} s") if silence > timeout else None

    def camera_refused(self) -> Verdict | None:
        """Of a calibration that could not take the place of the one before; None: none was refused."""
        text = f"camera_info refused, the previous one is used: {self.camera_problem}"
        return (DiagnosticStatus.WARN, text) if self.camera_problem else None


def status_message(name: str, hardware_id: str, verdict: Verdict, values: Mapping[str, str]) -> DiagnosticStatus:
    """The message of a verdict and the figures beside it."""
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(level=verdict[0], name=name, message=verdict[1], hardware_id=hardware_id, values=pairs)


def milliseconds(times: deque[float], percentile: float) -> str:
    """A percentile of times [s], in milliseconds."""
    return f"{np.percentile(times, percentile) * 1e3:.2f}" if times else "none"
