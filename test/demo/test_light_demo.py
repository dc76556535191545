# SPDX-License-Identifier: Apache-2.0
"""``dfips demo illumination``: its processes at their shortest, and what is said of runs that fail."""

import json

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("pyrender")

from dfips_ros.cli.demo_light_run import LightRecord, compare, failures, summarise, table  # noqa: E402
from dfips_ros.cli.demo_light_scene import light_scene, moving_light  # noqa: E402
from dfips_ros.cli.main import main  # noqa: E402


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_moving_light_is_followed(tmp_path, capsys):
    main(["demo", "illumination", "--seconds", "4", "--out", str(tmp_path), "--json", "-"])
    output = capsys.readouterr()
    content = json.loads(output.out)
    summary = content["summary"]
    assert content == json.loads((tmp_path / "summary.json").read_text())
    assert summary["frames"] == 60 and summary["statuses"].get("ESTIMATED", 0) > 0, output.err
    assert summary["direction_error_deg"]["median"] < 10.0
    slow = [problem for problem in content["problems"] if "answers per second" not in problem]  # a busy machine
    assert slow == []
    assert (tmp_path / "light.webp").stat().st_size > 1000 and (tmp_path / "light_errors.png").is_file()


@pytest.fixture(scope="module", params=["directional", "point"])
def scene(request):
    return light_scene(request.param, 2.0, 3, 0.4, 0.5, progress=False)


def made_up(scene, off):
    """A run in which every answer is off by the angle ``off``, as a change of the direction."""
    record = LightRecord()
    for index, light in enumerate(scene.lights):
        stamp = 66_000_000 * index
        side = np.cross(light, [0.3, 0.9, 0.1])
        found = np.cos(off) * light + np.sin(off) * side / np.linalg.norm(side)
        record.frames.append({"index": index, "stamp_ns": stamp})
        position = scene.centers[index] + np.linalg.norm(scene.positions[index] - scene.centers[index]) * found
        record.answers.append(
            {"stamp_ns": stamp, "received_ns": stamp + 80_000_000, "status": "ESTIMATED", "reason": "",
             "direction": found.tolist(), "position": position.tolist(), "solve_time": 0.06}
        )  # fmt: skip
    return record


def test_summary_of_runs(scene):
    for off in (0.0, 0.1, 0.5):
        record = made_up(scene, off)
        summary = summarise(scene, record, compare(scene, record))
        assert summary["direction_error_deg"]["max"] == pytest.approx(np.degrees(off), abs=1e-3)
        assert summary["answers_per_second"] == pytest.approx(1.0 / 0.066)
        assert summary["latency_ms"]["median"] == pytest.approx(80.0)
        if scene.kind == "point":
            assert summary["position_error_diameters"]["median"] == pytest.approx(1.4 * 2 * np.sin(off / 2), abs=1e-6)
        assert scene.kind in table(summary)
        assert bool(failures(summary)) == (off == 0.5)
    record.answers = [{**answer, "status": "REFUSED", "reason": "dark"} for answer in record.answers]
    (problem,) = failures(summarise(scene, record, compare(scene, record)))
    assert "no light was estimated; reasons: ['dark']" in problem
    assert "answers per second" in failures(summarise(scene, LightRecord(), []))[-1]


def test_the_scene_is_lit_by_its_light(scene):
    assert scene.lights == pytest.approx(moving_light(np.arange(len(scene.recording)) / scene.recording.rate, 3))
    np.testing.assert_allclose(np.linalg.norm(scene.lights, axis=1), 1.0)
    image, mask = scene.recording.image(0), scene.recording.mask(0) > 0
    assert image[mask].std() > 10.0 and abs(float(image[~mask].mean()) - 35.0) < 10.0


@pytest.mark.parametrize(
    ("words", "reason"),
    [(["--seconds", "0.5"], "expected 2 to 600"), (["--metallic", "2"], "expected 0 to 1"),
     (["--weights", "/no.safetensors"], "no such file")],
)  # fmt: skip
def test_bad_options_are_told(words, reason, capsys):
    assert main(["demo", "illumination", *words]) == 2
    assert reason in capsys.readouterr().err
