# SPDX-License-Identifier: Apache-2.0
"""The command ``dfips``: one module for each task of each command, registered in ``tasks.py``."""
