# SPDX-License-Identifier: Apache-2.0
"""A deblocking stage: a small network over two or three resolutions, conditioned on the JPEG tables.

Pixels are folded into channels (pixel-unshuffle, Shi et al. 2016), so that the convolutions run on few positions. The
lowest level has one position per JPEG block and sees the comparison in units of the quantisation steps, where
a value beyond +-1/2 means that the estimate contradicts the observation. The tables scale and shift the channels of
each residual block there (FiLM, Perez et al. 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..solver import FeedbackFeatures

BLOCK = 8
UPDATE_SCALE = 0.1  # an output of one moves a pixel by a tenth of its range
# So that the inputs are of about unit size: detail within and between the folded pixels, their mean, and the
# residual and the change so far.
DETAIL_SCALE, MEAN_SCALE, COMPARE_SCALE = 15.0, 3.0, 30.0
RESIDUAL_GAIN = 0.3  # of a residual block to start with


class _Block(nn.Module):
    def __init__(self, width: int, condition_width: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(condition_width, 2 * width) if condition_width else None

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        hidden = self.first(x)
        if self.film is not None:
            scale, shift = self.film(condition)[:, :, None, None].to(hidden.dtype).chunk(2, dim=1)
            hidden = torch.addcmul(shift, hidden, 1.0 + scale)
        return self.second(functional.relu_(hidden)).add_(x)


class DctUnetStage(nn.Module):
    """Features of a JPEG comparison -> update (B, 1, H, W) of the plane, computed in the type of the weights.

    Args:
        widths: channels at each level, the finest first: two (1/4 and 1/8 of the resolution) or three (from 1/2 on).
            At 1/8 one position is one JPEG block.
        depth: residual blocks at 1/8.
        fine_depth: residual blocks at each finer level, after the coarser ones are added.
    """

    def __init__(self, widths: Sequence[int], depth: int, fine_depth: int) -> None:
        super().__init__()
        *finer, width = widths
        self.fold = BLOCK >> len(finer)
        self.table = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Conv2d(3 * self.fold**2 + 2, widths[0], 3, padding=1)
        self.down = nn.ModuleList([nn.Conv2d(*pair, 2, stride=2) for pair in pairwise(widths)])
        self.cells = nn.Conv2d(128, width, 1)
        self.body = nn.ModuleList([_Block(width, 64) for _ in range(depth)])
        self.up = nn.ModuleList([nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in pairwise(widths)])
        self.fine = nn.ModuleList([nn.ModuleList([_Block(own) for _ in range(fine_depth)]) for own in finer])
        self.tail = nn.Conv2d(widths[0], self.fold**2, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for layer in self.modules():
            if isinstance(layer, _Block):
                layer.second.weight.data *= RESIDUAL_GAIN
        for zeroed in [self.tail, *(block.film for block in self.body)]:
            nn.init.zeros_(zeroed.weight)  # type: ignore[union-attr, arg-type]
            nn.init.zeros_(zeroed.bias)  # type: ignore[union-attr, arg-type]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, features: FeedbackFeatures) -> Tensor:
        x, dtype = features.inputs, self.head.weight.dtype
        planes = _folded(x["estimate"], x["residual"], x["observation"], self.fold).to(dtype)
        condition = self.table((torch.log(x["table"]) - 3.0).to(dtype))
        cells = x["cells"].to(dtype).contiguous(memory_format=torch.channels_last)
        image = functional.relu_(self.head(planes))
        kept = []
        for down in self.down:
            kept.append(image)
            image = down(image)
        image = image.add_(self.cells(cells))
        for block in self.body:
            image = block(image, condition)
        for up, level in zip(reversed(self.up), reversed(self.fine), strict=True):
            image = _added(kept.pop(), image, up)  # type: ignore[arg-type]
            for block in level:  # type: ignore[attr-defined]
                image = block(image, condition)
        return _unfolded(self.tail(image), self.fold).to(x["estimate"].dtype) * UPDATE_SCALE


def _added(fine: Tensor, coarse: Tensor, up: nn.Conv2d) -> Tensor:
    """``fine + pixel_shuffle(up(coarse), 2)``, the shuffle done to the weights, so that memory is read in runs."""
    batch, width, height, length = fine.shape
    weight = up.weight.unflatten(0, (width, 4)).transpose(0, 1).flatten(0, 1)
    bias = up.bias.unflatten(0, (width, 4)).T.flatten()  # type: ignore[union-attr]
    raised = functional.conv2d(coarse, weight, bias).permute(0, 2, 3, 1)
    raised = raised.reshape(batch, height // 2, length // 2, 2, 2 * width).transpose(2, 3)
    added = fine.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, length // 2, 2 * width) + raised
    return added.reshape(batch, height, length, width).permute(0, 3, 1, 2)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _fold_weight(fold: int, device: torch.device) -> Tensor:
    """The convolution that folds estimate, residual and change: detail, mean twice, residual, change."""
    count = fold**2
    weight = torch.zeros(3 * count + 2, 3, count)
    one = torch.eye(count)
    weight[:count, 0] = (one - 1.0 / count) * DETAIL_SCALE
    weight[count, 0], weight[count + 1, 0] = DETAIL_SCALE / count, MEAN_SCALE / count
    weight[count + 2 :].unflatten(0, (2, count))[[0, 1], :, [1, 2]] = one * COMPARE_SCALE
    return weight.unflatten(2, (fold, fold)).to(device, memory_format=torch.channels_last)


def _folded(estimate: Tensor, residual: Tensor, observation: Tensor, fold: int) -> Tensor:
    """The inputs at 1/fold of the resolution, (B, 3 fold^2 + 2, H/fold, W/fold) in channels-last memory: detail within
    and between the folded pixels, their mean, the residual, and the change so far."""
    batch, _, height, width = estimate.shape
    planes = estimate.new_empty(batch, height, width, 3)
    torch.sub(estimate[:, 0], 0.5, out=planes[..., 0])
    planes[..., 1] = residual[:, 0]
    torch.sub(estimate[:, 0], observation[:, 0], out=planes[..., 2])
    with torch.autocast(estimate.device.type, enabled=False):
        folded = functional.conv2d(planes.permute(0, 3, 1, 2), _fold_weight(fold, estimate.device), stride=fold)
    means = folded[:, fold**2]
    means -= _box_mean(means)
    return folded


def _box_mean(image: Tensor) -> Tensor:
    """The mean of each pixel of (B, H, W) and its neighbours, up to eight: of rows, then of columns."""
    for axis in (1, 2):
        total, length = image.clone(memory_format=torch.contiguous_format), image.shape[axis]
        total.narrow(axis, 1, length - 1).add_(image.narrow(axis, 0, length - 1))
        total.narrow(axis, 0, length - 1).add_(image.narrow(axis, 1, length - 1))
        count = _neighbours(length, image.device)
        image = total.div_(count[:, None] if axis == 1 else count)
    return image


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _neighbours(length: int, device: torch.device) -> Tensor:
    """How many of a place and those beside it there are, for each place in a row."""
    count = torch.full((length,), 3.0)
    count[0] -= 1.0
    count[-1] -= 1.0
    return count.to(device)


def _unfolded(image: Tensor, fold: int) -> Tensor:
    """``pixel_shuffle`` of (B, fold^2, H/fold, W/fold) straight from channels-last memory."""
    batch, _, rows, columns = image.shape
    cells = image.permute(0, 2, 3, 1).reshape(batch, rows, columns, fold, fold).transpose(2, 3)
    return cells.reshape(batch, 1, rows * fold, columns * fold)
