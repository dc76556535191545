# SPDX-License-Identifier: Apache-2.0
"""Update networks: torch only."""
