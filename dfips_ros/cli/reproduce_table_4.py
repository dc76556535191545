# SPDX-License-Identifier: Apache-2.0
"""``dfips reproduce table-4``."""

from __future__ import annotations

from .reproduce_paper import SHARED, add_arguments, run

DESCRIPTION = f"""\
Make table 4 again: image sizes 64, 128 and 256, by category, with time and memory.

One training for each size. Time is the median of single solves, memory the most that a process takes.
{SHARED}
examples:
  dfips reproduce table-4 --quick
  dfips reproduce table-4 --minutes 240 --bfloat16
  dfips reproduce table-4 --categories car chair plane --minutes 30
Then show it with: dfips table 4
"""

__all__ = ["DESCRIPTION", "add_arguments", "run"]
