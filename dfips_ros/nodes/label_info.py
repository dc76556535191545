# SPDX-License-Identifier: Apache-2.0
"""The message types of vision_msgs, where it is installed."""

from __future__ import annotations

import importlib
from typing import Any


def vision_message_type(name: str) -> Any:
    """The class vision_msgs/msg/<name>, or None where vision_msgs is not installed."""
    try:
        return getattr(importlib.import_module("vision_msgs.msg"), name)
    except (ImportError, AttributeError):
        return None
