# SPDX-License-Identifier: Apache-2.0
"""``dfips replay object_pose --objects``: several objects of one label image, from a parameters file of the node."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dfips_ros.bags.reader import Bag
from dfips_ros.bags.types import make, make_header
from dfips_ros.bags.writer import BagWriter
from dfips_ros.cli.main import main
from dfips_ros.cli.replay_objects import read_objects
from dfips_ros.errors import ConfigError
from dfips_ros.geometry import make_pose, so3_exp
from dfips_ros.messages.image import image_fields
from dfips_ros.messages.uri import package_share
from dfips_ros.processes.mesh import load_mesh
from dfips_ros.processes.silhouette import RasterRenderer

SIZE = (240, 320)
FRAMES, PERIOD, START = 10, 33_333_333, 1_700_000_000_000_000_123
MATRIX = np.array([[310.0, 0.0, 160.5], [0.0, 308.0, 118.0], [0.0, 0.0, 1.0]])
HIDDEN = range(4, 8)  # masks in which the second object is not seen
LABELS = {"holder": 7, "box": 300}


@pytest.fixture(scope="module")
def files(bracket_solid, tmp_path_factory):
    """Mesh files by name, and a bag of both objects, each with pixels of its own label."""
    import trimesh

    folder = tmp_path_factory.mktemp("objects")
    bracket_solid.export(folder / "holder.stl")
    box = trimesh.creation.box((100.0, 60.0, 30.0))
    box.export(folder / "box.stl")
    images = np.zeros((FRAMES, *SIZE), np.uint16)
    for side, name, scale in ((-0.06, "holder", 1.0), (0.07, "box", 0.001)):
        mesh = load_mesh(folder / f"{name}.stl", scale)
        renderer = RasterRenderer(mesh)
        for k in range(FRAMES):
            if name == "box" and k in HIDDEN:
                continue
            turn = so3_exp(torch.tensor([0.9 + 0.01 * k, 0.4 - 0.02 * k, 0.3], dtype=torch.float64)).numpy()
            pose = make_pose(turn, np.array([side + 0.001 * k, 0.01, 0.5]) - turn @ mesh.center)
            depth = renderer.render(torch.from_numpy(pose)[None].float(), torch.from_numpy(MATRIX).float(), SIZE)
            images[k][depth[0].numpy() > 0] = LABELS[name]
    with BagWriter(folder / "in.mcap") as writer:
        for k, pixels in enumerate(images):
            time = START + k * PERIOD
            header = make_header(time, "eye")
            fields = {
                "height": SIZE[0], "width": SIZE[1], "distortion_model": "plumb_bob", "d": np.zeros(5),
                "k": MATRIX.ravel(), "r": np.eye(3).ravel(), "p": np.hstack([MATRIX, np.zeros((3, 1))]).ravel(),
                "binning_x": 0, "binning_y": 0,
                "roi": make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0,
                            do_rectify=False),
            }  # fmt: skip
            writer.write("/info", make("sensor_msgs/msg/CameraInfo", header=header, **fields), time)
            writer.write("/mask", make("sensor_msgs/msg/Image", header=header, **image_fields(pixels)), time)
    return folder


def parameters(files, **changes):
    """The node's parameters for both objects; a change to None leaves one out."""
    given = {"objects": list(LABELS), "lost_frames": 2, "objects.box.mesh_scale": 0.001}
    for name, value in LABELS.items():
        given |= {f"objects.{name}.mesh": str(files / f"{name}.stl"), f"objects.{name}.label_value": value}
    given |= changes
    return {name: value for name, value in given.items() if value is not None}


def write_parameters(path, given):
    path.write_text(yaml.safe_dump({"/**/pose_tracker": {"ros__parameters": given}}))
    return path


def contents(path):
    with Bag(path) as bag:
        return [(raw.topic.name, raw.topic.type, raw.time, raw.data, bag.decode(raw)) for raw in bag.messages()]


