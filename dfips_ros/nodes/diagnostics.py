# SPDX-License-Identifier: Apache-2.0
"""The health of a tracker as one diagnostic_msgs/DiagnosticStatus."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus

from .health import WINDOW, CameraHealth, Verdict, milliseconds, status_message
from .mask_stream import MaskStream

# A stamp that is further away is of another clock than the node's.
MAX_LATENCY_SECONDS = 10.0

# Callbacks whose errors leave the poses as they are; they are warned of as long as they last.
HARMLESS = ("camera_info", "overlay", "label_info", "initial_pose")


@dataclass
class TrackerHealth(CameraHealth):
    """Running figures of a tracker.

    Attributes:
        objects: state, reason and IoU of the last result for each object.
        frames, poses, failures: masks worked on, poses published, masks or messages that raised an error.
        stale: masks that were taken before a reset, so that no result of theirs was published.
        overlay_problem: why the last overlay failed; empty when it did not.
        waits: how long masks lay here until work on them began.
        latencies: from the masks' stamps to their published poses, on the node's clock.
        outdated: masks that lay here for longer than two periods, so that a newer one had been due for one.
    """

    objects: dict[str, tuple[str, str, float]] = field(default_factory=dict)
    frames: int = 0
    poses: int = 0
    failures: int = 0
    stale: int = 0
    overlay_problem: str = ""
    outdated: int = 0
    stream: MaskStream = field(default_factory=MaskStream)
    solve_times: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    node_times: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    waits: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def __post_init__(self) -> None:
        self._reported_drops = 0
        self._reported_late = 0
        self._reported_set_back = 0

    def note_error(self, site: str, text: str, now: float) -> None:
        """Take note of an error in the callback ``site``; those of HARMLESS do not touch the poses."""
        self.failures += 1
        self.last_error = f"{site}: {text}"
        if site not in HARMLESS:
            self.last_error_time = now

    def note_wait(self, seconds: float | None) -> None:
        """Work on a mask begins that the middleware got ``seconds`` ago; None: it does not say when."""
        if seconds is not None:
            period = self.stream.period
            self.outdated += period is not None and seconds > 2.0 * period
            self.waits.append(seconds)

    def note_answered(self, seconds: float, latency: float | None) -> None:
        """What a mask told was published after ``seconds`` of work, ``latency`` after its stamp (None: it has none)."""
        self.node_times.append(seconds)
        if latency is not None and 0.0 <= latency <= MAX_LATENCY_SECONDS:
            self.latencies.append(latency)

    def status(
        self, name: str, hardware_id: str, now: float, timeout: float, topics: dict[str, str]
    ) -> DiagnosticStatus:
        """The message. ``timeout``: silence [s] of an input that is a fault. ``topics``: of mask, camera_info."""
        level, text = self._verdict(now, timeout, topics)
        new_drops, self._reported_drops = self.stream.dropped - self._reported_drops, self.stream.dropped
        if new_drops > 0:
            level = max(level, DiagnosticStatus.WARN)
            text = f"{text}; {new_drops} masks dropped since the last report"
        new_late, self._reported_late = self.stream.late - self._reported_late, self.stream.late
        if new_late > 0:
            level = max(level, DiagnosticStatus.WARN)
            text = f"{text}; {new_late} masks left out since the last report, as their stamps are repeated or older"
        if self.stream.set_back > self._reported_set_back:
            self._reported_set_back = self.stream.set_back
            level = max(level, DiagnosticStatus.WARN)
            text = f"{text}; the masks' clock was set back, so the tracker began anew"
        if self.overlay_problem:
            level = max(level, DiagnosticStatus.WARN)
            text = f"{text}; no overlay: {self.overlay_problem}"
        return status_message(name, hardware_id, (level, text), self._values(now))

    def _verdict(self, now: float, timeout: float, topics: dict[str, str]) -> Verdict:
        if (idle := self.idle("not tracking")) is not None:
            return idle
        silence, what = self.stream.silence(now), f"mask on {topics['mask']}"
        fault = (
            self.inputs(now, timeout, topics["camera_info"], silence, what)
            or self.recent_error(now, timeout)
            or self.camera_refused()
        )
        if fault is not None:
            return fault
        if not self.objects:
            return DiagnosticStatus.OK, "no objects: add one with ~/add_object"
        level = DiagnosticStatus.OK if self.state == "TRACKING" else DiagnosticStatus.WARN
        return level, f"{self.state}: {self.reason}" if self.reason else self.state

    @property
    def state(self) -> str:
        """Of the single object; of several: TRACKING if all are, else how many of them are."""
        states = [state for state, _, _ in self.objects.values()]
        if len(states) < 2:
            return states[0] if states else "INITIALISING"
        tracking = states.count("TRACKING")
        return "TRACKING" if tracking == len(states) else f"{tracking} of {len(states)} objects TRACKING"

    @property
    def reason(self) -> str:
        """Of the single object; of several: each that has one to tell."""
        if len(self.objects) < 2:
            return "".join(reason for _, reason, _ in self.objects.values())
        told = [
            f"{name} {state}" + (f" ({reason})" if reason else "")
            for name, (state, reason, _) in self.objects.items()
            if reason or state != "TRACKING"
        ]
        return ", ".join(told)

    def _values(self, now: float) -> dict[str, str]:
        silence = self.stream.silence(now)
        several: dict[str, str] = {}
        if len(self.objects) > 1:
            for name, (state, reason, iou) in self.objects.items():
                several |= {f"{name} state": state, f"{name} reason": reason, f"{name} silhouette IoU": f"{iou:.3f}"}
        return {
            "lifecycle state": self.lifecycle,
            "state": self.state,
            "reason": self.reason,
            "silhouette IoU": f"{min((iou for _, _, iou in self.objects.values()), default=0.0):.3f}",
            **several,
            "solve time median (ms)": milliseconds(self.solve_times, 50),
            "solve time p99 (ms)": milliseconds(self.solve_times, 99),
            "mask callback median (ms)": milliseconds(self.node_times, 50),
            "mask callback p99 (ms)": milliseconds(self.node_times, 99),
            "mask wait median (ms)": milliseconds(self.waits, 50),
            "mask wait p99 (ms)": milliseconds(self.waits, 99),
            "mask to pose median (ms)": milliseconds(self.latencies, 50),
            "mask to pose p99 (ms)": milliseconds(self.latencies, 99),
            "masks outdated": str(self.outdated),
            "input rate (Hz)": f"{self.stream.rate(now):.1f}",
            "masks received": str(self.stream.received),
            "masks dropped": str(self.stream.dropped),
            "masks late": str(self.stream.late),
            "masks from before a reset": str(self.stale),
            "frames": str(self.frames),
            "poses published": str(self.poses),
            "failures": str(self.failures),
            "last error": self.last_error,
            "mask age (s)": "none" if silence is None else f"{silence:.1f}",
            "camera_info age (s)": "none" if self.camera_time is None else f"{now - self.camera_time:.1f}",
            "camera_info problem": self.camera_problem,
        }
