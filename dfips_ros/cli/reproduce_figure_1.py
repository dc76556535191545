# SPDX-License-Identifier: Apache-2.0
"""``dfips reproduce figure-1``."""

from __future__ import annotations

from .reproduce_paper import SHARED, add_arguments, run

DESCRIPTION = f"""\
Make figure 1 again: cumulative translation and rotation error with percentiles.

The methods and inputs of table 1.
{SHARED}
examples:
  dfips reproduce figure-1 --quick
  dfips reproduce figure-1 --minutes 240 --bfloat16
"""

__all__ = ["DESCRIPTION", "add_arguments", "run"]