def test_each_object_is_tracked_by_its_label_and_two_runs_write_the_same(files, tmp_path, capsys):
    objects = write_parameters(tmp_path / "objects.yaml", parameters(files))
    words = ["--objects", str(objects), "--device", "cpu", "--quiet"]
    seen = ["--json", str(tmp_path / "s.json"), "--view", str(tmp_path / "view")]
    for name, more in (("a.mcap", seen), ("b.db3", [])):
        assert main(["replay", str(files / "in.mcap"), str(tmp_path / name), *words, *more]) == 0
    printed = capsys.readouterr().out
    first, second = contents(tmp_path / "a.mcap"), contents(tmp_path / "b.db3")
    assert [each[:4] for each in sorted(first, key=lambda m: m[:4])] == [
        each[:4] for each in sorted(second, key=lambda m: m[:4])
    ]
    arrays = [message for topic, *_, message in first if topic == "/pose_tracker/tracked_objects"]
    singles = [message for topic, *_, message in first if topic == "/pose_tracker/tracked_object"]
    assert len(arrays) == FRAMES
    assert [str(one) for array in arrays for one in array.objects] == [str(one) for one in singles]
    tracking, lost = singles[0].TRACKING, singles[0].LOST
    holder, box = (list(each) for each in zip(*(array.objects for array in arrays), strict=True))
    assert {(one.object_name, one.id, one.state) for one in holder} == {("holder", 1, tracking)}
    assert {(one.object_name, one.id) for one in box} == {("box", 2)}
    missed = [HIDDEN[0] + 1, *HIDDEN[2:]]  # the first miss of two is waited for
    assert [one.state for one in box[:4]] == [tracking] * 4 and {box[k].state for k in missed} == {lost}
    assert box[-1].state == tracking and all(one.iou > 0.8 for one in [*holder, *box[:4], box[-1]])
    transforms = [[each.child_frame_id for each in m.transforms] for topic, *_, m in first if topic == "/tf"]
    assert transforms[0] == ["holder", "box"] and transforms[HIDDEN[1]] == ["holder"] and len(transforms) == FRAMES
    poses = [message for topic, *_, message in first if topic == "/pose_tracker/pose"]
    assert [p.pose.pose for p in poses] == [one.pose.pose for one in holder]
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["objects"]["holder"]["tracked"] == FRAMES and summary["objects"]["box"]["lost"] == 1
    assert summary["objects"]["box"]["recovered"] == 1 and "box: lost / recovered: 1 / 1" in printed
    text = (tmp_path / "view" / "report.html").read_text()
    assert text.count("<svg") == 11 and "box: Silhouette IoU" in text


def label_info(labels, time):
    """vision_msgs/LabelInfo of classes by name."""
    classes = [make("vision_msgs/msg/VisionClass", class_id=label, class_name=name) for name, label in labels.items()]
    return make("vision_msgs/msg/LabelInfo", header=make_header(time, ""), class_map=classes, threshold=0.5)


@pytest.fixture(scope="module")
def classes(files):
    """The bag of both objects with a latched LabelInfo, which the recorder got after the first masks, and a package
    with their meshes."""
    share = files / "prefix" / "share"
    index = share / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "cell").write_text("")
    (share / "cell" / "meshes").mkdir(parents=True)
    for name in LABELS:
        (share / "cell" / "meshes" / f"{name}.stl").write_bytes((files / f"{name}.stl").read_bytes())
    with Bag(files / "in.mcap") as bag, BagWriter(files / "classes.mcap") as writer:
        for k, raw in enumerate(bag.messages()):
            writer.write(raw.topic.name, bag.decode(raw), raw.time)
            if k == 6:
                told = {"UNLABELED": 65_535, "holder class": LABELS["holder"], "box class": LABELS["box"]}
                writer.write("/labels", label_info(told, raw.time), raw.time)
    return files


