# SPDX-License-Identifier: Apache-2.0
"""``dfips reproduce all``."""

from __future__ import annotations

import argparse
import contextlib
import io

from . import reproduce_explicit_feedback
from .reproduce_paper import SHARED, add_arguments, workspace

DESCRIPTION = f"""\
Make all tables and figures of the paper again, one after the other, and the ablation.

With --quick it takes a few minutes on two cores. Otherwise it takes days, most of them for explicit-feedback, which
comes last and is no part of what --minutes bounds; the paper's tables come first.
{SHARED}
examples:
  dfips reproduce all --quick
  dfips reproduce all --minutes 240 --bfloat16
"""

__all__ = ["DESCRIPTION", "add_arguments", "run"]


def run(options: argparse.Namespace) -> int:
    """Make them; one that fails (no OpenGL, for example) is said, and the others are made all the same.

    Raises:
        DfipsError: an option cannot be.
    """
    import torch

    from ..errors import DfipsError
    from ..evaluation.reproduce_paper import EXPERIMENTS
    from .files import write_json

    torch.set_num_threads(1)
    space = workspace(options)
    written, missing = [], []
    for name, make in EXPERIMENTS.items():
        try:
            files = make(space)
        except DfipsError as cause:
            missing.append(f"{name}: {cause}")
            continue
        written += files
        if options.json != "-":
            print(f"{name}: {', '.join(map(str, files))}", flush=True)
    explicit = argparse.Namespace(
        quick=options.quick, mesh=[], widths=None, samples=None, bfloat16=options.bfloat16, seed=options.seed,
        out=options.out, json=None, quiet=options.quiet,
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()) as said:
        reproduce_explicit_feedback.run(explicit)
    written += [space.file("explicit_feedback", suffix) for suffix in (".csv", ".md")]
    if options.json != "-":
        print(said.getvalue(), *missing, sep="\n")
    if options.json:
        names = [str(file) for file in written]
        write_json(options.json, {"command": "dfips reproduce all", "files": names, "missing": missing})
    return 2 if missing else 0
