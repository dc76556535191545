# SPDX-License-Identifier: Apache-2.0
"""Stand-in of ROS 2's launch classes, and what is read from what they were given."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


class Given:
    """Stand-in of a launch class: keeps what it was made with."""

    def __init__(self, *arguments, **options):
        self.arguments = arguments
        self.options = options

    def perform(self, context):
        return context[self.arguments[0]]


def overrides(node):
    """Parameters that were given, unwrapped."""
    given = node["parameters"][1] if len(node["parameters"]) > 1 else {}
    return {name: value.arguments[0] if isinstance(value, Given) else value for name, value in given.items()}


def unwrapped(value):
    """What was given, in plain Python, for comparison."""
    if isinstance(value, Given):
        return type(value).__name__, unwrapped(value.arguments), unwrapped(value.options)
    if isinstance(value, dict):
        return {key: unwrapped(each) for key, each in value.items()}
    return [unwrapped(each) for each in value] if isinstance(value, (list, tuple)) else value


def shown(name):
    """Topics of an RViz file: name -> how it is shown."""
    displays = yaml.safe_load((ROOT / "config" / f"{name}.rviz").read_text())["Visualization Manager"]["Displays"]
    topics = [display[key] for display in displays for key in ("Topic", "Description Topic") if key in display]
    return {topic["Value"]: topic for topic in topics}
