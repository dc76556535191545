# SPDX-License-Identifier: Apache-2.0
"""``dfips reproduce ablation``."""

from __future__ import annotations

from .reproduce_paper import SHARED, add_arguments, run

DESCRIPTION = f"""\
Ablate the adaptive update, the explicit difference, and the detached stages.

Each is left out alone and trained for as long as the others.
{SHARED}
examples:
  dfips reproduce ablation --quick
  dfips reproduce ablation --minutes 60 --bfloat16
"""

__all__ = ["DESCRIPTION", "add_arguments", "run"]
