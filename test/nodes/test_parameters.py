# SPDX-License-Identifier: Apache-2.0
"""The parameter table: declaration, ranges, refusals, and the files that are written from it."""

from __future__ import annotations

from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy")

import yaml  # noqa: E402
from rcl_interfaces.msg import ParameterDescriptor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from dfips_ros.errors import ConfigError  # noqa: E402
from dfips_ros.nodes import ros_api  # noqa: E402
from dfips_ros.nodes.parameters import ParameterReader, members_of, specs_of  # noqa: E402
from dfips_ros.nodes.tracker_factory import load_given_symmetries  # noqa: E402
from dfips_ros.nodes.tracker_parameters import PoseTrackerParameters  # noqa: E402

ALL_SPECS = {
    f"{node}.{spec.name}": spec
    for node, tables in ros_api.NODES.items()
    for table in (tables.parameters, *(table for _, table in members_of(tables.parameters).values()))
    for spec in specs_of(table)
}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def context(ros_domain):
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    context.try_shutdown()


@pytest.fixture
def make_reader(context):
    nodes = []

    def make(**overrides):
        given = [Parameter(name, value=value) for name, value in overrides.items()]
        node = rclpy.create_node("holder", context=context, parameter_overrides=given)
        nodes.append(node)
        return ParameterReader(node, PoseTrackerParameters), node

    yield make
    for node in nodes:
        node.destroy_node()


@pytest.mark.parametrize("spec", ALL_SPECS.values(), ids=ALL_SPECS)
def test_every_parameter_is_described_and_its_default_is_valid(spec):
    assert spec.description.endswith(".") and spec.allowed
    assert spec.check(spec.default) == spec.default
    assert spec.descriptor().description == spec.description


@pytest.mark.parametrize("spec", ALL_SPECS.values(), ids=ALL_SPECS)
def test_wrong_types_and_values_name_parameter_value_and_choices(spec):
    wrong = {bool: ["yes", 1], int: [1.5, "2", True], float: ["0.5", True], str: [3, None], tuple: ["a", [1]]}[
        type(spec.default)
    ]
    if spec.choices:
        wrong.append("none of these")
    if spec.low is not None:
        wrong.append(type(spec.default)(spec.low - 1))
    if spec.high is not None:
        wrong += [type(spec.default)(spec.high * 2 + 1)]
    if isinstance(spec.default, float):
        wrong += [float("nan"), float("inf")]
        assert spec.check(1) == 1.0 and type(spec.check(1)) is float
    for value in wrong:
        with pytest.raises(ConfigError) as caught:
            spec.check(value)
        assert spec.name in str(caught.value) and repr(value) in str(caught.value)
        assert spec.allowed in str(caught.value)


def test_declared_with_type_range_and_description(make_reader):
    _, node = make_reader(mesh="a.stl")
    descriptor = node.describe_parameter("lost_frames")
    assert isinstance(descriptor, ParameterDescriptor)
    assert (descriptor.integer_range[0].from_value, descriptor.integer_range[0].to_value) == (1, 1000)
    assert node.describe_parameter("lost_iou").floating_point_range[0].to_value == 1.0
    assert "'binary' | 'label'" in node.describe_parameter("mask_mode").additional_constraints


def test_read(make_reader):
    reader, _ = make_reader(mesh="/data/part one.stl", mesh_scale=1, lost_iou=0.4)
    parameters = reader.read()
    assert (parameters.mesh_scale, parameters.lost_iou, parameters.lost_frames) == (1.0, 0.4, 3)
    assert (parameters.name, parameters.frame) == ("part one", "part one")


def test_bad_initial_values_are_told_all_at_once_until_they_are_put_right(make_reader):
    reader, node = make_reader(mesh="a.stl", lost_iou=3.0, mask_mode="colour", lost_frames="two")
    with pytest.raises(ConfigError) as caught:
        reader.read()
    text = str(caught.value)
    assert "lost_iou=3.0" in text and "mask_mode='colour'" in text and "lost_frames='two'" in text
    good = {"lost_iou": 0.5, "mask_mode": "label", "lost_frames": 2}
    assert reader.judge(good, configured=False) is None
    node.set_parameters([Parameter(name, value=value) for name, value in good.items()])
    assert reader.read().lost_frames == 2


def test_change_at_run_time(make_reader):
    reader, _ = make_reader(mesh="a.stl")
    assert reader.judge({"use_sim_time": True}, configured=True) is None
    changed = reader.judge({"lost_iou": 0.7, "publish_tf": False}, configured=True)
    assert changed is not None and (changed.lost_iou, changed.publish_tf) == (0.7, False)
    with pytest.raises(ConfigError, match="mesh cannot change from 'a.stl' to 'b.stl' while the node is configured"):
        reader.judge({"mesh": "b.stl"}, configured=True)
    assert reader.judge({"mesh": "a.stl"}, configured=True) is not None  # no change
    assert reader.judge({"mesh": "b.stl"}, configured=False) is None
    with pytest.raises(ConfigError, match="init_iou"):
        reader.judge({"lost_iou": 0.95}, configured=True)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"mesh": " "}, "mesh=''"),
        ({"mesh": "a.stl", "lost_iou": 0.9}, "init_iou=0.8.*lost_iou=0.9"),
        ({"mesh": "a.stl", "object_frame": "/box"}, "object_frame='/box'.*must not start"),
        ({"mesh": "a.stl", "models_info_key": "5"}, "models_info_key='5'.*models_info"),
    ],
)
def test_checks_across_parameters(values, expected):
    with pytest.raises(ConfigError, match=expected):
        PoseTrackerParameters(**values)


