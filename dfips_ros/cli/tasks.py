# SPDX-License-Identifier: Apache-2.0
"""Which module of this folder does which task of which command: the one place to register another.

A module has ``DESCRIPTION`` (its first line is the summary in lists), ``add_arguments(parser)`` and ``run(options)``,
and imports nothing slow before ``run``.
"""

from __future__ import annotations

SUMMARIES = {
    "demo": "see a task at work over ROS 2 topics, compared with the truth",
    "solve": "solve one problem: an object's pose in a mask, for example",
    "train": "train the solver of a task",
    "evaluate": "compare methods on the same inputs and write a CSV",
    "reproduce": "make a table or figure of the paper again, training included",
    "replay": "run a task on a recording (rosbag2: mcap, sqlite3) and write another one, without ROS",
    "table": "turn a CSV of `dfips evaluate` or `dfips bench` into a Markdown table",
    "bench": "measure time and memory on this machine",
    "warm": "compile now what the first start would wait for",
}

# command -> task -> module
TASKS = {
    "demo": {
        "object_pose": "demo_pose", "inverse_kinematics": "demo_ik", "illumination": "demo_light", "bag": "demo_bag",
    },
    "solve": {
        "object_pose": "solve_pose", "inverse_kinematics": "solve_ik", "illumination": "solve_illumination",
        "deblocking": "solve_deblocking",
    },
    "train": {
        "object_pose": "train_pose", "inverse_kinematics": "train_ik", "illumination": "train_illumination",
        "deblocking": "train_deblocking",
    },
    "evaluate": {
        "object_pose": "evaluate_pose", "illumination": "evaluate_illumination", "deblocking": "evaluate_deblocking",
    },
    "reproduce": {
        "table-1": "reproduce_table_1", "table-2": "reproduce_table_2", "table-3": "reproduce_table_3",
        "table-4": "reproduce_table_4", "figure-1": "reproduce_figure_1", "figure-2": "reproduce_figure_2",
        "figure-3": "reproduce_figure_3", "figure-4": "reproduce_figure_4",
        "explicit-feedback": "reproduce_explicit_feedback", "ablation": "reproduce_ablation", "all": "reproduce_all",
    },
    "replay": {"object_pose": "replay_pose", "inverse_kinematics": "replay_ik", "deblocking": "replay_deblocking"},
    "bench": {
        "object_pose": "bench_pose", "inverse_kinematics": "bench_ik", "illumination": "bench_light",
        "deblocking": "bench_deblocking", "scaling": "bench_scaling", "ros": "bench_ros", "memory": "bench_memory",
    },
}

# task -> short name, understood by every command: `dfips bench ik` is `dfips bench inverse_kinematics`.
SHORT_NAMES = {"object_pose": "pose", "inverse_kinematics": "ik", "illumination": "light", "deblocking": "jpeg"}

# Commands that are this task's when none is named: `dfips demo --seconds 10` is `dfips demo object_pose --seconds 10`.
DEFAULT_TASKS = {"demo": "object_pose", "bench": "object_pose"}

# Commands whose task may be left out before a file: `dfips replay in.mcap` is `dfips replay object_pose in.mcap`.
FILE_TASKS = {"replay": "object_pose"}

# Commands without tasks; the module has the command's name.
PLAIN = ("table", "warm")
