# SPDX-License-Identifier: Apache-2.0
"""``dfips reproduce table-1``."""

from __future__ import annotations

from .reproduce_paper import SHARED, add_arguments, run

DESCRIPTION = f"""\
Make table 1 again: NMR, SoftRas, direct regression and ours, alone and as initialiser.

Translation and rotation error, outliers and time of each on the same masks from the same initial poses, the paper's
figures in the next column; besides, contour Gauss-Newton and the stages that ship.
{SHARED}
examples:
  dfips reproduce table-1 --quick
  dfips reproduce table-1 --minutes 240 --bfloat16
  dfips reproduce table-1 --meshes chair=models/chairs plane=models/planes --minutes 240 --bfloat16
Then show it with: dfips table 1
"""

__all__ = ["DESCRIPTION", "add_arguments", "run"]
