# SPDX-License-Identifier: Apache-2.0
"""``dfips reproduce table-3``."""

from __future__ import annotations

from .reproduce_paper import SHARED, add_arguments, run

DESCRIPTION = f"""\
Make table 3 again: shared weights against own weights for every stage, three tasks.

All six are trained here, for as long each.
{SHARED}
examples:
  dfips reproduce table-3 --quick
  dfips reproduce table-3 --minutes 60 --bfloat16
Then show it with: dfips table 3
"""

__all__ = ["DESCRIPTION", "add_arguments", "run"]
