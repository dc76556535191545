# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM end ROS, and nothing is torn down before that is through."""

from __future__ import annotations

import signal
import socket
import threading
from types import FrameType, TracebackType

import rclpy
from rclpy.signals import SignalHandlerOptions

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class RosUntilSignal:
    """Initialises rclpy; a signal then shuts it down, which ends every spin, and a second one interrupts.

    rclpy's own handler does the same in a thread that nobody waits for: it may still touch guard conditions when the
    woken main thread already destroys them. Here the thread is joined on exit. Enter in the main thread, and destroy
    executor and nodes after the exit.

    Args:
        args: command line with ROS arguments; None: that of the process.

    Raises:
        Exception: of ``rclpy.init``, when entered.
    """

    def __init__(self, args: list[str] | None = None) -> None:
        self._args = args
        self._count = 0

    def __enter__(self) -> RosUntilSignal:
        rclpy.init(args=self._args, signal_handler_options=SignalHandlerOptions.NO)
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        self._previous_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        # The byte arrives even while the main thread waits inside the middleware, where no Python handler runs.
        self._thread = threading.Thread(target=self._shut_down_on_signal, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._previous_fd)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._writer.close()
        self._thread.join()
        self._reader.close()

    @property
    def received(self) -> bool:
        """A signal has come."""
        return self._count > 0

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            raise KeyboardInterrupt

    def _shut_down_on_signal(self) -> None:
        while received := self._reader.recv(1):
            if received[0] in SIGNALS:
                rclpy.try_shutdown()