@pytest.mark.parametrize(
    ("mesh", "path"),
    [
        ("/data/a.stl", "/data/a.stl"),
        ("file:///data/a%20b.stl", "/data/a b.stl"),
        ("~/a.stl", str(Path.home() / "a.stl")),
        ("parts/a.stl", "parts/a.stl"),
    ],
)
def test_mesh_path(mesh, path):
    assert str(PoseTrackerParameters(mesh=mesh).mesh_path) == path


@pytest.mark.parametrize("mesh", ["http://x.org/a.stl", "package://surely_not_installed/a.stl"])
def test_mesh_uri_that_cannot_be_resolved(mesh):
    with pytest.raises(ConfigError, match="mesh="):
        _ = PoseTrackerParameters(mesh=mesh).mesh_path


def test_symmetries_are_taken_from_the_file_that_is_named(tmp_path):
    mesh, info = tmp_path / "obj_000002.stl", tmp_path / "info.json"
    info.write_text('{"2": {"symmetries_continuous": [{"axis": [0, 1, 0], "offset": [0, 0, 4]}]}, "part": {}}')
    given = {"mesh": str(mesh), "mesh_scale": 0.001, "models_info": f"file://{info}"}
    found = load_given_symmetries(PoseTrackerParameters(**given))
    assert found is not None and found.axes.tolist() == [[0, 1, 0]] and found.offsets[0, 2] == pytest.approx(0.004)
    found = load_given_symmetries(PoseTrackerParameters(**given, models_info_key="part"))
    assert found is not None and found.is_trivial
    assert load_given_symmetries(PoseTrackerParameters(mesh=str(mesh))) is None
    with pytest.raises(ConfigError, match=r"models_info_key='9'.*expected an entry '9'; it has '2', 'part'"):
        load_given_symmetries(PoseTrackerParameters(**given, models_info_key="9"))


@pytest.mark.skipif(not (ROOT / "docs" / "ros_api.md").is_file(), reason="not run from a source checkout")
def test_written_files_are_up_to_date(tmp_path):
    """If this fails, remake them: CONTRIBUTING.md, "Generated files"."""
    files = [f"{node}.yaml" for node in ros_api.NODES]
    written = ["--docs", str(tmp_path / "ros_api.md"), "--config", *(str(tmp_path / file) for file in files)]
    assert ros_api.main(written) == 0
    assert (tmp_path / "ros_api.md").read_text() == (ROOT / "docs" / "ros_api.md").read_text()
    assert all((tmp_path / file).read_text() == (ROOT / "config" / file).read_text() for file in files)


def test_a_parameters_file_is_named_after_its_node(tmp_path, capsys):
    with pytest.raises(SystemExit):
        ros_api.main(["--config", str(tmp_path / "c.yaml")])
    assert "pose_tracker, ik_solver" in capsys.readouterr().err


@pytest.mark.parametrize("node", ros_api.NODES)
def test_parameters_file_has_every_parameter_with_its_default(node):
    values = yaml.safe_load(ros_api.config_text(node))[f"/**/{node}"]["ros__parameters"]
    assert values == {spec.name: spec.ros_default for spec in specs_of(ros_api.NODES[node].parameters)}


def test_the_node_takes_the_parameters_file(context, tmp_path):
    file = tmp_path / "pose_tracker.yaml"
    file.write_text(
        ros_api.config_text("pose_tracker")
        .replace('mesh: ""', 'mesh: "part.stl"')
        .replace("lost_frames: 3", "lost_frames: 9")
    )
    for namespace in ("/", "/robot/left"):
        arguments = ["--ros-args", "--params-file", str(file)]
        node = rclpy.create_node("pose_tracker", namespace=namespace, context=context, cli_args=arguments)
        parameters = ParameterReader(node, PoseTrackerParameters).read()
        node.destroy_node()
        assert (parameters.mesh, parameters.lost_frames) == ("part.stl", 9)


@pytest.mark.parametrize("node", ros_api.NODES)
def test_documentation_lists_every_endpoint_service_and_parameter(node):
    text, tables = ros_api.docs_text(), ros_api.NODES[node]
    text = text[text.index(f"## Node `{node}`") :]
    named = [endpoint.topic for endpoint in tables.endpoints.values()] + [name for name, _, _ in tables.services]
    for name in [*named, *(spec.name for spec in specs_of(tables.parameters))]:
        assert f"| `{name}` |" in text
