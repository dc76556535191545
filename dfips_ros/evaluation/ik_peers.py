# SPDX-License-Identifier: Apache-2.0
"""Other inverse kinematics solvers, as functions (target (4, 4), seed (n,)) -> joint positions or None.

None of them is needed by this package; those that are installed take part in ``dfips bench inverse_kinematics``. They
get a URDF that holds the arm alone (:func:`write_plain_urdf`).
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ..errors import DfipsError
from ..processes.kinematics import SerialChain
from ..processes.urdf import read_urdf

Solver = Callable[[np.ndarray, np.ndarray], "np.ndarray | None"]
TURNS = 4 * np.pi  # limits of joints that turn without end, for solvers that want some
INSTALL = (
    "pip install pytracik roboticstoolbox-python optik-py ssik pin-pink daqp qpsolvers; apt-get install python3-pykdl"
)


class PeerError(DfipsError):
    """A peer cannot solve for this arm."""


@dataclass(frozen=True)
class PeerArm:
    """What a peer is told of an arm.

    Attributes:
        name: of the robot.
        urdf: file with this arm and nothing else.
        chain: the arm; forward kinematics, limits, links.
        timeout: seconds for one target.
    """

    name: str
    urdf: Path
    chain: SerialChain
    timeout: float

    @property
    def lower(self) -> np.ndarray:
        """(n,) limits; joints that turn without end have wide ones."""
        return np.where(self.chain.wraps, -TURNS, self.chain.lower)

    @property
    def upper(self) -> np.ndarray:
        """(n,), as :attr:`lower`."""
        return np.where(self.chain.wraps, TURNS, self.chain.upper)

    def forward(self, positions: np.ndarray) -> np.ndarray:
        """T_base_tip (4, 4)."""
        return self.chain.forward(np.asarray(positions, dtype=np.float64)[None])[0]


def write_plain_urdf(source: str | Path, chain: SerialChain, path: Path) -> None:
    """Write a URDF with the links from base to tip, their joints and limits, and nothing else.

    Visuals, inertias, other branches and ``<safety_controller>`` tags, on which some solvers stumble, are left out;
    joints that turn without end become revolute ones with wide limits.

    Raises:
        PeerError: the arm has joints that mimic others.
    """
    root = ElementTree.fromstring(read_urdf(source)[0])
    above = {_end(joint, "child"): joint for joint in root.iterfind("joint")}
    plain = ElementTree.Element("robot", {"name": root.get("name", "arm")})
    link, joints = chain.tip, []
    while link != chain.base:
        joint = above[link]
        if joint.find("mimic") is not None:
            raise PeerError(f"joint '{joint.get('name')}' mimics another one; peers are not asked for such arms.")
        joints.append(joint)
        ElementTree.SubElement(plain, "link", {"name": link})
        link = _end(joint, "parent")
    ElementTree.SubElement(plain, "link", {"name": chain.base})
    for joint in reversed(joints):
        for child in list(joint):
            if child.tag not in ("parent", "child", "origin", "axis", "limit"):
                joint.remove(child)
        if joint.get("type") == "continuous":
            joint.set("type", "revolute")
            for limit in joint.findall("limit"):
                joint.remove(limit)
            wide = {"lower": f"{-TURNS}", "upper": f"{TURNS}", "effort": "1", "velocity": "1"}
            ElementTree.SubElement(joint, "limit", wide)
        plain.append(joint)
    path.write_text(ElementTree.tostring(plain, encoding="unicode"))


def _end(joint: ElementTree.Element, tag: str) -> str:
    """The link above (``parent``) or below (``child``) a joint."""
    element = joint.find(tag)
    return "" if element is None else element.get("link", "")


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as cause:
        raise PeerError(f"{name} is not installed ({cause}).") from cause


def _check_forward(arm: PeerArm, forward: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The constant T from a peer's tip to ours, checked on other joint positions. -> (4, 4)."""
    rng = np.random.default_rng(0)
    q, others = rng.uniform(arm.lower, arm.upper), rng.uniform(arm.lower, arm.upper, (3, len(arm.lower)))
    offset = np.linalg.inv(forward(q)) @ arm.forward(q)
    worst = max(float(np.abs(forward(p) @ offset - arm.forward(p)).max()) for p in others)
    if worst > 1e-5:
        raise PeerError(f"its forward kinematics differs from Pinocchio's by {worst:.2g}: another arm than ours.")
    return offset


