# SPDX-License-Identifier: Apache-2.0
"""The pip path: `pip install --no-build-isolation --no-deps .` where there is a ROS 2 (`./run` does this).

It runs the same CMake build as `colcon build`, so CMakeLists.txt says once what is built and where it goes.
Name, version and description come from package.xml.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from setuptools import setup
from setuptools.command.build_py import build_py

PACKAGE_XML = ElementTree.parse("package.xml").getroot()
NAME, VERSION, DESCRIPTION = (PACKAGE_XML.findtext(tag) for tag in ("name", "version", "description"))
BUILD = Path("build").resolve()
STAGE = BUILD / "stage"


def cmake_build() -> None:
    """Configure, build and install into STAGE. The build is kept until the environment is another one."""
    build_dir, key_file = BUILD / "cmake", BUILD / "cmake-environment"
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"):  # the sourced ROS 2, else this environment
        environment.setdefault(name, sys.prefix)
    key = "\n".join([sys.executable, sys.version, environment["AMENT_PREFIX_PATH"]])
    if not key_file.exists() or key_file.read_text() != key:
        shutil.rmtree(build_dir, ignore_errors=True)
    shutil.rmtree(STAGE, ignore_errors=True)

    settings = {"BUILD_TESTING": "OFF", "Python3_EXECUTABLE": sys.executable, "CMAKE_INSTALL_PREFIX": STAGE}
    for words in (
        ["-S", ".", "-B", build_dir, *(f"-D{name}={value}" for name, value in settings.items())],
        ["--build", build_dir, "--parallel", str(os.cpu_count() or 1)],
        ["--install", build_dir],
    ):
        if subprocess.run(["cmake", *words], env=environment).returncode:
            raise SystemExit("CMake failed and says why above. It needs a C++ compiler and a ROS 2.")
    key_file.write_text(key)


class CMakeBuild(build_py):
    """Take the Python package and the data files from STAGE instead of from the source tree."""

    def run(self) -> None:
        cmake_build()
        (package,) = STAGE.glob(f"lib/**/python3*/*-packages/{NAME}")
        shutil.rmtree(self.build_lib, ignore_errors=True)
        destination = Path(self.build_lib) / NAME
        shutil.copytree(package, destination, ignore=shutil.ignore_patterns("__pycache__"))
        for folder, _, files in os.walk(STAGE):
            relative = Path(folder).relative_to(STAGE)
            if files and relative.parts[0] != "bin" and not Path(folder).is_relative_to(package.parent):
                sources = [os.path.relpath(Path(folder) / file) for file in files]
                self.distribution.data_files.append((str(relative), sources))


BUILD.mkdir(exist_ok=True)
setup(
    name=NAME,
    version=VERSION,
    description=DESCRIPTION,
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[NAME],
    data_files=[],
    install_requires=["numpy", "torch"],
    entry_points={"console_scripts": ["dfips = dfips_ros.cli.main:main"]},
    has_ext_modules=lambda: True,  # compiled message code: a wheel is for one Python and platform
    cmdclass={"build_py": CMakeBuild},
    options={"egg_info": {"egg_base": "build"}},
)
