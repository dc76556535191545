# SPDX-License-Identifier: Apache-2.0
"""``dfips reproduce table-3``."""

from __future__ import annotations

from .reproduce_paper import SHARED, add_arguments, run

DESCRIPTION = f"""\
Make table 3 again: shared weights against own weights for every stage, three tasks.

All eight are trained here, with the same budget for both of a pair. Both have the first half in common, one stage for
all; in the second half that one goes on, or each from a copy. (Inverse kinematics has none in common: there the first
stage proposes other things than the rest.)
{SHARED}
examples:
  dfips reproduce table-3 --quick
  dfips reproduce table-3 --minutes 60 --bfloat16
Then show it with: dfips table 3
"""

__all__ = ["DESCRIPTION", "add_arguments", "run"]
