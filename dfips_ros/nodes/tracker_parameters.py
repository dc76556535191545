# SPDX-License-Identifier: Apache-2.0
"""The parameters of the node ``pose_tracker``: those of the node, and those of each of several objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ..errors import ConfigError
from ..messages.labels import selection_in_words
from .camera_conversions import DISTORTION_MODES
from .image_conversions import MASK_MODES
from .parameters import members, parameter, resolve_path

MASK_SOURCES = ("image", "detections")


@dataclass(frozen=True)
class ObjectParameters:
    """What is told of one of several objects: in ROS the parameters ``objects.<name>.*``."""

    mesh: str = parameter("", "Mesh of this object, as the parameter mesh of a single one. Required.")
    mesh_scale: float = parameter(
        1.0, "Factor from the mesh file's units to metres: 0.001 for a mesh in millimetres.", low=1e-6, high=1e6
    )
    label_value: int = parameter(
        0,
        "Value of this object's pixels in the label image. 0: by class_name, or every non-zero pixel where this is the "
        "only object.",
        low=-(2**31),
        high=2**31 - 1,
        live=True,
    )
    class_name: str = parameter(
        "",
        "Class of this object: gives the label value through ~/label_info where label_value is 0, and is looked for in "
        "detections (there, empty: the object's name).",
        live=True,
    )
    models_info: str = parameter("", "File with this object's symmetries, as the parameter models_info.")
    models_info_key: str = parameter("", "Entry of this object in models_info.")


@dataclass(frozen=True)
class PoseTrackerParameters:
    """The parameters of the node ``pose_tracker``. :func:`specs_of` gives their ranges and descriptions."""

    mesh: str = parameter(
        "",
        "Mesh of the object (obj, stl, ply, dae, glb): a path, a file:// or a package:// URI. Required, unless objects "
        "are listed.",
    )
    mesh_scale: float = parameter(
        1.0,
        "Factor from the mesh file's units to metres: 0.001 for a mesh in millimetres.",
        low=1e-6,
        high=1e6,
    )
    models_info: str = parameter(
        "",
        "File with the object's symmetries in the format of BOP's models_info.json, in the mesh file's unit: a path, "
        "a file:// or a package:// URI. Empty: they are found on the mesh.",
    )
    models_info_key: str = parameter(
        "",
        "Entry of the object in models_info. Empty: the mesh file's name without ending, or the number in it "
        "(obj_000005.ply is '5').",
    )
    object_name: str = parameter("", "Name of the object in messages. Empty: the mesh file's name without ending.")
    objects: tuple[str, ...] = parameter(
        (),
        "Names of several objects to track, each also the child frame of its transform; objects.<name>.* say the rest. "
        "Instead of mesh, object_name, label_value and what else describes a single object.",
    )
    object_parameters: Mapping[str, ObjectParameters] = members("objects", ObjectParameters)
    weights: str = parameter("", "Weights file of the solver. Empty: the weights that ship with the package.")
    device: str = parameter(
        "auto", "Where the solver runs. auto: the GPU where there is one.", choices=("auto", "cpu", "cuda")
    )
    mask_mode: str = parameter(
        "binary",
        "How a mask is read. binary: every non-zero pixel is the object. label: the pixels equal to label_value. "
        "class: those of class_name, whose label comes with ~/label_info. Objects of a list are told apart by their "
        "own label_value or class_name.",
        choices=(*MASK_MODES, "class"),
        live=True,
    )
    label_value: int = parameter(
        1, "Label of the object; only read with mask_mode label.", low=-(2**31), high=2**31 - 1, live=True
    )
    class_name: str = parameter(
        "", "Class of the object: read with mask_mode class, and looked for in detections.", live=True
    )
    mask_source: str = parameter(
        "image",
        "Where masks come from. image: ~/mask. detections: the instance masks of yolo_msgs/DetectionArray on "
        "~/instance_masks; needs yolo_msgs.",
        choices=MASK_SOURCES,
    )
    distortion: str = parameter(
        "rectify",
        "What to do when camera_info says that the lens distorts. rectify: undistort each mask. refuse: "
        "report an "
        "error. ignore: use K as if there were no distortion. rectified: the masks are made from rectified "
        "images "
        "(image_rect), so P is used.",
        choices=DISTORTION_MODES,
        live=True,
    )
    publish_tf: bool = parameter(True, "Publish the transform camera -> object on /tf.", live=True)
    object_frame: str = parameter("", "Child frame of that transform. Empty: object_name.")
    output_frame: str = parameter(
        "",
        "Frame in which poses are given, through tf2 at the mask's stamp. Empty: the mask's own frame. Needs tf2_ros.",
    )
    prediction: float = parameter(
        0.0,
        "How far ~/pose and the transform run ahead of the mask [s]: pose and stamp of a body that goes on as between "
        "the last two masks. 0: as measured, with the mask's stamp.",
        low=0.0,
        high=1.0,
        live=True,
    )
    publish_markers: bool = parameter(True, "Publish the mesh for RViz on ~/markers.", live=True)
    publish_stages: bool = parameter(
        False, "Publish on ~/stages how the pose came about, stage by stage, as pale meshes for RViz.", live=True
    )
    autostart: bool = parameter(True, "Configure and activate by itself. false: wait for a lifecycle manager.")
    lost_iou: float = parameter(
        0.6,
        "The object counts as lost when the silhouette IoU stays below this.",
        low=0.0,
        high=1.0,
        live=True,
    )
    lost_frames: int = parameter(
        3,
        "Number of frames in a row below lost_iou after which the object is lost.",
        low=1,
        high=1000,
        live=True,
    )
    init_iou: float = parameter(
        0.8,
        "Silhouette IoU from which a pose that was found from nothing is accepted.",
        low=0.0,
        high=1.0,
        live=True,
    )
    min_mask_pixels: int = parameter(
        64, "Masks with fewer object pixels count as empty.", low=1, high=100_000_000, live=True
    )
    max_solve_threads: int = parameter(2, "CPU threads that the solver may use.", low=1, high=256)
    camera_info_timeout: float = parameter(
        2.0,
        "Time without any camera_info or mask [s] after which /diagnostics says so.",
        low=0.1,
        high=3600.0,
        live=True,
    )
    diagnostics_period: float = parameter(1.0, "Time between two /diagnostics messages [s].", low=0.05, high=60.0)

    def __post_init__(self) -> None:
        if self.objects:
            self._check_objects()
        elif not self.mesh.strip():
            raise ConfigError("parameter mesh='': expected a mesh file, for example mesh:=/data/bracket.stl.")
        if self.models_info_key and not self.models_info.strip():
            raise ConfigError(
                f"parameter models_info_key={self.models_info_key!r}: expected models_info beside it, the file that "
                "has this entry."
            )
        if self.init_iou < self.lost_iou:
            raise ConfigError(
                f"parameter init_iou={self.init_iou}: expected at least lost_iou={self.lost_iou}; otherwise an "
                "accepted pose would be lost at once."
            )
        for name in ("object_frame", "object_name", "output_frame"):
            if getattr(self, name).startswith("/"):
                raise ConfigError(f"parameter {name}={getattr(self, name)!r}: a tf2 frame must not start with '/'.")
        if self.mask_mode == "class" and not self.class_name:
            raise ConfigError("parameter mask_mode='class': expected class_name beside it, the class to look for.")

    def _check_objects(self) -> None:
        if self.mesh.strip():
            raise ConfigError(
                f"parameters mesh={self.mesh!r}, objects={list(self.objects)}: expected one of the two: mesh for a "
                "single object, objects with objects.<name>.mesh for several."
            )
        for name in self.objects:
            if not self.object_parameters[name].mesh.strip():
                raise ConfigError(f"parameter objects.{name}.mesh='': expected a mesh file.")
        check_distinct(self.each)

    @cached_property
    def each(self) -> tuple[PoseTrackerParameters, ...]:
        """The parameters of the configured objects, one object each.

        Raises:
            ConfigError: those of an object do not fit together.
        """
        return tuple(self.of(name, self.object_parameters[name]) for name in self.objects) or (self,)

    def of(self, name: str, own: ObjectParameters) -> PoseTrackerParameters:
        """The parameters of the node as if this were its single object.

        Raises:
            ConfigError: they do not fit together.
        """
        mode = "label" if own.label_value else "class" if own.class_name else "binary"
        try:
            return replace(
                self, objects=(), object_parameters={}, object_name=name, object_frame="", mask_mode=mode,
                mesh=own.mesh, mesh_scale=own.mesh_scale, label_value=own.label_value, class_name=own.class_name,
                models_info=own.models_info, models_info_key=own.models_info_key,
            )  # fmt: skip
        except ConfigError as error:
            raise ConfigError(f"object '{name}': {error}") from error

    @property
    def selection(self) -> str:
        """Which pixels are the object's, in words; two objects with equal words cannot be told apart."""
        if self.mask_source == "detections":
            return f"the class '{self.detected_class}'"
        return selection_in_words(self.mask_mode, self.label_value, self.class_name)

    @property
    def detected_class(self) -> str:
        """The class that is looked for in detections."""
        return self.class_name or self.name

    @cached_property
    def mesh_path(self) -> Path:
        """The mesh file; ``file://`` and ``package://`` are resolved.

        Raises:
            ConfigError: unknown kind of URI, or the package is not installed.
        """
        return resolve_path("mesh", self.mesh)

    @cached_property
    def models_info_path(self) -> Path | None:
        """The file with the symmetries; None where none is given.

        Raises:
            ConfigError: unknown kind of URI, or the package is not installed.
        """
        return resolve_path("models_info", self.models_info) if self.models_info.strip() else None

    @cached_property
    def name(self) -> str:
        """Name of the object."""
        return self.object_name or self.mesh_path.stem

    @cached_property
    def frame(self) -> str:
        """Child frame of the published transform."""
        return self.object_frame or self.name


def check_distinct(objects: Sequence[PoseTrackerParameters]) -> None:
    """Raise unless every object has a name, a frame and pixels of its own.

    Raises:
        ConfigError: names the two objects, and what they share.
    """
    for i, one in enumerate(objects):
        for other in objects[:i]:
            if one.name == other.name:
                raise ConfigError(f"object '{one.name}': there is another one of this name; choose a unique one.")
            if one.frame == other.frame:
                raise ConfigError(f"object '{one.name}': its frame '{one.frame}' is also that of '{other.name}'.")
            if one.selection == other.selection:
                raise ConfigError(
                    f"object '{one.name}': {one.selection} is also '{other.name}'; give each object a label_value or a "
                    "class_name of its own."
                )
            for each, neighbour in ((one, other), (other, one)):
                if each.selection == "every non-zero pixel":
                    raise ConfigError(
                        f"object '{each.name}': every non-zero pixel is taken for it, so there is no room for "
                        f"'{neighbour.name}'; give it a label_value or a class_name (a single mesh: set mask_mode to "
                        "'label' and label_value)."
                    )
