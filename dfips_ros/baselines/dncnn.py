# SPDX-License-Identifier: Apache-2.0
"""The published blind DnCNN-3 (Zhang et al. 2017): 20 convolutions, for denoising, super-resolution and deblocking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..errors import CheckpointError, require
from ..networks.dncnn import DnCnnStage
from ..processes.jpeg_feedback import JpegFeedback, PlaneSpace
from ..solver import FeedbackSolver, SolverConfig

WIDTH, DEPTH = 64, 20


def load_dncnn3(path: str | Path) -> FeedbackSolver:
    """The authors' weights ``DnCNN3.mat`` as an ``Estimator`` of one stage.

    Args:
        path: MATLAB 7.3 file (HDF5) with the cells ``net.layers`` of MatConvNet.

    Raises:
        CheckpointError: missing, or not these weights.
        MissingDependencyError: h5py is not installed.
    """
    require("h5py", "the published DnCNN-3 weights (a MATLAB file)", "pip install h5py")
    import h5py

    config = SolverConfig(num_stages=1, adaptive=False, keep_best=False)
    feedback = JpegFeedback(simulate=False)  # it never looks at the forward process
    solver = FeedbackSolver(feedback, PlaneSpace(), lambda: DnCnnStage(WIDTH, DEPTH, batch_norm=False), config)
    convolutions = [m for m in solver.stages.modules() if isinstance(m, torch.nn.Conv2d)]
    try:
        with h5py.File(path) as file:
            layers = [file[reference] for reference in np.ravel(file["net"]["layers"])]
            parts = [[np.array(file[p]) for p in np.ravel(layer["weights"])] for layer in layers if "weights" in layer]
        with torch.no_grad():
            for convolution, (kernel, bias) in zip(convolutions, parts, strict=True):
                # MATLAB has (height, width, in, out), HDF5 reverses the order, and one output has no axis.
                turned = torch.from_numpy(kernel).transpose(-1, -2)
                convolution.weight.copy_(turned.reshape(convolution.weight.shape))
                convolution.bias.copy_(torch.from_numpy(bias).flatten())  # type: ignore[union-attr]
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as cause:
        raise CheckpointError(f"weights '{path}': not the published DnCNN3.mat ({cause}).") from cause
    return solver.eval()
