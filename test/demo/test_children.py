# SPDX-License-Identifier: Apache-2.0
"""Child processes are stopped, and their crashes shown."""

import os
import sys
import time

import pytest

from dfips_ros.cli import demo_run
from dfips_ros.cli.children import ChildError, Children
from dfips_ros.cli.demo_parts import real_part


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_events_are_read_and_the_child_is_stopped(tmp_path):
    code = "import time; print('noise'); print('{\"event\": 1}', flush=True); time.sleep(60)"
    events = []
    with Children() as children:
        child = children.start("c", [sys.executable, "-c", code], tmp_path, {}, events.append)
        assert wait_until(lambda: events)
        assert child.memory_mb() > 1
        assert child.exit_code is None
        children.check()
    assert events == [{"event": 1}]
    assert not alive(child.pid)


def test_a_child_that_ignores_signals_is_killed_with_what_it_started(tmp_path):
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('{\"pid\": %d}' % inner.pid, flush=True)\n"
        "while True: time.sleep(1)"
    )
    events = []
    with Children() as children:
        child = children.start("c", [sys.executable, "-c", code], tmp_path, {}, events.append)
        assert wait_until(lambda: events)
    assert child.exit_code is not None
    assert wait_until(lambda: not alive(events[0]["pid"]) or is_zombie(events[0]["pid"]))


def is_zombie(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_crash_is_shown_with_the_end_of_its_log(tmp_path):
    with Children() as children:
        child = children.start("worker", [sys.executable, "-c", "raise RuntimeError('out of paper')"], tmp_path, {})
        assert wait_until(lambda: child.exit_code is not None)
        with pytest.raises(ChildError, match=r"(?s)worker ended with exit code 1.*out of paper"):
            children.check()


def test_children_stop_when_the_block_fails(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with Children() as children:
            child = children.start("c", [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, {})
            raise ZeroDivisionError
    assert not alive(child.pid)


@pytest.mark.ros
def test_a_tracker_that_crashes_ends_the_demo_with_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(
        demo_run, "tracker_command", lambda part, parameters: [sys.executable, "-c", "raise RuntimeError('no lens')"]
    )
    with pytest.raises(ChildError, match=r"(?s)pose_tracker ended with exit code 1.*no lens"):
        demo_run.run_part(real_part("foam_brick", 1.0), tmp_path, {}, progress=False)


def test_a_node_that_refuses_its_parameters_is_not_waited_for(tmp_path):
    log = "[ERROR] [1.5] [arm.ik_solver]: cannot configure: weights: no file 'x'."
    code = f"import sys, time; sys.stderr.write({log!r}); sys.stderr.flush(); time.sleep(60)"
    with Children() as children:
        child = children.start("ik_solver", [sys.executable, "-c", code], tmp_path, {})
        assert wait_until(lambda: child.log.stat().st_size > 0)
        with pytest.raises(ChildError, match=r"^ik_solver: cannot configure: weights: no file 'x'\.$"):
            children.check()
