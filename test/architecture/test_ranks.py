# SPDX-License-Identifier: Apache-2.0
"""The house plan: a module imports only modules of a lower rank, or of its own room."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "dfips_ros"
RANKS = {
    "errors": 0, "checks": 0, "geometry": 0, "bootstrap": 0, "solver": 1, "messages": 1, "bags": 1,
    "processes": 2, "networks": 2, "tasks": 3,
    "baselines": 3, "evaluation": 4, "cli": 5, "nodes": 5,
}  # fmt: skip
ROS_PACKAGES = {
    "rclpy", "sensor_msgs", "geometry_msgs", "std_msgs", "std_srvs", "tf2_msgs", "diagnostic_msgs", "cv_bridge",
    "visualization_msgs", "lifecycle_msgs", "rcl_interfaces", "trajectory_msgs", "moveit_msgs",
}  # fmt: skip


def room(module: str) -> str:
    """First name below the package: ``dfips_ros.tasks.object_pose.crop`` -> ``tasks``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def task(module: str) -> str:
    """``dfips_ros.tasks.object_pose.crop`` -> ``tasks.object_pose``; other rooms are one piece."""
    parts = module.split(".")
    return ".".join(parts[1:3]) if room(module) == "tasks" else room(module)


def module_name(file: Path) -> str:
    """Dotted name of a source file, packages without ``__init__``."""
    parts = file.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path) -> list[str]:
    """Absolute names of everything that a file imports, at the top or inside functions."""
    package = module_name(file).split(".")
    if file.name != "__init__.py":
        package = package[:-1]
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, node.module] if node.module else base)
            found += [prefix] + [f"{prefix}.{alias.name}" for alias in node.names]
    return found


FILES = sorted(f for f in SOURCE.rglob("*.py") if f != SOURCE / "__init__.py")


def test_there_are_files_to_check():
    assert len(FILES) > 30


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_point_to_lower_ranks(file):
    own = module_name(file)
    assert room(own) in RANKS, f"{own}: the plan has no room '{room(own)}'"
    for name in imports(file):
        if not name.startswith("dfips_ros.") or room(name) not in RANKS:
            continue
        higher = RANKS[room(name)] >= RANKS[room(own)]
        same_room = task(name) == task(own) or name in ("dfips_ros.tasks", "dfips_ros." + room(own))
        rank_zero = RANKS[room(own)] == RANKS[room(name)] == 0
        assert same_room or not higher or rank_zero, f"{own} imports {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_only_nodes_know_ros(file):
    used = {name.split(".")[0] for name in imports(file)} | {
        "dfips_ros.msg" for name in imports(file) if name.startswith(("dfips_ros.msg", "dfips_ros.srv"))
    }
    if room(module_name(file)) != "nodes":
        assert not used & (ROS_PACKAGES | {"dfips_ros.msg"})


def test_no_import_cycles():
    known = {module_name(f): f for f in FILES}
    graph = {name: {i for i in imports(file) if i in known and i != name} for name, file in known.items()}
    # A package's __init__ and its modules count as one where the module is imported through the package.
    state: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if state.get(name) == 2:
            return
        assert state.get(name) != 1, "import cycle: " + " -> ".join([*path, name])
        state[name] = 1
        for other in graph[name]:
            if not name.startswith(other + "."):
                visit(other, (*path, name))
        state[name] = 2

    for name in graph:
        visit(name, ())


def test_solver_is_light():
    code = (
        "import sys, dfips_ros.solver; "
        "heavy = {'rclpy', 'pyrender', 'pinocchio', 'cv2', 'trimesh', 'numba'} & set(sys.modules); "
        "print(sorted(heavy)); sys.exit(bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_package_itself_is_a_docstring():
    body = ast.parse((SOURCE / "__init__.py").read_text()).body
    assert len(body) == 1 and isinstance(body[0], ast.Expr)


def test_no_file_is_too_long():
    lengths = {str(f.relative_to(SOURCE)): len(f.read_text().splitlines()) for f in FILES}
    assert not {name: n for name, n in lengths.items() if n > 450}
