# SPDX-License-Identifier: Apache-2.0
"""JPEG bytes in, image out: every kind of JPEG, every kind of bad input, and bytes changed at random."""

import io
import platform
import resource
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dfips_ros.errors import CheckpointError, ConfigError, EncodingError, InputError
from dfips_ros.processes.jpeg import encode, standard_table
from dfips_ros.processes.jpeg_file import decode_colour, observe_colour, read_header, read_luminance, read_picture
from dfips_ros.solver import Checkpoint, save_checkpoint
from dfips_ros.tasks.deblocking import JpegRestorer, psnr
from dfips_ros.tasks.deblocking.restorer import COLOUR, CONSISTENCIES, LUMINANCE


@pytest.fixture(scope="module")
def restorers():
    return {kind: JpegRestorer(device="cpu", consistency=kind) for kind in CONSISTENCIES}


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (8, 8), (33, 50), (64, 40)])
@pytest.mark.parametrize("options", [
    {"grey": True}, {"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True},
    {"grey": True, "progressive": True}, {"quality": 1}, {"quality": 100}, {"optimize": True},
    {"restart_marker_blocks": 2},
], ids=str)  # fmt: skip
def test_every_kind_of_jpeg_gives_an_image_of_its_size(restorers, jpeg, size, options):
    data = jpeg(*size, **options)
    found = restorers["exact"].solve(data)
    assert found.image.dtype == np.uint8 and found.image.shape == decoded(data).shape
    assert np.isfinite(found.residual_norms).all() and len(found.residual_norms) == 5
    assert found.agreement > (0.9 if options.get("quality") == 100 else 0.998)
    assert psnr(found.image, decoded(data)) > 22  # restored, not replaced


def test_restored_images_are_nearer_to_the_truth(restorers, picture, jpeg):
    for quality in (10, 30):
        gains = []
        for seed in range(4):
            data, truth = jpeg(96, 120, seed, quality=quality, subsampling=0), picture(96, 120, seed)
            gains.append(psnr(restorers["exact"].restore(data), truth) - psnr(decoded(data), truth))
        assert np.mean(gains) > 0.05


def test_weights_that_ship_are_the_default(picture, jpeg):
    default, by_path = JpegRestorer(device="cpu"), JpegRestorer(LUMINANCE, "cpu", colour=COLOUR)
    data, truth = jpeg(64, 72, quality=15, subsampling=0), picture(64, 72)
    found = default.restore(data)
    assert np.array_equal(found, by_path.restore(data))
    assert psnr(found, truth) > psnr(decoded(data), truth)


def test_colour_goes_through_weights_of_its_own(restorers, jpeg):
    data = jpeg(64, 72, quality=10, subsampling=0)
    other = JpegRestorer(device="cpu", colour=LUMINANCE).restore(data)
    luminances, colours = zip(
        *[(planes[..., 0], planes[..., 1:]) for planes in
          (cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb) for image in (restorers["exact"].restore(data), other))],
        strict=True,
    )  # fmt: skip
    assert np.abs(luminances[0].astype(int) - luminances[1]).mean() < 0.7 and not np.array_equal(*colours)


@pytest.mark.parametrize("subsampling", [0, 2])
def test_colour_planes_are_those_of_the_file(jpeg, subsampling):
    for size in [(64, 96), (17, 39), (1, 1)]:
        data = jpeg(*size, subsampling=subsampling, quality=95)
        header = read_header(data)
        planes = observe_colour(decode_colour(data, header), header).planes[:, 0].numpy() * 255
        if subsampling:
            planes = np.stack([cv2.resize(plane, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR) for plane in planes])
        cropped = planes[:, : size[0], : size[1]].transpose(1, 2, 0)
        assert np.abs(cropped - read_picture(data)[..., 1:]).max() <= 1.01
    assert decode_colour(jpeg(subsampling=1), read_header(jpeg(subsampling=1))) is None


def test_restored_colour_is_nearer_to_the_truth(restorers, picture, jpeg):
    for subsampling in (0, 2):
        gains = []
        for seed in range(4):
            data = jpeg(96, 120, seed, quality=10, subsampling=subsampling)
            truth = cv2.cvtColor(picture(96, 120, seed), cv2.COLOR_RGB2YCrCb)[..., 1:]
            before, after = (
                cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., 1:]
                for image in (decoded(data), restorers["off"].restore(data))
            )
            gains.append(psnr(after, truth) - psnr(before, truth))
        assert np.mean(gains) > 0.0


def test_exact_answers_encode_to_the_coefficients_of_the_file(restorers, picture):
    for quality in (5, 10, 30, 60):
        table = standard_table(quality)
        data = encode(picture(72, 80)[..., 0], table)
        observed = read_luminance(data, read_header(data))
        again = encode(restorers["exact"].restore(data), table)
        assert (read_luminance(again, read_header(again)).levels == observed.levels).float().mean() > 0.9995


