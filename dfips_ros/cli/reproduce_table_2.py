# SPDX-License-Identifier: Apache-2.0
"""``dfips reproduce table-2``."""

from __future__ import annotations

from .reproduce_paper import SHARED, add_arguments, run

DESCRIPTION = f"""\
Make table 2 again: errors after 1, 3, 5 (2, 7) unrolled steps of three tasks.

Object pose is trained here; the shipped stages of pose, illumination and inverse kinematics are judged too.
{SHARED}
examples:
  dfips reproduce table-2 --quick
  dfips reproduce table-2 --minutes 240 --bfloat16
Then show it with: dfips table 2
"""

__all__ = ["DESCRIPTION", "add_arguments", "run"]
