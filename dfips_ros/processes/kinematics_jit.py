# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics and Jacobian of a serial chain, compiled (see :class:`SerialChain` for the table's layout)."""

from __future__ import annotations

import math

import numba as nb
import numpy as np

ROW_PRISMATIC, ROW_VARIABLE, ROW_RATIO, ROW_OFFSET = 12, 13, 14, 15


@nb.njit(cache=True, nogil=True)
def forward_pose(table, q, pose, axes):
    """Write the tip's rotation (9) and position (3) into ``pose``, and each element's axis and origin into ``axes``.

    Args:
        table: (m + 1, 16) float64.
        q: (n,) joint positions.
        pose: (12,) to write.
        axes: (m, 6) to write.
    """
    count = len(table) - 1
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0
    px, py, pz = 0.0, 0.0, 0.0
    for i in range(count + 1):
        a = table[i]
        px += r00 * a[9] + r01 * a[10] + r02 * a[11]
        py += r10 * a[9] + r11 * a[10] + r12 * a[11]
        pz += r20 * a[9] + r21 * a[10] + r22 * a[11]
        n00 = r00 * a[0] + r01 * a[3] + r02 * a[6]
        n01 = r00 * a[1] + r01 * a[4] + r02 * a[7]
        n02 = r00 * a[2] + r01 * a[5] + r02 * a[8]
        n10 = r10 * a[0] + r11 * a[3] + r12 * a[6]
        n11 = r10 * a[1] + r11 * a[4] + r12 * a[7]
        n12 = r10 * a[2] + r11 * a[5] + r12 * a[8]
        n20 = r20 * a[0] + r21 * a[3] + r22 * a[6]
        n21 = r20 * a[1] + r21 * a[4] + r22 * a[7]
        n22 = r20 * a[2] + r21 * a[5] + r22 * a[8]
        r02, r12, r22 = n02, n12, n22
        if i == count:
            r00, r01, r10, r11, r20, r21 = n00, n01, n10, n11, n20, n21
            break
        row = axes[i]
        row[0], row[1], row[2], row[3], row[4], row[5] = n02, n12, n22, px, py, pz
        x = a[14] * q[int(a[13])] + a[15]
        if a[12] > 0:
            r00, r01, r10, r11, r20, r21 = n00, n01, n10, n11, n20, n21
            px += x * n02
            py += x * n12
            pz += x * n22
        else:
            c, s = math.cos(x), math.sin(x)
            r00, r10, r20 = c * n00 + s * n01, c * n10 + s * n11, c * n20 + s * n21
            r01, r11, r21 = c * n01 - s * n00, c * n11 - s * n10, c * n21 - s * n20
    pose[0], pose[1], pose[2], pose[3], pose[4], pose[5] = r00, r01, r02, r10, r11, r12
    pose[6], pose[7], pose[8], pose[9], pose[10], pose[11] = r20, r21, r22, px, py, pz


@nb.njit(cache=True, nogil=True)
def jacobian_transposed(table, pose, axes, jacobian):
    """Write d(position, rotation vector)/dq in the base frame, transposed, into (n, 6), from :func:`forward_pose`."""
    jacobian[:] = 0.0
    px, py, pz = pose[9], pose[10], pose[11]
    for i in range(len(table) - 1):
        a, row, ratio = axes[i], jacobian[int(table[i, 13])], table[i, 14]
        if table[i, 12] > 0:
            for k in range(3):
                row[k] += ratio * a[k]
        else:
            dx, dy, dz = px - a[3], py - a[4], pz - a[5]
            row[0] += ratio * (a[1] * dz - a[2] * dy)
            row[1] += ratio * (a[2] * dx - a[0] * dz)
            row[2] += ratio * (a[0] * dy - a[1] * dx)
            row[3] += ratio * a[0]
            row[4] += ratio * a[1]
            row[5] += ratio * a[2]


@nb.njit(cache=True, nogil=True)
def pose_residual(pose, target, residual):
    """Write simulated minus observed into (6,): position, then the rotation vector of ``R R_target^T``; base frame.

    Args:
        pose: (12,) of the tip.
        target: (12,) alike.
        residual: (6,) to write.
    """
    residual[0], residual[1], residual[2] = pose[9] - target[9], pose[10] - target[10], pose[11] - target[11]
    # D = R R_target^T
    d00 = pose[0] * target[0] + pose[1] * target[1] + pose[2] * target[2]
    d01 = pose[0] * target[3] + pose[1] * target[4] + pose[2] * target[5]
    d02 = pose[0] * target[6] + pose[1] * target[7] + pose[2] * target[8]
    d10 = pose[3] * target[0] + pose[4] * target[1] + pose[5] * target[2]
    d11 = pose[3] * target[3] + pose[4] * target[4] + pose[5] * target[5]
    d12 = pose[3] * target[6] + pose[4] * target[7] + pose[5] * target[8]
    d20 = pose[6] * target[0] + pose[7] * target[1] + pose[8] * target[2]
    d21 = pose[6] * target[3] + pose[7] * target[4] + pose[8] * target[5]
    d22 = pose[6] * target[6] + pose[7] * target[7] + pose[8] * target[8]
    x, y, z = 0.5 * (d21 - d12), 0.5 * (d02 - d20), 0.5 * (d10 - d01)
    sine = math.sqrt(x * x + y * y + z * z)
    cosine = 0.5 * (d00 + d11 + d22 - 1.0)
    if sine > 1e-6:
        factor = math.atan2(sine, cosine) / sine
        residual[3], residual[4], residual[5] = factor * x, factor * y, factor * z
    elif cosine > 0:
        residual[3], residual[4], residual[5] = x, y, z
    else:  # half a turn: the axis is the largest column of D + I
        u, v, w = d00 + 1.0, d11 + 1.0, d22 + 1.0
        if u >= v and u >= w:
            ax, ay, az = u, d10, d20
        elif v >= w:
            ax, ay, az = d01, v, d21
        else:
            ax, ay, az = d02, d12, w
        factor = math.pi / math.sqrt(ax * ax + ay * ay + az * az)
        residual[3], residual[4], residual[5] = factor * ax, factor * ay, factor * az


@nb.njit(cache=True, nogil=True)
def forward_many(table, positions):
    """T_base_tip (B, 4, 4) of joint positions (B, n)."""
    poses = np.zeros((len(positions), 4, 4))
    pose, axes = np.empty(12), np.empty((len(table) - 1, 6))
    for b in range(len(positions)):
        forward_pose(table, positions[b], pose, axes)
        for i in range(3):
            for j in range(3):
                poses[b, i, j] = pose[3 * i + j]
            poses[b, i, 3] = pose[9 + i]
        poses[b, 3, 3] = 1.0
    return poses