def test_classes_come_with_label_info_and_meshes_from_packages(classes, tmp_path, monkeypatch):
    """The same answers as with labels and paths, in all masks."""
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/no/such/prefix:{classes / 'prefix'}")
    given = parameters(classes)
    for name in LABELS:
        del given[f"objects.{name}.label_value"]
        given |= {f"objects.{name}.mesh": f"package://cell/meshes/{name}.stl",
                  f"objects.{name}.class_name": f"{name} class"}  # fmt: skip
    told = {"labels": parameters(classes), "classes": given}
    for name, each in told.items():
        objects = write_parameters(tmp_path / f"{name}.yaml", each)
        words = ["--objects", str(objects), "--device", "cpu", "--quiet", "--no-overlay", "--json", str(tmp_path / "s")]
        assert main(["replay", str(classes / "classes.mcap"), str(tmp_path / f"{name}.mcap"), *words]) == 0
    summary = json.loads((tmp_path / "s").read_text())
    assert summary["topics"]["label_info"] == "/labels" and summary["objects"]["holder"]["tracked"] == FRAMES
    first, second = (contents(tmp_path / f"{name}.mcap") for name in told)
    assert [each[:4] for each in first] == [each[:4] for each in second]


def test_packages_are_found_as_ament_index_finds_them(classes, monkeypatch):
    """In the first overlay that has them; never outside of it."""
    index = pytest.importorskip("ament_index_python.packages")
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{classes / 'prefix'}:{prefixes}")
    for package in ("cell", *(name for name in ("dfips_ros", "std_msgs") if prefixes)):
        assert package_share(package) == Path(index.get_package_share_directory(package))
    for package in ("", "..", "../cell", "no_such"):
        with pytest.raises(ConfigError, match="is not installed"):
            package_share(package)
    monkeypatch.delenv("AMENT_PREFIX_PATH")
    with pytest.raises(ConfigError, match=r"No ROS 2 is sourced: source its setup\.bash"):
        package_share("cell")


def test_a_single_object_may_be_a_class(classes, tmp_path):
    words = ["--mesh", str(classes / "box.stl"), "--scale", "0.001", "--class-name", "box class", "--device", "cpu",
             "--quiet", "--no-overlay", "--json", str(tmp_path / "s")]  # fmt: skip
    assert main(["replay", str(classes / "classes.mcap"), str(tmp_path / "out.mcap"), *words]) == 0
    assert json.loads((tmp_path / "s").read_text())["tracked"] == FRAMES - len(HIDDEN)


@pytest.mark.parametrize(("words", "bag", "reason"), [
    (["--class-name", "box class"], "in.mcap", "has no topic of type vision_msgs/msg/LabelInfo"),
    (["--class-name", "a", "--label-info-topic", "/mask"], "classes.mcap", "--label-info-topic /mask: is of type"),
    (["--label", "7", "--label-info-topic", "/labels"], "classes.mcap", "no object has a class_name"),
])  # fmt: skip
def test_labels_of_classes_that_are_not_there(words, bag, reason, classes, tmp_path, capsys):
    given = ["--mesh", str(classes / "holder.stl"), *words]
    assert main(["replay", str(classes / bag), str(tmp_path / "out.mcap"), *given]) == 2
    assert reason in capsys.readouterr().err


def test_a_class_that_is_not_listed_is_told(classes, tmp_path):
    words = ["--mesh", str(classes / "holder.stl"), "--class-name", "cup", "--quiet", "--no-overlay", "--json",
             str(tmp_path / "s")]  # fmt: skip
    assert main(["replay", str(classes / "classes.mcap"), str(tmp_path / "out.mcap"), *words]) == 0
    (reason,) = json.loads((tmp_path / "s").read_text())["unusable_masks"]
    assert "class_name='cup': /labels does not list it; it lists 'holder class', 'box class'" in reason