def _tracik(arm: PeerArm) -> Solver:
    solver = _module("trac_ik").TracIK(
        arm.chain.base, arm.chain.tip, str(arm.urdf), timeout=arm.timeout, epsilon=1e-5, solver_type="Speed"
    )  # fmt: skip
    return lambda target, seed: solver.ik(target[:3, 3], target[:3, :3], seed)


def _robotics_toolbox(arm: PeerArm) -> Solver:
    toolbox = _module("roboticstoolbox")
    robot = (toolbox.Robot if hasattr(toolbox.Robot, "URDF") else toolbox.ERobot).URDF(str(arm.urdf))
    chain = robot.ets(start=arm.chain.base, end=arm.chain.tip)
    _check_forward(arm, lambda q: chain.fkine(q).A)
    return lambda target, seed: chain.ik_LM(
        target, q0=seed, ilimit=30, slimit=100, tol=1e-10, joint_limits=True
    ).q  # fmt: skip


def _optik(arm: PeerArm) -> Solver:
    optik = _module("optik")
    robot = optik.Robot.from_urdf_file(str(arm.urdf), arm.chain.base, arm.chain.tip)
    robot.set_parallelism(1)
    _check_forward(arm, lambda q: np.array(robot.fk(q.tolist())))
    config = optik.SolverConfig(solution_mode="speed", max_time=arm.timeout, tol_f=1e-12)

    def solve(target: np.ndarray, seed: np.ndarray) -> np.ndarray | None:
        found = robot.ik(config, target, seed.tolist())
        return None if found is None else np.array(found[0] if isinstance(found, tuple) else found)

    return solve


SSIK_ARMS = {"panda": "franka.panda_ik", "ur5": "universal_robots.ur5_ik", "xarm7": "ufactory.xarm7_ik",
             "kinova": "kinova.j2s6s300_ik", "z1": "unitree.z1_ik"}  # fmt: skip


def _ssik(arm: PeerArm) -> Solver:
    _module("ssik")
    if arm.name not in SSIK_ARMS:
        raise PeerError(f"it has no solver for '{arm.name}'.")
    solver = _module(f"ssik.prebuilt.{SSIK_ARMS[arm.name]}")
    inverse = np.linalg.inv(_check_forward(arm, solver.fk))

    def solve(target: np.ndarray, seed: np.ndarray) -> np.ndarray | None:
        found = solver.solve(target @ inverse, q_seed=seed, max_solutions=1)
        return found[0].q if found else None

    return solve


def _pinocchio_model(arm: PeerArm) -> tuple[Any, Any, Any, int]:
    pin = _module("pinocchio")
    model = pin.buildModelFromUrdf(str(arm.urdf))
    return pin, model, model.createData(), model.getFrameId(arm.chain.tip)


def _pink(arm: PeerArm, iterations: int = 200) -> Solver:
    pink, tasks, limits = _module("pink"), _module("pink.tasks"), _module("pink.limits")
    pin, model, data, _ = _pinocchio_model(arm)
    configuration = pink.Configuration(model, data, 0.5 * (arm.lower + arm.upper))
    task = tasks.FrameTask(arm.chain.tip, position_cost=1.0, orientation_cost=1.0, lm_damping=1e-3)
    bounds = [limits.ConfigurationLimit(model)]

    def solve(target: np.ndarray, seed: np.ndarray) -> np.ndarray:
        begin = time.perf_counter()
        task.set_target(pin.SE3(target))
        configuration.update(seed.copy())
        for _ in range(iterations):
            if np.abs(task.compute_error(configuration)).max() < 1e-6 or time.perf_counter() - begin > arm.timeout:
                break
            velocity = pink.solve_ik(
                configuration, [task], 1.0, solver="daqp", limits=bounds, damping=1e-9, safety_break=False
            )  # fmt: skip
            if np.abs(velocity).max() < 1e-7:
                break
            configuration.update(np.clip(pin.integrate(model, configuration.q, velocity), arm.lower, arm.upper))
        return configuration.q.copy()

    return solve


