# SPDX-License-Identifier: Apache-2.0
"""Where links lie that do not move with respect to the base, or the tip, of an arm."""

from ..tasks.inverse_kinematics.fixed_frames import FixedFrames

__all__ = ["FixedFrames"]
