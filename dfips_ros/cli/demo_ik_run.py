# SPDX-License-Identifier: Apache-2.0
"""Run the demo of inverse kinematics: solver, arm and target as three processes over real ROS 2 topics."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..evaluation.ik_path import ANGLE_LIMIT, POSITION_LIMIT, TargetPath, pose_errors
from ..processes.kinematics import SerialChain
from .children import ChildError, Children
from .demo_run import LAST_WORDS_SECONDS, POLL_SECONDS, START_SECONDS, private_environment

STATUS_NAMES = ("FAILED", "SOLVED", "APPROXIMATE", "REFUSED")  # of dfips_ros/msg/JointSolution


@dataclass
class FollowRecord:
    """What happened: one event per target that was sent, per answer and per command that arrived."""

    targets: list[dict] = field(default_factory=list)
    solutions: list[dict] = field(default_factory=list)
    commands: list[dict] = field(default_factory=list)
    memory_mb: float | None = None


def follow(
    path: TargetPath, chain: SerialChain, urdf: Path, log_folder: Path, parameters: Mapping[str, object],
    progress: bool = True,
) -> FollowRecord:  # fmt: skip
    """Let the node follow a path.

    Args:
        path: where the target goes.
        chain: the arm.
        urdf: its file.
        log_folder: made if needed; the processes' logs go there.
        parameters: of the node, beside the arm.
        progress: show a bar on stderr.

    Raises:
        ChildError: a process ended early; the message holds the end of its log.
    """
    log_folder.mkdir(parents=True, exist_ok=True)
    record, phase = FollowRecord(), {"started": False, "finished": False}
    kinds = {"target": record.targets, "solution": record.solutions, "command": record.commands}

    def heard(event: dict) -> None:
        if event["event"] in kinds:
            kinds[event["event"]].append(event)
        else:
            phase[event["event"]] = True

    arm = ["--urdf", str(urdf), "--tip", chain.tip, "--base", chain.base]
    values: dict[str, object] = {"urdf": str(urdf), "tip": chain.tip, "base": chain.base, **parameters}
    settings = [word for name, value in values.items() for word in ("-p", f"{name}:={json.dumps(value)}")]
    python, environment = [sys.executable, "-m"], private_environment()
    light = {**environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="dfips_demo_") as scratch, Children() as children:
        file = Path(scratch) / "path.npz"
        np.savez(file, poses=path.poses, rate=path.rate, frame_id=chain.base)
        solver = children.start(
            "ik_solver", [*python, "dfips_ros.nodes.ik_solver", "--ros-args", *settings], log_folder, environment
        )  # fmt: skip
        start = ["--start", *(f"{q:.9f}" for q in path.start)]
        command = [*python, "dfips_ros.nodes.demo_arm", *arm, *start]
        remapping = ["--ros-args", "-r", "joint_command:=/ik_solver/joint_command"]
        children.start("demo_arm", [*command, *remapping], log_folder, light)
        target = children.start(
            "demo_target", [*python, "dfips_ros.nodes.demo_target", str(file), "--timeout", str(START_SECONDS)],
            log_folder, light, heard,
        )  # fmt: skip
        with tqdm(total=len(path.poses), desc="following", unit="target", disable=not progress or None) as bar:
            while target.exit_code is None:
                children.check()
                if solver.exit_code is not None:
                    raise ChildError(f"The solver ended early. Its log ({solver.log}) ends with:\n{solver.log_tail()}")
                bar.update(len(record.targets) - bar.n)
                if not phase["started"]:
                    bar.set_postfix_str(f"starting the nodes, {time.monotonic() - solver.started:.0f} s")
                time.sleep(POLL_SECONDS)
            time.sleep(LAST_WORDS_SECONDS)
            bar.update(len(record.targets) - bar.n)
        record.memory_mb = solver.memory_mb()
        if not phase["finished"]:
            raise ChildError(
                f"The target stopped early. Its log ({target.log}) ends with:\n{target.log_tail()}\n"
                f"The solver's log ({solver.log}) ends with:\n{solver.log_tail()}"
            )
    return record


def summarise(path: TargetPath, chain: SerialChain, record: FollowRecord) -> dict:
    """The figures of a run; poses of the answers are checked by Pinocchio's own forward kinematics.

    A target that a newer one replaced while the solver was at work has no answer: it was dropped.
    """
    answers = {event["stamp_ns"]: event for event in record.solutions}
    pairs = [(path.poses[e["index"]], answers[e["stamp_ns"]]) for e in record.targets if e["stamp_ns"] in answers]
    solved = [(pose, answer) for pose, answer in pairs if STATUS_NAMES[answer["status"]] == "SOLVED"]
    reached = np.array([chain.reference(answer["positions"]) for _, answer in solved]).reshape(-1, 4, 4)
    distance, angle = pose_errors(reached, np.array([pose for pose, _ in solved]).reshape(-1, 4, 4))
    within = int(np.sum((distance < POSITION_LIMIT) & (angle < ANGLE_LIMIT)))
    commands = np.array([event["positions"] for event in record.commands]).reshape(-1, len(chain.names))
    steps = np.abs(np.diff(commands, axis=0)).max(axis=1) if len(commands) > 1 else np.zeros(0)
    refused = [event["reason"] for event in record.solutions if event["reason"]]
    return {
        "targets": len(record.targets),
        "rate_hz": path.rate,
        "dropped": len(record.targets) - len(pairs),
        "answers": len(pairs),
        "solved": within,
        "success_percent": 100.0 * within / max(len(pairs), 1),
        "statuses": {name: sum(a["status"] == i for _, a in pairs) for i, name in enumerate(STATUS_NAMES)},
        "position_error_mm": _spread(1e3 * distance),
        "orientation_error_deg": _spread(np.degrees(angle)),
        "solve_ms": _spread(np.array([1e3 * a["solve_time"] for _, a in pairs])),
        "latency_ms": _spread(np.array([1e-6 * (a["received_ns"] - a["stamp_ns"]) for _, a in pairs])),
        "jump_worst": max((a["jump"] for _, a in solved), default=None),
        "commands": len(commands),
        "worst_joint_step": float(steps.max()) if len(steps) else None,
        "tip_behind_target_mm": _spread(_lag(path, chain, record, commands)),
        "first_reasons": refused[:3],
        "memory_mb": record.memory_mb,
    }


def _lag(path: TargetPath, chain: SerialChain, record: FollowRecord, commands: np.ndarray) -> np.ndarray:
    """How far each command [mm] is from the newest target at its arrival."""
    if not len(commands) or not record.targets:
        return np.zeros(0)
    stamps = np.array([event["stamp_ns"] for event in record.targets])
    newest = np.searchsorted(stamps, [event["received_ns"] for event in record.commands], side="right") - 1
    picked = newest >= 0
    targets = path.poses[[record.targets[i]["index"] for i in newest[picked]]]
    return 1e3 * pose_errors(chain.forward(commands[picked]), targets)[0]


def _spread(values: np.ndarray) -> dict[str, float | None]:
    if not len(values):
        return {"median": None, "p99": None, "max": None}
    return {
        "median": float(np.median(values)), "p99": float(np.percentile(values, 99)), "max": float(values.max())
    }  # fmt: skip


def failures(summary: Mapping[str, object], step_limit: float) -> list[str]:
    """What went wrong, in words; empty when nothing did."""
    problems = []
    if not summary["answers"]:
        problems.append("no target was answered.")
    if summary["solved"] != summary["answers"]:
        problems.append(
            f"{summary['solved']} of {summary['answers']} answers were within 1 mm and 0.1 degrees; "
            f"reasons: {summary['first_reasons']}."
        )
    worst = summary["worst_joint_step"]
    if not isinstance(worst, float) or worst > step_limit * (1 + 1e-6):
        problems.append(f"the worst step of a joint is {worst}, allowed are {step_limit:.4f}.")
    return problems


def table(summary: Mapping, names: Sequence[str]) -> str:
    """The figures for people."""

    def spread(key: str, unit: str) -> str:
        numbers = summary[key]
        if numbers["median"] is None:
            return "none"
        return f"{numbers['median']:.4g} {unit} median, {numbers['p99']:.4g} p99, {numbers['max']:.4g} worst"

    worst = summary["worst_joint_step"]
    rows = {
        "joints": ", ".join(names),
        "targets": f"{summary['targets']} at {summary['rate_hz']:g} Hz, {summary['dropped']} replaced by newer ones",
        "solved (<1 mm, <0.1 deg)": f"{summary['solved']} of {summary['answers']} answers",
        "position error": spread("position_error_mm", "mm"),
        "orientation error": spread("orientation_error_deg", "deg"),
        "solver": spread("solve_ms", "ms"),
        "target out to answer in": spread("latency_ms", "ms"),
        "worst step of a joint": "none" if worst is None else f"{worst:.5f} rad in one command",
        "commanded tip to target": spread("tip_behind_target_mm", "mm"),
    }
    width = max(map(len, rows))
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in rows.items())
