# SPDX-License-Identifier: Apache-2.0
"""Parameters of several objects: declared by name, read, checked against each other."""

from __future__ import annotations

import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.parameter import Parameter  # noqa: E402

from dfips_ros.errors import ConfigError  # noqa: E402
from dfips_ros.nodes.parameters import ParameterReader  # noqa: E402
from dfips_ros.nodes.tracker_parameters import ObjectParameters, PoseTrackerParameters, check_distinct  # noqa: E402

FILE = """
/**/pose_tracker:
  ros__parameters:
    objects: {names}
    objects.cup.mesh: "/data/cup.stl"
    objects.cup.mesh_scale: 1
    objects.cup.label_value: 3
    objects.drill.mesh: "/data/drill.obj"
    objects.drill.class_name: "power drill"
    mesh: "{mesh}"
"""


@pytest.fixture(scope="module")
def context(ros_domain):
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    context.try_shutdown()


@pytest.fixture
def make_reader(context):
    nodes = []

    def make(overrides=None, cli_args=None):
        given = [Parameter(name, value=value) for name, value in (overrides or {}).items()]
        node = rclpy.create_node("pose_tracker", context=context, parameter_overrides=given, cli_args=cli_args)
        nodes.append(node)
        return ParameterReader(node, PoseTrackerParameters), node

    yield make
    for node in nodes:
        node.destroy_node()


def test_a_list_in_a_parameters_file(make_reader, tmp_path):
    file = tmp_path / "objects.yaml"
    file.write_text(FILE.format(names='["cup", "drill"]', mesh=""))
    parameters = make_reader(cli_args=["--ros-args", "--params-file", str(file)])[0].read()
    cup, drill = parameters.each
    assert (cup.name, cup.frame, str(cup.mesh_path), cup.mesh_scale) == ("cup", "cup", "/data/cup.stl", 1.0)
    assert (cup.mask_mode, cup.label_value, cup.detected_class) == ("label", 3, "cup")
    assert (drill.mask_mode, drill.class_name, drill.detected_class) == ("class", "power drill", "power drill")
    for names in ("[]", '[""]'):
        file.write_text(FILE.format(names=names, mesh="part.stl"))
        single = make_reader(cli_args=["--ros-args", "--params-file", str(file)])[0].read()
        assert [each.name for each in single.each] == ["part"] and single.each[0] is single


def test_names_may_be_listed_later(make_reader):
    reader, node = make_reader()
    node.add_on_set_parameters_callback(lambda changes: judged(reader, changes))
    assert set_all(node, objects=["cup"]) == [""]
    assert set_all(node, **{"objects.cup.mesh": "cup.stl", "objects.cup.label_value": 4}) == ["", ""]
    assert reader.read().each[0].label_value == 4
    assert "objects.cup.mesh_scale" in set_all(node, **{"objects.cup.mesh_scale": -1.0})[0]


def judged(reader, changes):
    from rcl_interfaces.msg import SetParametersResult

    try:
        reader.judge({each.name: each.value for each in changes}, False)
    except ConfigError as error:
        return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)


def set_all(node, **values):
    return [node.set_parameters([Parameter(name, value=value)])[0].reason for name, value in values.items()]


def test_a_bad_initial_value_of_an_object_is_told_until_it_is_put_right(make_reader):
    given = {"objects": ["cup"], "objects.cup.mesh": "cup.stl", "objects.cup.mesh_scale": -1.0}
    reader, node = make_reader(given)
    with pytest.raises(ConfigError, match=r"objects.cup.mesh_scale=-1.0: allowed is 1e-06 to 1e\+06"):
        reader.read()
    reader.judge({"objects.cup.mesh_scale": 0.001}, configured=False)
    node.set_parameters([Parameter("objects.cup.mesh_scale", value=0.001)])
    assert reader.read().each[0].mesh_scale == 0.001


def test_change_at_run_time(make_reader):
    given = {"objects": ["a", "b"]} | {f"objects.{n}.mesh": f"{n}.stl" for n in "ab"}
    reader, _ = make_reader(given | {"objects.a.label_value": 1, "objects.b.label_value": 2})
    changed = reader.judge({"objects.a.label_value": 5}, configured=True)
    assert [each.label_value for each in changed.each] == [5, 2]
    for change, reason in [
        ({"objects.a.label_value": 2}, "object 'b': label_value=2 is also 'a'"),
        ({"objects.a.mesh": "c.stl"}, "objects.a.mesh cannot change"),
        ({"objects": ["a"]}, "objects cannot change"),
        ({"objects.a.label_value": 0}, "every non-zero pixel"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            reader.judge(change, configured=True)


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ({"a": {"label_value": 1}, "b": {"label_value": 1}}, "'b': label_value=1 is also 'a'"),
        ({"a": {"class_name": "cup"}, "b": {"class_name": "cup"}}, "class_name='cup' is also 'a'"),
        ({"a": {"label_value": 1}, "b": {}}, "'b': every non-zero pixel is taken for it, .*no room for 'a'"),
        ({"a": {}, "b": {"label_value": 1}}, "'a': every non-zero pixel is taken for it, .*no room for 'b'"),
        ({"a": {"label_value": 1}, "/b": {"label_value": 2}}, "must not start with '/'"),
        ({"a": {"label_value": 1}, "b": {"label_value": 2, "models_info_key": "5"}}, "object 'b': .*models_info_key"),
        ({"a": {"label_value": 1}, "b": {"label_value": 2, "mesh": " "}}, "objects.b.mesh=''"),
    ],
)
def test_objects_that_cannot_be_told_apart(objects, reason):
    tables = {name: ObjectParameters(**{"mesh": f"{name}.stl", **own}) for name, own in objects.items()}
    with pytest.raises(ConfigError, match=reason):
        PoseTrackerParameters(objects=tuple(tables), object_parameters=tables)


def test_objects_that_can_be_told_apart():
    node = PoseTrackerParameters(mesh="part.stl", mask_mode="label", object_frame="part_frame")
    others = [node.of("cup", ObjectParameters(mesh="cup.stl", label_value=2))]
    others.append(node.of("dish", ObjectParameters(mesh="dish.stl", class_name="dish")))
    check_distinct([node, *others])
    with pytest.raises(ConfigError, match="'part': there is another one of this name"):
        check_distinct([node, node.of("part", ObjectParameters(mesh="b.stl", label_value=2))])
    with pytest.raises(ConfigError, match="its frame 'part_frame' is also that of 'part'"):
        check_distinct([node, node.of("part_frame", ObjectParameters(mesh="b.stl", label_value=2))])
    detected = PoseTrackerParameters(mesh="part.stl", mask_source="detections")
    check_distinct([detected, detected.of("cup", ObjectParameters(mesh="cup.stl"))])  # their names are their classes
    with pytest.raises(ConfigError, match="the class 'part' is also 'part'"):
        check_distinct([detected, detected.of("cup", ObjectParameters(mesh="cup.stl", class_name="part"))])


def test_class_mode_needs_a_class():
    with pytest.raises(ConfigError, match="mask_mode='class': expected class_name"):
        PoseTrackerParameters(mesh="part.stl", mask_mode="class")
