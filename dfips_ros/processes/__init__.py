# SPDX-License-Identifier: Apache-2.0
"""Forward processes: they know physics and geometry, and nothing of learning."""