def test_a_label_that_cannot_occur_is_told_of_its_object_alone(files, tmp_path):
    objects = write_parameters(tmp_path / "o.yaml", parameters(files, **{"objects.box.label_value": 70_000}))
    words = ["--objects", str(objects), "--device", "cpu", "--quiet", "--no-overlay", "--json", str(tmp_path / "s")]
    assert main(["replay", str(files / "in.mcap"), str(tmp_path / "out.mcap"), *words]) == 0
    found = json.loads((tmp_path / "s").read_text())["objects"]
    assert found["holder"]["tracked"] == FRAMES and found["box"]["tracked"] == 0
    (reason,) = found["box"]["unusable_masks"]
    assert "label_value=70000 cannot occur" in reason


def test_parameters_may_be_nested_and_stand_beside_those_of_other_nodes(files, tmp_path):
    given = parameters(files, init_iou=1, lost_iou=0.5)
    nested = {"cell": {"pose_tracker": {"ros__parameters": given}}, "ik_solver": {"ros__parameters": {"tip": "hand"}}}
    given["objects.box"] = {"label_value": given.pop("objects.box.label_value")}
    (tmp_path / "cell.yaml").write_text(yaml.safe_dump(nested))
    objects, config = read_objects(tmp_path / "cell.yaml")
    assert [(one.name, one.scale, one.label_value) for one in objects] == [("holder", 1.0, 7), ("box", 0.001, 300)]
    assert (config.init_iou, config.lost_iou, config.lost_frames) == (1.0, 0.5, 2)


@pytest.mark.parametrize(("changes", "reason"), [
    ({"objects": None}, "list objects, got none"),
    ({"objects": [""]}, "list objects, got none"),
    ({"objects": ["box", "box"]}, "'box': expected a name that occurs once"),
    ({"objects": ["box"]}, "expected objects.<name>.<parameter> with a name of box and"),
    ({"objects.box.colour": "red"}, "objects.box.colour: expected objects.<name>.<parameter>"),
    ({"objects.box.mesh": None}, "objects.box.mesh: expected a mesh file"),
    ({"objects.box.mesh": "package://no_such_cell/box.stl"}, "box.stl': the package 'no_such_cell' is not installed"),
    ({"objects.box.mesh": "http://cell/box.stl"}, "expected a path, file:// or package://, not http://"),
    ({f"objects.{name}.label_value": 0 for name in LABELS} | {f"objects.{name}.class_name": "c" for name in LABELS},
     "'holder' and 'box' have class_name='c'"),
    ({"objects.box.mesh_scale": "small"}, "objects.box.mesh_scale='small': expected a number"),
    ({"objects.box.label_value": 7}, "'holder' and 'box' have label_value=7"),
    ({"objects.box.label_value": 0}, "objects.box.label_value: expected the value of its pixels"),
    ({"objects.box.label_value": 2.0}, "objects.box.label_value=2.0: expected an integer"),
    ({"lost_iou": float("nan")}, "lost_iou=nan: expected a number"),
    ({"lost_iou": 0.95}, "expected at most init_iou"),
])  # fmt: skip
def test_wrong_parameters_are_told_by_name(changes, reason, files, tmp_path):
    with pytest.raises(ConfigError) as told:
        read_objects(write_parameters(tmp_path / "objects.yaml", parameters(files, **changes)))
    assert reason in str(told.value)


@pytest.mark.parametrize(("words", "reason"), [
    (["--objects", "no.yaml"], "objects 'no.yaml': cannot be read"),
    (["--objects", "no.yaml", "--label", "3"], "--label 3: tells of a single object"),
    (["--objects", "no.yaml", "--class-name", "cup"], "--class-name cup: tells of a single object"),
    (["--objects", "no.yaml", "--scale", "0.001"], "--scale 0.001: tells of a single object"),
    (["--objects", "no.yaml", "--models-info", "m.json"], "--models-info m.json: tells of a single object"),
])  # fmt: skip
def test_options_of_a_single_object_do_not_go_with_several(words, reason, files, tmp_path, capsys):
    assert main(["replay", str(files / "in.mcap"), str(tmp_path / "out.mcap"), *words]) == 2
    assert reason in capsys.readouterr().err and not (tmp_path / "out.mcap").exists()