@pytest.mark.parametrize("quality", [10, 40, 80])
def test_consistency_does_not_lower_the_psnr(restorers, picture, quality):
    found = {kind: [] for kind in CONSISTENCIES}
    for seed in range(3):
        truth = picture(96, 96, seed)[..., 0]
        for kind, restorer in restorers.items():
            found[kind].append(psnr(restorer.restore(encode(truth, standard_table(quality))), truth))
    mean = {kind: np.mean(values) for kind, values in found.items()}
    assert mean["project"] > mean["off"] - 0.005 and mean["exact"] > mean["off"] - 0.02


def test_the_same_bytes_give_the_same_image_on_any_thread(restorers, jpeg):
    sources = [jpeg(seed=0), bytearray(jpeg(seed=1)), jpeg(seed=2, grey=True), jpeg(seed=3, subsampling=1)]
    alone = [restorers["exact"].restore(data) for data in sources]
    assert all(image.flags.c_contiguous for image in alone)
    with ThreadPoolExecutor(3) as threads:
        for image, same in zip(alone * 3, threads.map(restorers["exact"].restore, sources * 3), strict=True):
            assert np.abs(image.astype(int) - same).max() <= 2  # other threads may add up in another order
            assert np.mean(image != same) < 0.01


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library, another allocator")
def test_memory_of_a_frame_is_kept_for_the_next_one(restorers, jpeg):
    data = jpeg(480, 640)
    faults = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        restorers["exact"].restore(data)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert min(faults[1:]) < 2000, faults  # about 10,000 where it is given back and asked for anew


def test_bad_input_is_refused_with_a_reason(restorers, jpeg):
    restorer = restorers["project"]
    png = io.BytesIO()
    Image.fromarray(decoded(jpeg())).save(png, "PNG")
    cmyk = io.BytesIO()
    Image.new("CMYK", (16, 16)).save(cmyk, "JPEG")
    data = jpeg(64, 64, quality=90)
    for bad, reason in [
        (b"", "expected a JPEG"), (png.getvalue(), "expected a JPEG"), (cmyk.getvalue(), "CMYK"),
        (data[: len(data) // 2], "cut short"), (data[:200], "cut short"),
    ]:  # fmt: skip
        with pytest.raises(EncodingError, match=reason):
            restorer.restore(bad)
    with pytest.raises(InputError, match="bytes"):
        restorer.restore("photo.jpg")
    with pytest.raises(EncodingError, match="more than 1000 pixels"):
        JpegRestorer(device="cpu", max_pixels=1000).restore(data)
    with pytest.raises(ConfigError, match="consistency"):
        JpegRestorer(consistency="maybe")
    with pytest.raises(ConfigError, match="device"):
        JpegRestorer(device="abacus")


@pytest.mark.parametrize("options", [{"subsampling": 0}, {"progressive": True}, {"grey": True}], ids=str)
def test_a_jpeg_cut_short_anywhere_is_refused(restorers, jpeg, options):
    data = jpeg(40, 56, **options)
    for length in [*range(0, len(data), 23), *range(len(data) - 12, len(data))]:
        with pytest.raises(EncodingError):
            restorers["project"].restore(data[:length])


def test_planes_that_are_no_luminance_and_coarser_colour_are_refused(restorers, picture, jpeg):
    rgb = io.BytesIO()
    Image.fromarray(picture(24, 24)).save(rgb, "JPEG", keep_rgb=True)
    finer = bytearray(jpeg(24, 24, subsampling=0))
    finer[finer.index(b"\xff\xc0") + 14] = 0x22  # sampling factors of the first colour plane
    for data, reason in [(rgb.getvalue(), "RGB"), (bytes(finer), "finer than the luminance")]:
        with pytest.raises(EncodingError, match=reason):
            restorers["project"].restore(data)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no file"):
        JpegRestorer(tmp_path / "none.safetensors")
    save_checkpoint(tmp_path / "w.safetensors", Checkpoint("deblocking", {}, {}, {"0.head.bias": torch.zeros(3)}))
    with pytest.raises(CheckpointError, match="do not fit"):
        JpegRestorer(tmp_path / "w.safetensors")


def test_changed_bytes_never_end_the_process(restorers, jpeg):
    rng = np.random.default_rng(0)
    sources = [jpeg(24, 40), jpeg(40, 24, progressive=True), jpeg(17, 9, grey=True), jpeg(32, 32, subsampling=0)]
    outcomes = {"image": 0, "refused": 0}
    for i in range(400):
        data = bytearray(sources[i % len(sources)])
        for _ in range(int(rng.integers(1, 6))):
            at = int(rng.integers(2, len(data)))
            match rng.integers(4):
                case 0:
                    data[at] = int(rng.integers(256))
                case 1:
                    data[at] ^= 1 << int(rng.integers(8))
                case 2:
                    del data[at : at + int(rng.integers(1, 20))]
                case 3:
                    data[at:at] = rng.integers(0, 256, int(rng.integers(1, 20)), dtype=np.uint8).tobytes()
        try:
            image = restorers["project"].restore(bytes(data))
        except EncodingError:
            outcomes["refused"] += 1
        else:
            assert image.dtype == np.uint8 and image.ndim in (2, 3)
            outcomes["image"] += 1
    assert min(outcomes.values()) > 20, outcomes
