# SPDX-License-Identifier: Apache-2.0
"""The JPEG forward process: exact tables, batches, the DCT, headers, and the quantisation cells."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dfips_ros.errors import ConfigError, EncodingError, ShapeError
from dfips_ros.processes.jpeg import JpegProcess, decode, encode, round_trip, standard_table, to_bytes
from dfips_ros.processes.jpeg_consistency import agreement, make_consistent, project
from dfips_ros.processes.jpeg_dct import JpegObservation, blocks, dct, inverse_dct, quantise, unblocks
from dfips_ros.processes.jpeg_file import read_header, read_luminance, read_picture

QUALITIES = [5, 10, 30, 50, 75, 95]


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Edges, gradients and texture, with black and white parts. -> (H, W) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = 127 + 90 * np.sin(x / 9.0 + seed) * np.cos(y / 13.0) + 12 * rng.standard_normal((height, width))
    image[(x // 24 + y // 17) % 5 == 0] = 255
    image[(x // 31 + y // 29) % 6 == 0] = 0
    return np.clip(image, 0, 255).astype(np.uint8)


def planes_of(*images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)[:, None].astype(np.float32) / 255.0)


def tables_of(*qualities: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([standard_table(q) for q in qualities]).astype(np.float32))


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_standard_tables_are_those_of_opencv(quality):
    _, data = cv2.imencode(".jpg", scene(40, 56), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert (read_header(data.tobytes()).luma_table == standard_table(quality)).all()
    colour = np.dstack([scene(40, 56, s) for s in range(3)])
    _, data = cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_QUALITY, quality])
    header = read_header(data.tobytes())
    assert (header.tables[header.table_ids[1]] == standard_table(quality, chroma=True)).all()


@pytest.mark.parametrize("seed", range(3))
def test_any_table_is_encoded_exactly(seed):
    table = np.random.default_rng(seed).integers(1, 256, 64)
    assert (read_header(encode(scene(24, 40), table)).luma_table == table).all()


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_forward_process_is_opencvs_libjpeg(quality):
    image = scene(64, 96)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    simulated = JpegProcess(standard_table(quality))(planes_of(image))
    assert (to_bytes(simulated)[0, 0] == cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)).all()


def test_a_batch_is_what_its_elements_are_and_repeats_itself():
    planes = planes_of(*(scene(32, 48, s) for s in range(5)))
    tables = tables_of(10, 10, 40, 10, 10)
    before = planes.clone()
    together = round_trip(planes, tables)
    one_by_one = torch.cat([round_trip(planes[i : i + 1], tables[i : i + 1]) for i in range(5)])
    assert torch.equal(together, one_by_one) and torch.equal(together, round_trip(planes, tables))
    assert torch.equal(planes, before)


def test_wrong_shapes_and_qualities_are_refused():
    with pytest.raises(ShapeError, match="multiples of 8"):
        round_trip(torch.zeros(1, 1, 7, 8), tables_of(10))
    with pytest.raises(ShapeError, match="tables"):
        round_trip(torch.zeros(2, 1, 8, 8), tables_of(10))
    with pytest.raises(ShapeError, match="uint8"):
        encode(np.zeros((8, 8)), standard_table(10))
    with pytest.raises(ConfigError, match="quality"):
        standard_table(0)


def test_the_dct_is_orthonormal_and_that_of_opencv():
    plane = planes_of(scene(32, 24))
    coefficients = dct(plane)
    torch.testing.assert_close(inverse_dct(coefficients), plane, atol=1e-5, rtol=0)
    assert torch.equal(unblocks(blocks(plane)), plane)
    block = (plane[0, 0, 8:16, 16:24].numpy() * 255.0 - 128.0).astype(np.float64)
    np.testing.assert_allclose(coefficients[0, :, 1, 2].reshape(8, 8), cv2.dct(block), atol=1e-3)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (16, 16), (33, 50)])
def test_the_levels_of_a_file_explain_its_luminance(size, subsampling, progressive):
    height, width = size
    colour = np.dstack([scene(height, width, s) for s in range(3)])
    for quality in (10, 50, 75):
        out = io.BytesIO()
        Image.fromarray(colour).save(out, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
        header = read_header(out.getvalue())
        observation = read_luminance(out.getvalue(), header)
        assert (header.height, header.width) == size
        assert header.process == ("progressive" if progressive else "baseline")
        assert observation.planes.shape == (1, 1, -(-height // 8) * 8, -(-width // 8) * 8)
        decoded = inverse_dct(observation.levels * observation.tables[:, :, None, None]).clamp(0, 1)
        assert (decoded - observation.planes).abs().max() * 255 < 1.6  # libjpeg rounds, its DCT is an integer one
        picture = read_picture(out.getvalue())
        assert (picture[..., 0] == to_bytes(observation.planes)[0, 0, :height, :width]).all()


@pytest.mark.parametrize("quality", [5, 10, 20, 40, 75])
def test_a_consistent_answer_encodes_to_the_observed_levels(quality):
    table = standard_table(quality)
    for seed in range(3):
        clean = scene(64, 80, seed)
        data = encode(clean, table)
        observation = read_luminance(data, read_header(data))
        estimate = observation.planes + 0.04 * torch.randn(observation.planes.shape, generator=torch.manual_seed(seed))
        found = make_consistent(estimate.clamp(0, 1), observation)
        again = encode(to_bytes(found.planes)[0, 0], table)
        levels = read_luminance(again, read_header(again)).levels
        assert (levels == observation.levels).float().mean() > 0.999, seed
        assert float(found.agreement[0]) > max(0.999, float(agreement(estimate, observation)[0]))


@pytest.mark.parametrize("quality", [5, 20, 50, 90])
def test_projection_reaches_the_cells_and_never_leads_away_from_the_truth(quality):
    clean = planes_of(*(scene(64, 48, s) for s in range(2)))
    tables = tables_of(quality, quality)
    observation = JpegObservation(round_trip(clean, tables), tables, quantise(clean, tables))
    estimate = clean + 0.1 * torch.randn(clean.shape, generator=torch.manual_seed(0))
    moved = project(estimate, observation)
    steps = tables[:, :, None, None]
    assert ((dct(moved) / steps - observation.levels).abs() < 0.5 + 1e-3).all()
    before, after = ((x - clean).square().flatten(1).sum(1) for x in (estimate, moved))
    assert (after < before).all()
    torch.testing.assert_close(project(clean, observation), clean, atol=2e-4, rtol=0)


def changed(data: bytes, marker: int, offset: int, value: bytes) -> bytes:
    at = data.index(bytes([0xFF, marker])) + 4 + offset
    return data[:at] + value + data[at + len(value) :]


def cmyk() -> bytes:
    out = io.BytesIO()
    Image.new("CMYK", (16, 16)).save(out, "JPEG")
    return out.getvalue()


GREY = encode(scene(40, 40), standard_table(50))
BAD = {
    "nothing": (b"", "expected a JPEG"),
    "a PNG": (b"\x89PNG\r\n\x1a\n" + bytes(40), "expected a JPEG"),
    "text": (b"not a picture", "expected a JPEG"),
    "a cut header": (GREY[:100], "cut short"),
    "a cut table": (GREY[:40], "cut short"),
    "a missing table": (GREY.replace(b"\xff\xdb", b"\xff\xfe", 1), "quantisation table 0 is missing"),
    "12 bits": (changed(GREY, 0xC0, 0, b"\x0c"), "expected 8 bits"),
    "no width": (changed(GREY, 0xC0, 3, b"\0\0"), "at least 1 pixel"),
    "huge": (changed(GREY, 0xC0, 1, b"\xff\xdc\xff\xdc"), "more than"),
    "arithmetic": (GREY.replace(b"\xff\xc0", b"\xff\xc9", 1), "not supported"),
    "a zero step": (changed(GREY, 0xDB, 1, b"\0"), "zero"),
    "CMYK": (cmyk(), "CMYK"),
    "a lost marker": (GREY[:20] + b"\0\0" + GREY[22:], "marker"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_usable_jpeg_is_refused_with_a_reason(name):
    data, reason = BAD[name]
    with pytest.raises(EncodingError, match=reason):
        read_header(data)


def test_image_data_cut_short_are_refused():
    data = encode(scene(64, 64), standard_table(90))
    with pytest.raises(EncodingError, match="cut short"):
        read_luminance(data[: len(data) // 2], read_header(data))


def test_encoding_and_decoding_keep_the_size():
    for size in [(1, 1), (9, 17)]:
        assert decode(encode(scene(*size), standard_table(80))).shape == size
