# SPDX-License-Identifier: Apache-2.0
"""Loads objects beside the callbacks of a node."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rclpy.node import Node
from rclpy.task import Future

from ..processes.threads import one_compiled_thread


class ObjectLoader:
    """Runs one slow job after the other in a thread, while the node's callbacks go on.

    Args:
        node: is woken when a job is done.
    """

    def __init__(self, node: Node) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="load_object")
        self._wake = node.create_guard_condition(lambda: None)

    def load(self, work: Callable[[], Any]) -> Future:
        """Start ``work``. -> what a coroutine awaits: its result; its error is raised there."""
        future: Future = Future()

        def run() -> None:
            try:
                with one_compiled_thread():
                    result = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            self._wake.trigger()

        self._threads.submit(run)
        return future

    def close(self) -> None:
        """Take no more work; what runs comes to its end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
