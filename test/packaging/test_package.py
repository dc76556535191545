# SPDX-License-Identifier: Apache-2.0
"""The package's files agree with one another, and what is installed is what is in the checkout."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import dfips_ros.errors

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "dfips_ros"
INSTALLED = Path(dfips_ros.errors.__file__).parent
PACKAGE_XML = ElementTree.parse(ROOT / "package.xml").getroot()
PYPROJECT = (ROOT / "pyproject.toml").read_text()
PINS = re.findall(r'^\s+"([^"]+)",$', PYPROJECT.split("[dependency-groups]")[1].split("\n[tool")[0], re.MULTILINE)

# Where a module's name is not the name of what pip installs.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "collada": "pycollada",
    "cv2": "opencv-contrib-python-headless",
    "pinocchio": "pin",
    "yaml": "pyyaml",
}
# Imported only where they are installed.
OPTIONAL = {"cv_bridge", "moveit_msgs", "h5py", "triton"}  # triton comes with PyTorch's CUDA builds


def source_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
    return names


def test_name_and_version_agree():
    expected = [PACKAGE_XML.findtext("name"), PACKAGE_XML.findtext("version")]
    assert expected == ["dfips_ros", "0.1.0"]
    cmake = re.search(r"project\((\S+) VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text())
    assert list(cmake.groups()) == expected
    words = [sys.executable, "setup.py", "--name", "--version"]
    setup = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert setup.stdout.split() == expected


def test_metadata_of_what_is_installed():
    try:
        installed = importlib.metadata.version("dfips_ros")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed by pip")
    assert installed == PACKAGE_XML.findtext("version")


def test_no_source_folder_hides_the_generated_messages():
    hidden = [name for name in ("msg", "srv", "action") if (SOURCE / name).exists()]
    assert not hidden
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    assert len(tree.body) == 1 and ast.get_docstring(tree), "dfips_ros/__init__.py is a docstring only"


def test_every_module_and_data_file_is_installed():
    for path in source_files(SOURCE):
        installed = INSTALLED / path.relative_to(SOURCE)
        assert installed.exists(), f"{path} is not installed"
        assert installed.read_bytes() == path.read_bytes(), f"{installed} is not what {path} is: run ./run again"


def test_launch_config_and_messages_are_in_share():
    index = pytest.importorskip("ament_index_python.packages")
    share = Path(index.get_package_share_directory("dfips_ros"))
    assert (share / "package.xml").exists()
    for folder in ("launch", "config"):
        for path in source_files(ROOT / folder):
            assert (share / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
    assert (share / "msg" / "TrackedObject.msg").exists()
    assert (share / "msg" / "JointSolution.msg").exists()
    assert (share / "srv" / "SetPose.srv").exists()


def test_executables_are_installed():
    index = pytest.importorskip("ament_index_python.packages")
    prefix = Path(index.get_package_prefix("dfips_ros"))
    for name in ("pose_tracker", "ik_solver", "demo_arm", "image_restorer"):
        assert os.access(prefix / "lib" / "dfips_ros" / name, os.X_OK)
    assert shutil.which("dfips")


def test_executables_do_not_import_from_the_current_folder(tmp_path):
    """Where the sources hide what is installed, or a user's file a module."""
    index = pytest.importorskip("ament_index_python.packages")
    (tmp_path / "dfips_ros").mkdir()
    (tmp_path / "dfips_ros" / "__init__.py").write_text("raise ImportError('of the current folder')\n")
    program = Path(index.get_package_prefix("dfips_ros")) / "bin" / "dfips"
    ran = subprocess.run([program, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("path", sorted([*SOURCE.rglob("*.py"), *(ROOT / "launch").rglob("*.py")]), ids=str)
def test_every_import_is_declared(path):
    declared = {element.text for element in PACKAGE_XML if element.tag in ("depend", "exec_depend")}
    pinned = {re.split(r"[\[=]", pin)[0] for pin in PINS} | {"torch"}
    for module in imported_modules(path) - set(sys.stdlib_module_names) - OPTIONAL - {"dfips_ros"}:
        distribution = DISTRIBUTIONS.get(module, module.replace("_", "-"))
        assert module in declared or distribution in pinned, (
            f"{path.name} imports {module}: declare it in package.xml, or pin it in pyproject.toml"
        )


def test_pins_are_exact():
    assert PINS
    loose = [pin for pin in PINS if not re.fullmatch(r"[\w-]+(\[\w+\])?==[\w.]+(; python_version .*)?", pin)]
    assert not loose


def test_continuous_integration_calls_the_test_command():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert lines[-1] == "./run test"


@pytest.mark.parametrize("name", ["run", ".ci/run"])
def test_scripts_are_executable_bash(name):
    assert os.access(ROOT / name, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / name], check=True)
