# SPDX-License-Identifier: Apache-2.0
"""The inverse problems: each ties a forward process to a network and to data."""
