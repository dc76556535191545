# SPDX-License-Identifier: Apache-2.0
"""Set up the environment of a checkout; `./run` calls this file, with the standard library alone.

It makes `.venv` in the checkout (`.venv-<distro>` where a ROS 2 is sourced, which is then used), installs the
versions that pyproject.toml pins, builds the messages and installs the package. Each step is stamped with a
digest of what it depends on: a second call has nothing to do, an interrupted one continues. The path of the
file to source is printed on stdout, everything else on stderr.

Environment variables:
    DFIPS_TORCH     cpu (default), cuda (the build on PyPI, gigabytes), or the address of a PyTorch index
    DFIPS_PYTHON    the Python to use (read by `./run`)
    DFIPS_NO_APT    1: neither look for Debian packages nor install any
"""

import contextlib
import ctypes
import fcntl
import glob
import hashlib
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROS_DISTRO = os.environ.get("ROS_DISTRO") if os.environ.get("AMENT_PREFIX_PATH") else None
VENV = ROOT / (f".venv-{ROS_DISTRO}" if ROS_DISTRO else ".venv")
LOGS, STATE, ENVIRONMENT = VENV / "log", VENV / "setup.json", VENV / "env.sh"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
SITE_PACKAGES = VENV / "lib" / PYTHON / "site-packages"
TORCH = os.environ.get("DFIPS_TORCH", "cpu")
TORCH_INDEX = "https://download.pytorch.org/whl/cpu/"
WHEEL_PYTHONS = ((3, 10), (3, 14))  # first and last version that ROS 2 Jazzy has wheels for
HEARTBEAT = 10.0  # seconds between two signs of life of a long step

# The one message of tf2_msgs that is used. PyPI has no tf2_msgs; a ROS 2 installation has.
TF2_MSGS = {
    "msg/TFMessage.msg": "geometry_msgs/TransformStamped[] transforms\n",
    "CMakeLists.txt": """cmake_minimum_required(VERSION 3.20)
project(tf2_msgs LANGUAGES C CXX)
find_package(ament_cmake REQUIRED)
find_package(geometry_msgs REQUIRED)
find_package(rosidl_default_generators REQUIRED)
rosidl_generate_interfaces(${PROJECT_NAME} "msg/TFMessage.msg" DEPENDENCIES geometry_msgs)
ament_package()
""",
    "package.xml": """<?xml version="1.0"?>
<package format="3">
  <name>tf2_msgs</name>
  <version>0.36.0</version>
  <description>TFMessage of tf2_msgs, generated for an environment without a ROS 2 installation.</description>
  <maintainer email="maintainers@dfips-ros.invalid">dfips_ros maintainers</maintainer>
  <license>BSD-3-Clause</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>geometry_msgs</depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
""",
}


class SetupError(Exception):
    """A step failed; the text says what to do."""


def say(text: str) -> None:
    print(f"dfips setup: {text}", file=sys.stderr, flush=True)


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def pins() -> str:
    """The [dependency-groups] table of pyproject.toml, as text (Python 3.10 has no TOML reader)."""
    return (ROOT / "pyproject.toml").read_text().split("\n[dependency-groups]\n", 1)[1].split("\n[", 1)[0]


def package_digest() -> str:
    """Digest of every file that gets installed, or says how."""
    paths = [ROOT / name for name in ("CMakeLists.txt", "package.xml", "setup.py")]
    for folder in ("dfips_ros", "launch", "config", "msg"):
        paths += sorted((ROOT / folder).rglob("*"))
    files = [path for path in paths if path.is_file() and "__pycache__" not in path.parts]
    return digest(*(f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files))


# --- running commands -------------------------------------------------------------------------------------


