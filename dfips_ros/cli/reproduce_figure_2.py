# SPDX-License-Identifier: Apache-2.0
"""``dfips reproduce figure-2``."""

from __future__ import annotations

from .reproduce_paper import SHARED, add_arguments, run

DESCRIPTION = f"""\
Make figure 2 again: time by number of faces and image size, pyrender, ours, SoftRas and NMR.

Nothing is trained. SoftRas and NMR are timed with their gradient, without which they are of no use.
{SHARED}
examples:
  dfips reproduce figure-2 --quick
  dfips reproduce figure-2 --out out/figures
"""

__all__ = ["DESCRIPTION", "add_arguments", "run"]
