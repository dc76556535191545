# SPDX-License-Identifier: Apache-2.0
"""Symmetries from a BOP models_info.json: which entry, in which unit, and what is said of a bad file."""

import json

import numpy as np
import pytest

from dfips_ros.errors import ConfigError
from dfips_ros.tasks.object_pose.demo_data import DEMO_FOLDER, demo_symmetries
from dfips_ros.tasks.object_pose.models_info import load_symmetries

FLIP = [-1, 0, 0, 10, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
TABLE = {
    "1": {"diameter": 100.0},
    "5": {"symmetries_discrete": [FLIP]},
    "can": {"symmetries_continuous": [{"axis": [0, 0, 2], "offset": [0, 3, 0]}]},
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "models_info.json"
    path.write_text(json.dumps(TABLE))
    return path


@pytest.mark.parametrize(
    ("mesh", "key", "discrete", "axes"),
    [("obj_000001.ply", "", 1, 0), ("obj_000005.ply", "", 2, 0), ("/a/can.stl", "", 1, 1), ("can.stl", "5", 2, 0)],
)
def test_the_entry_is_found(file, mesh, key, discrete, axes):
    found = load_symmetries(file, mesh, key)
    assert (len(found.discrete), len(found.axes)) == (discrete, axes)


def test_lengths_are_scaled(file):
    assert load_symmetries(file, "obj_5.ply").discrete[1, 0, 3] == pytest.approx(0.01)
    assert load_symmetries(file, "obj_5.ply", scale=1.0).discrete[1, 0, 3] == pytest.approx(10.0)
    found = load_symmetries(file, "can.ply")
    assert np.allclose(found.axes, [[0, 0, 1]]) and np.allclose(found.offsets, [[0, 0.003, 0]])


@pytest.mark.parametrize("name", ["drill", "foam_brick", "gelatin_box"])
def test_the_file_that_ships(name):
    found = load_symmetries(DEMO_FOLDER / "meshes" / "models_info.json", f"{name}.obj", scale=1.0)
    assert np.allclose(found.discrete, demo_symmetries(name))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read as JSON"),
        ("[1]", "one entry per model"),
        ('{"7": {}}', "expected an entry 'obj_000005' or '5'; it has '7'"),
        ('{"5": {"symmetries_discrete": [[1, 2]]}}', "entry '5': symmetries_discrete: expected 16 numbers"),
        ('{"5": {"symmetries_continuous": [{"offset": [0, 0, 0]}]}}', "entry '5': 'axis' is missing"),
        ('{"5": {"symmetries_continuous": [{"axis": [0, 0, 0]}]}}', "entry '5': symmetries_continuous"),
        ('{"5": {"symmetries_discrete": [["a", 2]]}}', "entry '5': "),
        ('{"5": {"symmetries_discrete": 3}}', "entry '5': "),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / "info.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_symmetries(path, "obj_000005.ply")
    assert str(path) in str(caught.value)
