# SPDX-License-Identifier: Apache-2.0
"""Child processes of a command: started with a log, always stopped, their crashes shown."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType

from ..errors import DfipsError

PR_SET_PDEATHSIG = 1
STOP_SECONDS = (4.0, 2.0, 2.0)  # patience after SIGINT, SIGTERM and SIGKILL
LOG_TAIL_LINES = 25
REFUSALS = ("]: cannot configure: ", "]: cannot activate: ")  # what a node logs that waits for better parameters


class ChildError(DfipsError):
    """A child process ended when it should not have."""


def _die_with_parent() -> None:
    """In the child, before it starts: ask Linux for a SIGTERM when the parent dies."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    except (OSError, AttributeError):
        pass


class Child:
    """One process: stdout is read line by line as JSON events, stderr goes to a log file.

    Args:
        name: for messages.
        command: program and arguments.
        folder: working directory; the log ``<name>.log`` is written there.
        environment: variables to set beside the present ones.
        on_event: called for each JSON line, from a thread of its own.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        on_event: Callable[[dict], None] | None = None,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._on_event = on_event
        self._log_size = 0
        self.started = time.monotonic()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if on_event else log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        self._reader = threading.Thread(target=self._read, name=f"read-{name}", daemon=True)
        if on_event:
            self._reader.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def _read(self) -> None:
        assert self._process.stdout is not None and self._on_event is not None
        for line in self._process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # something else that was printed
            self._on_event(event)

    def log_tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:]) or "    (the log is empty)"

    def check(self) -> None:
        """Raise :class:`ChildError` if it has ended with an error (its log tells), or is a node that cannot start."""
        if (size := self.log.stat().st_size) != self._log_size:
            self._log_size = size
            for line in self.log.read_text(errors="replace").splitlines():
                if any(words in line for words in REFUSALS):
                    raise ChildError(f"{self.name}: {line.partition(']: ')[2]}")
        code = self.exit_code
        if code not in (None, 0):
            reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise ChildError(f"{self.name} ended with {reason}. Its log ({self.log}) ends with:\n{self.log_tail()}")

    def stop(self) -> None:
        """End it and everything it started: first politely, then not."""
        for signum, patience in zip((signal.SIGINT, signal.SIGTERM, signal.SIGKILL), STOP_SECONDS, strict=True):
            if self._process.poll() is not None:
                break
            try:
                os.killpg(self._process.pid, signum)
            except ProcessLookupError:
                break
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        if self._reader.is_alive():
            self._reader.join(2.0)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def memory_mb(self, field: str = "VmRSS") -> float | None:
        """Resident memory in MB (1e6 bytes): now with ``VmRSS``, its peak with ``VmHWM``. None where it is unknown."""
        try:
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024 / 1e6
        except (OSError, ValueError):
            pass
        return None


class Children:
    """A group of child processes that ends with the ``with`` block, also on SIGTERM."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._previous: object = None

    def __enter__(self) -> Children:
        def interrupted(signum: int, frame: FrameType | None) -> None:
            raise KeyboardInterrupt

        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, interrupted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            child.stop()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._previous or signal.SIG_DFL)  # type: ignore[arg-type]

    def start(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        on_event: Callable[[dict], None] | None = None,
    ) -> Child:
        """Start a process; the arguments are those of :class:`Child`."""
        child = Child(name, command, folder, environment, on_event)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raise :class:`ChildError` if one of them has ended with an error, or is a node that cannot start."""
        for child in self._children:
            child.check()
