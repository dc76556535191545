# SPDX-License-Identifier: Apache-2.0
"""The command ``dfips``: one module per sub-command."""
