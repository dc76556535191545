# SPDX-License-Identifier: Apache-2.0
"""``dfips reproduce figure-4``."""

from __future__ import annotations

from .reproduce_paper import SHARED, add_arguments, run

DESCRIPTION = f"""\
Make figure 4 again: lights stage by stage, and a GIF.

Nothing is trained: the shipped stages, on pictures that pyrender makes.
{SHARED}
examples:
  dfips reproduce figure-4 --quick
  dfips reproduce figure-4 --out out/figures
"""

__all__ = ["DESCRIPTION", "add_arguments", "run"]
