# SPDX-License-Identifier: Apache-2.0
"""Other ways to solve the same inverse problems."""
