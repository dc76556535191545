# SPDX-License-Identifier: Apache-2.0
"""What a figure was measured on: machine, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "dfips_ros",
    "numpy",
    "torch",
    "numba",
    "opencv-contrib-python-headless",
    "trimesh",
    "pyrender",
    "rclpy",
)


def processor_name() -> str:
    """Model name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb() -> float | None:
    """Memory of the machine in GB; None where it is unknown."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (OSError, ValueError):
        return None


def package_versions() -> dict[str, str]:
    """Versions of the packages that matter, those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Commit of the checkout that this code runs from, with "+" when it was changed; None outside a checkout."""
    folder = Path(__file__).resolve().parent
    for start in (folder, Path.cwd()):
        try:
            done = subprocess.run(
                ["git", "-C", str(start), "describe", "--always", "--dirty=+", "--abbrev=12"],
                capture_output=True, text=True, timeout=5, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        root = subprocess.run(
            ["git", "-C", str(start), "rev-parse", "--show-toplevel"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        if done.returncode == 0 and root and (Path(root) / "dfips_ros" / "solver").is_dir():
            return done.stdout.strip()
    return None


def describe_machine() -> dict:
    """All of the above as one dictionary for JSON."""
    return {
        "processor": processor_name(),
        "cores": usable_cores(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "memory_gb": memory_gb(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "ros_distro": os.environ.get("ROS_DISTRO"),
        "rmw": os.environ.get("RMW_IMPLEMENTATION"),
        "versions": package_versions(),
        "commit": commit(),
    }


def load_warning(machine: dict) -> str | None:
    """A sentence when other programs keep the machine busy, so that times are not those of the machine alone."""
    load = machine["load_average"]
    if load is None or load < 0.5 * machine["cores"]:
        return None
    return f"Other programs kept this machine busy (load {load:.1f} on {machine['cores']} cores): times are too long."


def machine_line(machine: dict) -> str:
    """One line for people."""
    return f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, Python {machine['python']}"
