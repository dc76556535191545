# SPDX-License-Identifier: Apache-2.0
"""Super-resolution with the solver of dfips_ros: four pixels from one.

The forward process averages 2x2 pixels and rounds to 8 bit, as a camera's binning does. Where the estimate, made small
again, differs from the image, the residual says so. Train for some minutes, and look at the picture:

    python examples/super_resolution.py --images BSD400/ --minutes 5 --out super_resolution.png
"""

import argparse
import sys

import cv2
import numpy as np
import torch
from torch.nn.functional import avg_pool2d, interpolate, pixel_unshuffle

from dfips_ros.solver import FeedbackSolver, ImageSpace, ResidualFeedback, SolverConfig, StageTrainer, TrainingConfig
from dfips_ros.tasks.deblocking import psnr
from dfips_ros.tasks.deblocking.data import load_planes


def binned(x):
    """The forward process: (B, 1, H, W) in [0, 1] -> (B, 1, H/2, W/2), multiples of 1/255."""
    return (avg_pool2d(x, 2) * 255.0).round() / 255.0


def enlarged(y):
    """The initial estimate: bicubic interpolation."""
    return interpolate(y, scale_factor=2, mode="bicubic", align_corners=False).clamp(0, 1)


class Stage(torch.nn.Module):
    """Feedback -> update (B, 1, H, W), computed at the resolution of the observation."""

    def __init__(self, width=32):
        super().__init__()
        layers = [torch.nn.Conv2d(6, width, 3, padding=1), torch.nn.ReLU()]
        for _ in range(3):
            layers += [torch.nn.Conv2d(width, width, 3, padding=1), torch.nn.ReLU()]
        last = torch.nn.Conv2d(width, 4, 3, padding=1)
        torch.nn.init.zeros_(last.weight)  # start with no update
        self.net = torch.nn.Sequential(*layers, last, torch.nn.PixelShuffle(2))

    def forward(self, features):
        """What the stage sees: the detail that the estimate has added, the observation, and the residual."""
        x = features.inputs
        detail = pixel_unshuffle(x["estimate"], 2) - x["observation"]
        return self.net(torch.cat([10.0 * detail, x["observation"], 30.0 * x["residual"]], dim=1))


def examples(planes, size, seed=0, batch=8):
    """Endless (observation, initial, ground truth)."""
    rng = np.random.default_rng(seed)
    while True:
        crops = []
        for _ in range(batch):
            plane = planes[rng.integers(len(planes))]
            y, x = (rng.integers(side - size + 1) for side in plane.shape)
            crops.append(plane[y : y + size, x : x + size])
        clean = torch.from_numpy(np.stack(crops)[:, None].astype(np.float32) / 255.0)
        small = binned(clean)
        yield small, enlarged(small), clean


def main(arguments=None):
    """Train, print the PSNR after each stage on images held out, and write a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+", required=True, help="folders of lossless images")
    parser.add_argument("--minutes", type=float, default=5.0, help="training time")
    parser.add_argument("--batches", type=int, help="stop after that many batches")
    parser.add_argument("--size", type=int, default=64, help="side of a crop, even")
    parser.add_argument("--out", default="super_resolution.png", help="initial, each stage and truth, side by side")
    options = parser.parse_args(arguments)
    planes = load_planes(options.images, options.size)
    held_out, planes = planes[:4], planes[4:]

    torch.manual_seed(0)
    config = SolverConfig(num_stages=3, adaptive=False, keep_best=False)  # detail that f averages away has no residual
    space = ImageSpace((1, options.size, options.size))
    solver = FeedbackSolver(ResidualFeedback(binned), space, Stage, config)
    training = TrainingConfig(minutes=options.minutes, max_batches=options.batches, learning_rate=3e-3)
    trainer = StageTrainer(solver, lambda x, truth: (x - truth).square().flatten(1).mean(1), training)
    trainer.run(examples(planes, options.size), quiet=not sys.stderr.isatty())
    solver.stages.load_state_dict(trainer.averaged_weights())

    small, initial, clean = next(examples(held_out, options.size, seed=1))
    history = solver.estimate(small, initial).history
    found = [float(np.mean([psnr(a, b, 1.0) for a, b in zip(x.numpy(), clean.numpy(), strict=True)])) for x in history]
    print("PSNR in dB, initial and after each stage:", ", ".join(f"{value:.2f}" for value in found))
    row = torch.cat([*(x[0] for x in history), clean[0]], dim=2)
    cv2.imwrite(options.out, (row[0].numpy() * 255.0).round().astype(np.uint8))
    return found


if __name__ == "__main__":
    main()
