# SPDX-License-Identifier: Apache-2.0
"""The launch file of image_restorer, with stand-ins for ROS 2's launch."""

from __future__ import annotations

import pytest

from .stand_in import ROOT


def test_only_what_is_given_wins_over_the_parameters_file(start):
    nodes = start("image_restorer", params_file="my.yaml")
    assert set(nodes) == {"image_restorer"}
    plain = nodes["image_restorer"]
    assert (plain["parameters"], plain["remappings"]) == (["my.yaml"], [])
    words = {"autostart": "false", "consistency": "exact", "input_topic": "/camera/compressed"}
    given = start("image_restorer", params_file="my.yaml", **words)["image_restorer"]
    overrides = given["parameters"][1]
    assert overrides["autostart"] is False and overrides["consistency"].arguments == ("exact",)
    assert given["remappings"] == [("~/image/compressed", "/camera/compressed")]
    with pytest.raises(RuntimeError, match="autostart:=maybe: expected true or false"):
        start("image_restorer", autostart="maybe")


def test_the_executable_is_installed():
    assert "dfips_executable(image_restorer dfips_ros.nodes.image_restorer" in (ROOT / "CMakeLists.txt").read_text()
