# SPDX-License-Identifier: Apache-2.0
"""What learned Gauss-Newton stages on tensors and their compiled twins share; without torch."""

EPSILON = 1e-4  # added to the diagonal of every system
ROTATION_KNEE = 1.2  # radians; rotations are compressed beyond