def child_environment() -> dict[str, str]:
    """Environment for pip and CMake: the virtual environment first, nothing of another one."""
    environment = dict(os.environ)
    for name in ("PYTHONHOME", "_ROS_WHEELS_BOOTSTRAP_COMPLETE", *(() if ROS_DISTRO else ("PYTHONPATH",))):
        environment.pop(name, None)
    if not ROS_DISTRO:
        environment["AMENT_PREFIX_PATH"] = environment["CMAKE_PREFIX_PATH"] = str(VENV)
        environment["CMAKE_GENERATOR"] = "Ninja"
    environment["PATH"] = f"{VENV / 'bin'}{os.pathsep}{environment['PATH']}"
    return environment | {"PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip()[:90] for line in reversed(lines) if line.strip()), "")


def call(log_name: str, *words: "str | Path") -> None:
    """Run a command, its output in the log; every HEARTBEAT seconds a sign of life. Raises SetupError."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log, start = LOGS / f"{log_name}.log", time.monotonic()
    command = [str(word) for word in words]
    with log.open("a") as output:
        output.write(f"\n$ {shlex.join(command)}\n")
        output.flush()
        # close_fds: hands on the lock. Should this process be killed, the next ./run waits for its child.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=child_environment(),
            close_fds=False,
        )
    try:
        while True:
            try:
                code = process.wait(HEARTBEAT)
                break
            except subprocess.TimeoutExpired:
                say(f"  {time.monotonic() - start:4.0f} s  {last_line(log)}")
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
        raise SetupError(
            f"`{shlex.join(command)}` failed with status {code}. The end of {log}:\n\n{tail}\n\n"
            "Repair the cause (often the network or a full disk) and call ./run again: it continues here. "
            f"Should that not help, start afresh: rm -rf {shlex.join([str(VENV), str(ROOT / 'build')])}"
        )


def pip(log_name: str, *words: "str | Path") -> None:
    call(log_name, VENV / "bin" / "python", "-m", "pip", "install", "--no-input", *words)


def pip_group(*groups: str, options: tuple[str, ...] = ()) -> None:
    named = [word for group in groups for word in ("--group", f"{ROOT / 'pyproject.toml'}:{group}")]
    pip(groups[0], *named, *options)


# --- the steps --------------------------------------------------------------------------------------------


def missing_debian_packages() -> list[str]:
    """Debian packages whose contents are not found on this machine."""
    missing = []
    if importlib.util.find_spec("ensurepip") is None:
        missing.append(f"{PYTHON}-venv")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        missing.append(f"{PYTHON}-dev")
    if shutil.which("g++") is None:
        missing.append("g++")
    for library, package in (("EGL.so.1", "libegl1"), ("OpenGL.so.0", "libopengl0"), ("GL.so.1", "libgl1")):
        try:
            ctypes.CDLL(f"lib{library}")
        except OSError:
            missing.append(package)
    if not glob.glob("/usr/lib*/dri/*_dri.so") + glob.glob("/usr/lib/*/dri/*_dri.so"):
        missing.append("libgl1-mesa-dri")
    return missing


def install_debian_packages() -> None:
    missing = [] if os.environ.get("DFIPS_NO_APT") == "1" else missing_debian_packages()
    if not missing:
        return
    line = f"apt-get install -y {' '.join(missing)}"
    if shutil.which("apt-get") is None:
        raise SetupError(
            f"Missing, by Debian's names: {' '.join(missing)}. Install what corresponds to them "
            "here, then call ./run again (DFIPS_NO_APT=1 skips this check)."
        )
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if sudo and (not shutil.which("sudo") or subprocess.run([*sudo, "true"], capture_output=True).returncode):
        raise SetupError(
            "Debian packages are missing and this user may not install them. Run this, then "
            f"./run again:\n\n  sudo {line}\n\n(DFIPS_NO_APT=1 skips this check.)"
        )
    say(f"  {line}")
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]
    with contextlib.suppress(SetupError):  # without fresh lists the packages may still be found
        call("system", *apt, "update")
    call("system", *apt, "install", "-y", "--no-install-recommends", *missing)


def make_venv() -> None:
    for path in VENV.iterdir():
        if path not in (LOGS, STATE):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    call("venv", sys.executable, "-m", "venv", *(["--system-site-packages"] if ROS_DISTRO else []), VENV)
    # The pip that comes with Python may be too old to read groups.
    pip("venv", *re.findall(r'"((?:pip|setuptools)==[^"]+)"', pins()))


def install_torch() -> None:
    """PyTorch, from its own index of CPU builds unless that is out of reach or another build is wanted."""
    index = {"cpu": TORCH_INDEX, "cuda": ""}.get(TORCH, TORCH)
    if index:
        try:
            urllib.request.urlopen(f"{index.rstrip('/')}/torch/", timeout=5).close()
        except (OSError, ValueError) as error:
            say(f"  {index} cannot be reached ({error})")
            say("  torch comes from pip's own index, where the build for Linux may bring CUDA (gigabytes)")
            index = ""
    pip_group("torch", options=("--extra-index-url", index) if index else ())


def install_packages() -> None:
    pip_group("run", "test", *(() if ROS_DISTRO else ("ros",)))


def prepare_ros_wheels() -> None:
    """Make the ROS 2 wheels fit for building messages, and add tf2_msgs.

    Their CMake files name the include folders of Python and numpy on the machine that built them.
    """
    numpy_include, python_include = str(SITE_PACKAGES / "numpy/_core/include"), sysconfig.get_path("include")
    for path in VENV.glob("share/*/cmake/*Export.cmake"):
        text = path.read_text()
        new = re.sub(r'(?<=[;"])/[^;"]*/numpy/_core/include', numpy_include, text)
        new = re.sub(r'(?<=[;"])/[^;"]*/include/python3\.\d+(?=[;"])', python_include, new)
        if new != text:
            path.write_text(new)

    source, build = VENV / "src" / "tf2_msgs", VENV / "src" / "tf2_msgs-build"
    shutil.rmtree(build, ignore_errors=True)
    for name, text in TF2_MSGS.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    call(
        "ros",
        VENV / "bin" / "cmake",
        "-S",
        source,
        "-B",
        build,
        "-DBUILD_TESTING=OFF",
        f"-DPython3_EXECUTABLE={VENV / 'bin' / 'python'}",
        f"-DCMAKE_INSTALL_PREFIX={VENV}",
    )
    call("ros", VENV / "bin" / "cmake", "--build", build, "--target", "install")


def install_package() -> None:
    pip("package", "--verbose", "--no-build-isolation", "--no-deps", "--force-reinstall", ROOT)
    # Numba caches compiled code by the time stamp of a module: keep it, so that only edited modules compile again.
    for source in (ROOT / "dfips_ros").rglob("*.py"):
        installed, times = SITE_PACKAGES / source.relative_to(ROOT), source.stat()
        os.utime(installed, ns=(times.st_atime_ns, times.st_mtime_ns))
    ENVIRONMENT.write_text(environment_script())


def compile_code() -> None:
    """Fill the cache of compiled code, so that the first start is as fast as the next. It is no error if that fails."""
    with contextlib.suppress(SetupError):
        call("compile", VENV / "bin" / "dfips", "warm")


def environment_script() -> str:
    """Text of the file to source. Variables of a sourced ROS 2 stay, after the virtual environment."""

    def prepend(name: str, folder: Path) -> str:
        return f'export {name}={shlex.quote(str(folder))}"${{{name}:+:${name}}}"'

    lines = [
        f"export VIRTUAL_ENV={shlex.quote(str(VENV))}",
        prepend("PATH", VENV / "bin"),
        # pyrender draws off-screen; without the second one its import wants X libraries.
        'export PYOPENGL_PLATFORM="${PYOPENGL_PLATFORM:-egl}" PYGLET_HEADLESS="${PYGLET_HEADLESS:-1}"',
        "unset PYTHONHOME _ROS_WHEELS_BOOTSTRAP_COMPLETE",
    ]
    if ROS_DISTRO:
        lines += [
            prepend("AMENT_PREFIX_PATH", VENV),
            prepend("LD_LIBRARY_PATH", VENV / "lib"),
            prepend("PYTHONPATH", SITE_PACKAGES),
        ]
    else:  # the wheels find their libraries themselves, and have one middleware
        lines += [
            f"export AMENT_PREFIX_PATH={shlex.quote(str(VENV))} RMW_IMPLEMENTATION=rmw_fastrtps_cpp",
            "unset PYTHONPATH",
        ]
    return "\n".join(lines) + "\n"


def check_platform() -> str:
    """What the whole environment depends on. Raises SetupError where no ROS 2 can be had."""
    if ROS_DISTRO:
        spec = importlib.util.find_spec("rclpy")
        if spec is None:
            raise SetupError(
                f"ROS 2 {ROS_DISTRO} is sourced, but {PYTHON} ({sys.executable}) cannot import "
                "its rclpy. Choose the Python that ROS uses, DFIPS_PYTHON=/usr/bin/python3 ./run "
                "for example, or call ./run in a shell without ROS."
            )
        return f"{ROS_DISTRO} {spec.origin}"
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise SetupError(
            f"There are no ROS 2 wheels for {platform.system()} {platform.machine()}: "
            "install ROS 2 Jazzy and source it before ./run."
        )
    first, last = WHEEL_PYTHONS
    if not first <= sys.version_info[:2] <= last:
        raise SetupError(
            f"There are no ROS 2 Jazzy wheels for {PYTHON} ({sys.executable}), only for "
            f"3.{first[1]} to 3.{last[1]}. Name another, DFIPS_PYTHON=python3.12 ./run, or source "
            "a ROS 2."
        )
    return "wheels"


def set_up() -> None:
    """Do the steps that are not done. A step's key is a digest of what it and those before it depend on."""
    base = " ".join([check_platform(), PYTHON, os.path.realpath(sys.executable), str(VENV)])
    steps = [
        ("system", "Debian packages", base, install_debian_packages),
        ("venv", f"virtual environment {VENV}", "", make_venv),
        ("torch", f"PyTorch ({TORCH})", TORCH, install_torch),
        ("packages", f"Python packages{'' if ROS_DISTRO else ' and ROS 2 Jazzy'}", pins(), install_packages),
        ("ros", "tf2_msgs", digest(*TF2_MSGS.values()), prepare_ros_wheels),
        ("package", "dfips_ros: messages and modules", package_digest(), install_package),
        ("compile", "compiled code", "", compile_code),
    ]
    if ROS_DISTRO:
        steps = [step for step in steps if step[0] != "ros"]

    VENV.mkdir(exist_ok=True)
    done = json.loads(STATE.read_text()) if STATE.exists() else {}
    start, key = time.monotonic(), ""
    for number, (name, title, depends_on, action) in enumerate(steps, start=1):
        key = digest(key, depends_on)
        if done.get(name) == key:
            continue
        say(f"[{number}/{len(steps)}] {title} ...")
        before = time.monotonic()
        action()
        done[name] = key
        temporary = STATE.with_suffix(".new")
        temporary.write_text(json.dumps(done, indent=1))
        temporary.replace(STATE)
        now = time.monotonic()
        say(f"[{number}/{len(steps)}] done in {now - before:.1f} s ({now - start:.0f} s in all)")


def main() -> int:
    lock = os.open(ROOT, os.O_RDONLY)
    os.set_inheritable(lock, True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another ./run that is setting up")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        set_up()
    except SetupError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next ./run continues here")
        return 130
    print(ENVIRONMENT)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
