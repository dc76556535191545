# SPDX-License-Identifier: Apache-2.0
"""``dfips reproduce figure-3``."""

from __future__ import annotations

from .reproduce_paper import SHARED, add_arguments, run

DESCRIPTION = f"""\
Make figure 3 again: poses stage by stage, with recoveries and failures, and a GIF.

Of the inputs of table 1 it shows plain ones and recoveries, from the largest errors, and the worst failures.
{SHARED}
examples:
  dfips reproduce figure-3 --quick
  dfips reproduce figure-3 --minutes 240 --bfloat16
"""

__all__ = ["DESCRIPTION", "add_arguments", "run"]