def _clik(arm: PeerArm, step: float = 0.1, damping: float = 1e-12, tolerance: float = 1e-4) -> Solver:
    """The closed-loop inverse kinematics of Pinocchio's documentation; joints are wrapped into their limits."""
    pin, model, data, frame = _pinocchio_model(arm)

    def solve(target: np.ndarray, seed: np.ndarray) -> np.ndarray:
        begin, goal, q = time.perf_counter(), pin.SE3(target), seed.copy()
        while time.perf_counter() - begin < arm.timeout:
            pin.forwardKinematics(model, data, q)
            pin.updateFramePlacement(model, data, frame)
            way = data.oMf[frame].actInv(goal)
            error = pin.log(way).vector
            if np.linalg.norm(error) < tolerance:
                break
            jacobian = -pin.Jlog6(way.inverse()) @ pin.computeFrameJacobian(model, data, q, frame)
            velocity = -jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + damping * np.eye(6), error)
            q = pin.integrate(model, q, velocity * step)
        q = np.where(q > arm.upper, q - 2 * np.pi * np.ceil((q - arm.upper) / (2 * np.pi)), q)
        return np.where(q < arm.lower, q + 2 * np.pi * np.ceil((arm.lower - q) / (2 * np.pi)), q)

    return solve


def _kdl(arm: PeerArm) -> Solver:
    """Newton-Raphson with joint limits and random restarts until the deadline, as MoveIt's first plugin did."""
    kdl = _module("PyKDL")
    joints = {_end(joint, "child"): joint for joint in ElementTree.parse(arm.urdf).getroot().iterfind("joint")}
    order, link = [], arm.chain.tip
    while link != arm.chain.base:
        order.append(joints[link])
        link = _end(joints[link], "parent")
    chain = kdl.Chain()
    for joint in reversed(order):
        chain.addSegment(_kdl_segment(kdl, joint))
    n = len(arm.lower)
    low, high = kdl.JntArray(n), kdl.JntArray(n)
    for i in range(n):
        low[i], high[i] = arm.lower[i], arm.upper[i]
    forward, velocity = kdl.ChainFkSolverPos_recursive(chain), kdl.ChainIkSolverVel_pinv(chain)
    solver = kdl.ChainIkSolverPos_NR_JL(chain, low, high, forward, velocity, 100, 1e-5)
    rng = np.random.default_rng(7)

    def solve(target: np.ndarray, seed: np.ndarray, keep: tuple = (chain, low, high, forward, velocity)) -> np.ndarray:
        goal = kdl.Frame(
            kdl.Rotation(*target[:3, :3].ravel()), kdl.Vector(*target[:3, 3])
        )  # keep: KDL has raw pointers
        begin, q = time.perf_counter(), seed
        while True:
            start, found = kdl.JntArray(n), kdl.JntArray(n)
            for i in range(n):
                start[i] = q[i]
            code = solver.CartToJnt(start, goal, found)
            if code >= 0 or time.perf_counter() - begin > arm.timeout:
                return np.array([found[i] for i in range(n)])
            q = rng.uniform(arm.lower, arm.upper)

    return solve


def _kdl_segment(kdl: Any, joint: ElementTree.Element) -> Any:
    def numbers(tag: str, key: str, default: str) -> list[float]:
        element = joint.find(tag)
        return [float(word) for word in (default if element is None else element.get(key, default)).split()]

    placement = kdl.Frame(
        kdl.Rotation.RPY(*numbers("origin", "rpy", "0 0 0")), kdl.Vector(*numbers("origin", "xyz", "0 0 0"))
    )
    name, child = joint.get("name"), _end(joint, "child")
    if joint.get("type") == "fixed":
        return kdl.Segment(child, kdl.Joint(name, kdl.Joint.Fixed), placement)
    axis = placement.M * kdl.Vector(*numbers("axis", "xyz", "1 0 0"))
    kind = kdl.Joint.TransAxis if joint.get("type") == "prismatic" else kdl.Joint.RotAxis
    return kdl.Segment(child, kdl.Joint(name, placement.p, axis, kind), placement)


# name -> what it is called in tables, the distribution whose version is quoted, how it is made
PEERS: dict[str, tuple[str, str, Callable[[PeerArm], Solver]]] = {
    "tracik": ("TRAC-IK, Speed", "pytracik", _tracik),
    "rtb": ("Robotics Toolbox LM, 100 searches", "roboticstoolbox-python", _robotics_toolbox),
    "optik": ("OptIK", "optik-py", _optik),
    "ssik": ("ssik, analytic", "ssik", _ssik),
    "pink": ("pink, until it converges", "pin-pink", _pink),
    "clik": ("Pinocchio CLIK of its documentation", "pin", _clik),
    "kdl": ("KDL NR_JL with restarts", "PyKDL", _kdl),
}


def peer_version(name: str) -> str:
    """The installed version of a peer; empty where it is not known."""
    try:
        return metadata.version(PEERS[name][1])
    except metadata.PackageNotFoundError:
        return ""
