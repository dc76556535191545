# SPDX-License-Identifier: Apache-2.0
"""Compiled work on several threads, without a second compilation for it."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba as nb


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 1), thread_name_prefix="dfips")


def for_each(count: int, work: Callable[[int], None]) -> None:
    """Call ``work(i)`` for each i < count, on as many threads as numba may use; ``work`` should release the GIL.

    An exception of ``work`` is raised here, once all threads have stopped.
    """
    helpers = min(count, nb.get_num_threads()) - 1
    numbers = itertools.count()

    def take() -> None:
        while (i := next(numbers)) < count:
            work(i)

    others = [_pool().submit(take) for _ in range(helpers)]
    try:
        take()
    finally:
        for other in others:
            other.result()


def for_each_alone(count: int, work: Callable[[int], None]) -> None:
    """As :func:`for_each`; of several calls each keeps compiled code that it calls on its own thread."""
    if count < 2:
        for_each(count, work)
        return

    def alone(i: int) -> None:
        with one_compiled_thread():
            work(i)

    for_each(count, alone)


@contextlib.contextmanager
def one_compiled_thread() -> Iterator[None]:
    """Keep compiled code that is called from the present thread on it: the others have work of their own."""
    threads: Any = nb.get_num_threads()
    nb.set_num_threads(1)
    try:
        yield
    finally:
        nb.set_num_threads(threads)
