# SPDX-License-Identifier: Apache-2.0
"""Which objects ``dfips replay object_pose`` tracks: one from its options, or those of a parameters file."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..messages.labels import selection_in_words
from ..messages.uri import path_from_uri
from ..tasks.object_pose import ObjectPoseEstimator, PoseTracker, TrackerConfig, tracking_estimator_config
from ..tasks.object_pose.models_info import load_symmetries
from ..tasks.object_pose.multi_tracker import shared_config
from .files import read_yaml
from .replay_object import ReplayedObject

KINDS = {"mesh": str, "mesh_scale": float, "label_value": int, "class_name": str, "models_info": str,
         "models_info_key": str}  # fmt: skip
TRACKER_KINDS = {"lost_iou": float, "lost_frames": int, "init_iou": float, "min_mask_pixels": int}


@dataclass(frozen=True)
class ObjectOptions:
    """What is told of one object. Without label and class every non-zero pixel of a mask is the object."""

    name: str
    mesh: Path
    scale: float = 1.0
    label_value: int | None = None
    class_name: str = ""
    models_info: Path | None = None
    models_info_key: str = ""

    @property
    def mask_mode(self) -> str:
        """As the node's parameter: a label goes before a class."""
        return "label" if self.label_value is not None else "class" if self.class_name else "binary"

    @property
    def selection(self) -> str:
        """Which pixels are the object's, in words."""
        return selection_in_words(self.mask_mode, self.label_value or 0, self.class_name)


def chosen_objects(options: argparse.Namespace) -> tuple[tuple[ObjectOptions, ...], TrackerConfig]:
    """The objects, and when they count as found and lost.

    Raises:
        ConfigError: options or file are wrong.
    """
    if options.objects is not None:
        for name in ("name", "label", "class_name", "models_info", "scale"):
            if getattr(options, name) != (1.0 if name == "scale" else None):
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} {getattr(options, name)}: tells of a single object; with --objects the "
                                  "file tells it of each.")  # fmt: skip
        return read_objects(options.objects)
    if options.name is not None and (not options.name or options.name.startswith("/")):
        raise ConfigError(f"--name {options.name!r}: expected a name that does not begin with '/', as a frame of tf2.")
    if options.models_info_key and options.models_info is None:
        raise ConfigError("--models-info-key belongs to --models-info FILE, which has the entry. Give both.")
    mesh = _file(f"--mesh {options.mesh}", str(options.mesh))
    name = options.name or mesh.stem
    one = ObjectOptions(name, mesh, options.scale, options.label, options.class_name or "", options.models_info,
                        options.models_info_key or "")  # fmt: skip
    return (one,), TrackerConfig()


def read_objects(path: Path) -> tuple[tuple[ObjectOptions, ...], TrackerConfig]:
    """The objects in a parameters file of the node ``pose_tracker``: ``objects`` and ``objects.<name>.*``.

    Of its other parameters ``lost_iou``, ``lost_frames``, ``init_iou`` and ``min_mask_pixels`` count.

    Raises:
        ConfigError: the file cannot be read, or an object cannot be told from it.
    """
    found = [each for each in _sections(read_yaml(path, ConfigError, "objects")) if _listed(each)]
    if len(found) != 1:
        what = "none" if not found else f"{len(found)} of them"
        raise ConfigError(f"objects '{path}': expected one node whose ros__parameters list objects, got {what}.")
    given = found[0]
    names = _listed(given)
    own: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in given.items():
        if key.startswith("objects."):
            name, _, parameter = key.removeprefix("objects.").rpartition(".")
            if name not in own or parameter not in KINDS:
                raise ConfigError(f"objects '{path}': {key}: expected objects.<name>.<parameter> with a name of "
                                  f"{', '.join(names)} and a parameter of {', '.join(KINDS)}.")  # fmt: skip
            own[name][parameter] = _typed(path, key, value, KINDS[parameter])
    objects = tuple(_object(path, name, own[name], len(names) > 1) for name in names)
    for i, one in enumerate(objects):
        twin = next((other for other in objects[:i] if other.selection == one.selection), None)
        if twin is not None:
            raise ConfigError(f"objects '{path}': '{twin.name}' and '{one.name}' have {one.selection}; "
                              "expected one of its own for each.")  # fmt: skip
    limits = {name: _typed(path, name, given[name], kind) for name, kind in TRACKER_KINDS.items() if name in given}
    return objects, TrackerConfig(**limits)


def _sections(table: Mapping[Any, Any]) -> Iterator[dict[str, Any]]:
    """The parameters of each node in a parameters file, with dots in their names."""
    for key, value in table.items():
        if key == "ros__parameters" and isinstance(value, Mapping):
            yield dict(_flat(value, ""))
        elif isinstance(value, Mapping):
            yield from _sections(value)


def _flat(table: Mapping[Any, Any], before: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _listed(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in ``objects``, each once; an empty one stands for none, as for ROS."""
    given = parameters.get("objects")
    names = [name for name in given if name] if isinstance(given, list) else []
    for name in names:
        if not isinstance(name, str) or name.startswith("/") or names.count(name) > 1:
            raise ConfigError(f"objects: {name!r}: expected a name that occurs once and does not begin with '/'.")
    return tuple(names)


def _typed(path: Path, key: str, value: object, kind: type) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        what = {str: "a string", int: "an integer", float: "a number"}[kind]
        raise ConfigError(f"objects '{path}': {key}={value!r}: expected {what}.")
    return value


def _object(path: Path, name: str, own: Mapping[str, Any], several: bool) -> ObjectOptions:
    if not own.get("mesh"):
        raise ConfigError(f"objects '{path}': objects.{name}.mesh: expected a mesh file.")
    label = own.get("label_value") or None  # 0: not told, as for the node
    class_name = own.get("class_name", "")
    if label is None and not class_name and several:
        raise ConfigError(f"objects '{path}': objects.{name}.label_value: expected the value of its pixels, or a "
                          "class_name.")  # fmt: skip
    info = own.get("models_info")
    return ObjectOptions(
        name, _file(f"objects '{path}': objects.{name}.mesh={own['mesh']!r}", own["mesh"]), own.get("mesh_scale", 1.0),
        label, class_name, _file(f"objects '{path}': objects.{name}.models_info={info!r}", info) if info else None,
        own.get("models_info_key", ""),
    )  # fmt: skip


def _file(what: str, text: str) -> Path:
    """A path, a file:// or a package:// URI."""
    try:
        return path_from_uri(text)
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from error


def make_objects(
    objects: tuple[ObjectOptions, ...], config: TrackerConfig, options: argparse.Namespace
) -> list[ReplayedObject]:
    """Estimator and tracker of each object, as the node makes them.

    Raises:
        DfipsError: an object cannot be loaded; of several, the message names it.
    """
    import numba
    import torch

    torch.set_num_threads(options.threads)
    numba.set_num_threads(min(options.threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    config = shared_config(config, len(objects))
    return [_make_object(each, config, options) for each in objects]


def _make_object(each: ObjectOptions, config: TrackerConfig, options: argparse.Namespace) -> ReplayedObject:
    symmetries = None
    if each.models_info is not None:
        symmetries = load_symmetries(each.models_info, each.mesh, each.models_info_key, each.scale)
    estimator = ObjectPoseEstimator.from_mesh(
        str(each.mesh), each.scale, options.device, str(options.weights) if options.weights else None,
        tracking_estimator_config(config), symmetries,
    )  # fmt: skip
    estimator.warm_up()
    tracker = PoseTracker(estimator, config)
    return ReplayedObject(each.name, estimator, tracker, each.mask_mode, each.label_value or 0, each.class_name)
