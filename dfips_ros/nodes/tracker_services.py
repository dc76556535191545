# SPDX-License-Identifier: Apache-2.0
"""The services of the node ``pose_tracker``, and hints where an object is."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.callback_groups import ReentrantCallbackGroup
from std_srvs.srv import Trigger

from dfips_ros.srv import AddObject, RemoveObject, SetPose

from ..errors import ConfigError, DfipsError, PoseError
from ..tasks.object_pose import TrackState
from . import conversions
from .managed_node import ManagedNode
from .object_loader import ObjectLoader
from .object_track import ObjectTrack
from .output_frame import OutputFrame
from .parameters import specs_of
from .tracked_object_set import TrackedObjectSet, in_words
from .tracker_parameters import ObjectParameters, PoseTrackerParameters


class TrackerServices:
    """Answers requests; a refusal is an answer with a reason.

    Args:
        node: offers the services.
        objects: what they are about.
        lock: held while something is changed.
        changed: is called when objects were added or removed.
        frames: gives the camera's frame (empty: not known yet), and what transforms (None: nothing does).
    """

    def __init__(
        self,
        node: ManagedNode[PoseTrackerParameters],
        objects: TrackedObjectSet,
        lock: AbstractContextManager[Any],
        changed: Callable[[], None],
        frames: Callable[[], tuple[str, OutputFrame | None]],
    ) -> None:
        self._node = node
        self._objects = objects
        self._lock = lock
        self._changed = changed
        self._frames = frames
        self._loader = ObjectLoader(node)
        node.create_service(Trigger, "~/reset", self._on_reset)
        node.create_service(SetPose, "~/set_pose", self._on_set_pose)
        node.create_service(RemoveObject, "~/remove_object", self._on_remove_object)
        # In a group of its own: its callback waits for the loading while the masks' go on.
        group = ReentrantCallbackGroup()
        node.create_service(AddObject, "~/add_object", self._on_add_object, callback_group=group)

    def close(self) -> None:
        """Load no more."""
        self._loader.close()

    # --- poses

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def reset() -> str:
            self._check_active()
            for track in self._objects.tracks:
                track.forget()
                self._discard_older(track)
            return "the tracker starts anew with the next mask"

        return self._answer("reset", reset, response)

    def _on_set_pose(self, request: SetPose.Request, response: SetPose.Response) -> SetPose.Response:
        def set_pose() -> str:
            self._check_active()
            track = self._track(request.object_name)
            track.start_from(self._pose(request.pose))
            self._discard_older(track)
            return "the tracker continues from this pose with the next mask"

        return self._answer("set_pose", set_pose, response)

    def take_hint(self, message: PoseStamped) -> None:
        """Let the one object that has no pose now begin its search here.

        Raises:
            PoseError: several objects have none, or the pose cannot be used.
        """
        unseen = [track for track in self._objects.tracks if track.state != TrackState.TRACKING]
        if len(unseen) > 1:
            names = ", ".join(f"'{track.name}'" for track in unseen)
            raise PoseError(f"several objects have no pose ({names}): call ~/set_pose with object_name instead.")
        for track in unseen:
            track.start_from(self._pose(message))

    def _discard_older(self, track: ObjectTrack) -> None:
        """No result of a mask that was taken before now."""
        track.barrier.set(self._node.get_clock().now().nanoseconds * 1e-9, time.time())

    def _track(self, name: str) -> ObjectTrack:
        tracks = self._objects.tracks
        if not name and len(tracks) != 1:
            names = ", ".join(f"'{track.name}'" for track in tracks) or "none"
            raise ConfigError(f"object_name='': expected the name of an object, as there are: {names}.")
        return self._objects[name or tracks[0].name]

    def _pose(self, stamped: PoseStamped) -> np.ndarray:
        """T_camera_object of a request."""
        frame = stamped.header.frame_id
        camera_frame, transforms = self._frames()
        pose = conversions.matrix_from_pose(stamped.pose)
        if not frame or frame == camera_frame:
            return pose
        if transforms is not None and camera_frame:
            return transforms.lookup(camera_frame, frame, stamped.header.stamp) @ pose
        known = f"'{camera_frame}'" if camera_frame else "not known yet, as no mask has arrived"
        raise PoseError(
            f"header.frame_id='{frame}': expected the camera's optical frame, which is {known}, or an empty string. "
            "Transform the pose first."
        )

    # --- objects

    async def _on_add_object(self, request: AddObject.Request, response: AddObject.Response) -> AddObject.Response:
        try:
            response.id, response.message = await self._add_object(request)
            response.success = True
        except Exception as error:
            response.success, response.message = False, self._refusal("add_object", error)
        return response

    async def _add_object(self, request: AddObject.Request) -> tuple[int, str]:
        node, name, started = self._node, request.name, time.perf_counter()
        if node.parameters is None:
            raise ConfigError(f"the node is {node.lifecycle}: configure it first")
        if not name.strip():
            raise ConfigError(f"name='{name}': expected the name of the object.")
        own = parameters_from_request(request)
        parameters = node.parameters.of(name, own)
        generation = self._objects.generation
        with self._lock:
            self._objects.reserve(parameters)
        try:
            loaded = await self._loader.load(lambda: self._objects.load(parameters))
        finally:
            with self._lock:
                if generation == self._objects.generation:
                    self._objects.release(name)
        with self._lock:
            if node.parameters is None or generation != self._objects.generation:
                raise ConfigError(f"object '{name}': the node was cleaned up while it was loaded.")
            track = self._objects.add(node.parameters.of(name, own), own, loaded)
            self._objects.take(node.parameters)
            self._changed()
        text = f"'{name}' loaded from {parameters.mesh_path} in {time.perf_counter() - started:.1f} s"
        node.get_logger().info(text)
        return track.number, text

    def _on_remove_object(self, request: RemoveObject.Request, response: Any) -> Any:
        def remove() -> str:
            if self._node.parameters is None:
                raise ConfigError(f"the node is {self._node.lifecycle}: configure it first")
            self._objects.remove(request.name)
            self._changed()
            left = ", ".join(self._objects.names) or "none"
            self._node.get_logger().info(f"'{request.name}' removed; objects: {left}")
            return f"'{request.name}' removed; objects: {left}"

        return self._answer("remove_object", remove, response)

    # --- answers

    def _answer(self, service: str, action: Any, response: Any) -> Any:
        try:
            with self._lock:
                response.message = action()
            response.success = True
        except Exception as error:
            response.success, response.message = False, self._refusal(service, error)
        return response

    def _refusal(self, service: str, error: Exception) -> str:
        if not isinstance(error, DfipsError):
            trace = "".join(traceback.format_exception(error))
            self._node.get_logger().error(f"{service}: {trace}")
        return in_words(error)

    def _check_active(self) -> None:
        if self._node.lifecycle != "active":
            before = "" if self._node.lifecycle == "inactive" else "configure and "
            raise PoseError(f"the node is {self._node.lifecycle}: {before}activate it first")


def parameters_from_request(request: AddObject.Request) -> ObjectParameters:
    """What ~/add_object tells of an object.

    Raises:
        ConfigError: a value is out of its range.
    """
    given = {
        "mesh": request.mesh, "mesh_scale": float(request.mesh_scale) or 1.0, "label_value": int(request.label_value),
        "class_name": request.class_name, "models_info": request.models_info,
        "models_info_key": request.models_info_key,
    }  # fmt: skip
    return ObjectParameters(**{spec.name: spec.check(given[spec.name]) for spec in specs_of(ObjectParameters)})  # type: ignore[arg-type]
