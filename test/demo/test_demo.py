# SPDX-License-Identifier: Apache-2.0
"""``dfips demo`` through real processes and real topics, short."""

import json

import pytest

from dfips_ros.cli.main import main


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_demo_tracks_a_real_object(tmp_path, capsys):
    status = main(
        ["demo", "--parts", "gelatin_box", "--seconds", "2", "--out", str(tmp_path), "--no-pictures", "--quiet",
         "--device", "cpu", "--json", str(tmp_path / "copy.json")]
    )  # fmt: skip
    content = json.loads((tmp_path / "summary.json").read_text())
    assert status == 0, (tmp_path / "logs" / "gelatin_box" / "pose_tracker.log").read_text()
    assert content == json.loads((tmp_path / "copy.json").read_text())
    part = content["parts"][0]
    assert part["frames"] == 60
    assert part["state_at_end"] == "TRACKING"
    assert part["mask_iou"]["median"] > 0.93
    assert part["rotation_error_deg"]["median"] < 8.0
    assert part["translation_error_mm"]["median"] < 25.0
    assert part["latency_ms"]["median"] > 0.0
    assert part["memory_mb"] > 50
    assert content["machine"]["cores"] >= 1
    assert not list(tmp_path.glob("*.mp4"))
    table = capsys.readouterr().out
    assert "rotation error [deg] median / p95" in table


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seconds", "0.1"], "--seconds"),
        (["--parts", "banana"], "foam_brick, gelatin_box, drill"),
        (["--mesh", "nowhere.stl"], "nowhere.stl"),
        (["--weights", "nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_bad_arguments(arguments, words, tmp_path, capsys):
    assert main(["demo", "--quiet", "--out", str(tmp_path), *arguments]) == 2
    text = capsys.readouterr().err.splitlines()[-1]
    assert text.startswith("dfips demo: ")
    assert words in text
