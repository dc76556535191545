# SPDX-License-Identifier: Apache-2.0
"""Inverse halftoning with the solver of dfips_ros: from a black-and-white print back to grey.

The forward process is Floyd and Steinberg's error diffusion (1976), as Pillow does it: nothing that could be
differentiated. Train for some minutes, and look at the picture:

    python examples/inverse_halftoning.py --images BSD400/ --minutes 5 --out halftoning.png
"""

import argparse
import sys

import cv2
import numpy as np
import torch
from PIL import Image

from dfips_ros.solver import FeedbackSolver, ImageSpace, ResidualFeedback, SolverConfig, StageTrainer, TrainingConfig
from dfips_ros.tasks.deblocking import psnr
from dfips_ros.tasks.deblocking.data import load_planes


def halftone(x):
    """The forward process: grey (B, 1, H, W) in [0, 1] -> black and white, the same shape."""
    grey = (x[:, 0] * 255.0).round().clamp(0, 255).byte().numpy()
    dots = [np.asarray(Image.fromarray(plane).convert("1"), np.float32) for plane in grey]
    return torch.from_numpy(np.stack(dots))[:, None]


def blurred(y):
    """The initial estimate: the eye's view of the print."""
    planes = [cv2.GaussianBlur(plane, (0, 0), 1.6) for plane in y[:, 0].numpy()]
    return torch.from_numpy(np.stack(planes))[:, None]


class Stage(torch.nn.Module):
    """Feedback -> update (B, 1, H, W)."""

    def __init__(self, width=32):
        super().__init__()
        layers = [torch.nn.PixelUnshuffle(2), torch.nn.Conv2d(12, width, 3, padding=1), torch.nn.ReLU()]
        for _ in range(3):
            layers += [torch.nn.Conv2d(width, width, 3, padding=1), torch.nn.ReLU()]
        last = torch.nn.Conv2d(width, 4, 3, padding=1)
        torch.nn.init.zeros_(last.weight)  # start with no update
        self.net = torch.nn.Sequential(*layers, last, torch.nn.PixelShuffle(2))

    def forward(self, features):
        """What the stage compares: the estimate, the print, and the residual of the print."""
        x = features.inputs
        return self.net(torch.cat([x["estimate"], x["observation"], x["residual"]], dim=1))


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
        dots = halftone(clean)
        yield dots, blurred(dots), clean


def main(arguments=None):
    """Train, print the PSNR after each stage on images held out, and write a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+", required=True, help="folders of lossless images")
    parser.add_argument("--minutes", type=float, default=5.0, help="training time")
    parser.add_argument("--batches", type=int, help="stop after that many batches")
    parser.add_argument("--size", type=int, default=64, help="side of a crop, even")
    parser.add_argument("--out", default="halftoning.png", help="print, initial, each stage and truth, side by side")
    options = parser.parse_args(arguments)
    planes = load_planes(options.images, options.size)
    held_out, planes = planes[:4], planes[4:]

    torch.manual_seed(0)
    config = SolverConfig(num_stages=3, adaptive=False, keep_best=False)  # a print's residual is noisy: no rejections
    space = ImageSpace((1, options.size, options.size))
    solver = FeedbackSolver(ResidualFeedback(halftone), space, Stage, config)
    training = TrainingConfig(minutes=options.minutes, max_batches=options.batches, learning_rate=3e-3)
    trainer = StageTrainer(solver, lambda x, truth: (x - truth).square().flatten(1).mean(1), training)
    trainer.run(examples(planes, options.size), quiet=not sys.stderr.isatty())
    solver.stages.load_state_dict(trainer.averaged_weights())

    dots, initial, clean = next(examples(held_out, options.size, seed=1))
    history = solver.estimate(dots, initial).history
    found = [float(np.mean([psnr(a, b, 1.0) for a, b in zip(x.numpy(), clean.numpy(), strict=True)])) for x in history]
    print("PSNR in dB, initial and after each stage:", ", ".join(f"{value:.2f}" for value in found))
    row = torch.cat([dots[0], *(x[0] for x in history), clean[0]], dim=2)
    cv2.imwrite(options.out, (row[0].numpy() * 255.0).round().astype(np.uint8))
    return found


if __name__ == "__main__":
    main()
