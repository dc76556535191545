# SPDX-License-Identifier: Apache-2.0
"""JPEG deblocking: the estimate is a clean image, the forward process a JPEG encoder and decoder.

>>> from dfips_ros.tasks.deblocking import JpegRestorer
>>> image = JpegRestorer().restore(jpeg_bytes)  # doctest: +SKIP
"""

from .config import DeblockingConfig, DeblockingDataConfig
from .metrics import psnr, psnr_b, ssim
from .restorer import JpegRestorer, Restoration

__all__ = ["DeblockingConfig", "DeblockingDataConfig", "JpegRestorer", "Restoration", "psnr", "psnr_b", "ssim"]
