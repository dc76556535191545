# SPDX-License-Identifier: Apache-2.0
"""The object in MoveIt's planning scene, where moveit_msgs is installed.

The messages are used by their field names alone, so that nothing here needs moveit_msgs. A ``PlanningScene`` diff that
adds a collision object of a known name puts the new one in the place of the old one.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, Pose
from std_msgs.msg import Header

from ..processes.mesh import Mesh, simplified

MAX_TRIANGLES = 500


@dataclass(frozen=True)
class SceneTypes:
    """The message classes of moveit_msgs and shape_msgs that are needed."""

    PlanningScene: Any
    CollisionObject: Any
    Mesh: Any
    MeshTriangle: Any
    SolidPrimitive: Any


def scene_types() -> SceneTypes | None:
    """The classes, or None where moveit_msgs is not installed."""
    try:
        moveit, shapes = importlib.import_module("moveit_msgs.msg"), importlib.import_module("shape_msgs.msg")
    except ImportError:
        return None
    return SceneTypes(
        moveit.PlanningScene, moveit.CollisionObject, shapes.Mesh, shapes.MeshTriangle, shapes.SolidPrimitive
    )


class SceneObject:
    """Makes the planning scene's messages about one object.

    Args:
        types: of the messages.
        mesh: of the object, metres.
        name: id of the collision object.
        shape: ``mesh`` or ``box``.
    """

    def __init__(self, types: SceneTypes, mesh: Mesh, name: str, shape: str = "mesh") -> None:
        self._types = types
        self._name = name
        self._shapes = _box(types, mesh) if shape == "box" else _triangles(types, mesh)

    def at(self, pose: Pose, header: Header) -> Any:
        """A PlanningScene diff that puts the object at a pose."""
        return self._scene(
            header=header, id=self._name, pose=pose, operation=self._types.CollisionObject.ADD, **self._shapes
        )

    def removed(self, header: Header) -> Any:
        """A PlanningScene diff that takes the object away."""
        return self._scene(header=header, id=self._name, operation=self._types.CollisionObject.REMOVE)

    def _scene(self, **fields: Any) -> Any:
        scene = self._types.PlanningScene(is_diff=True)
        scene.robot_state.is_diff = True  # else an empty robot state could be taken for one
        scene.world.collision_objects = [self._types.CollisionObject(**fields)]
        return scene


def _triangles(types: SceneTypes, mesh: Mesh) -> dict[str, Any]:
    small = simplified(mesh, MAX_TRIANGLES)
    vertices = [Point(x=x, y=y, z=z) for x, y, z in small.vertices.astype(np.float64).tolist()]
    triangles = [types.MeshTriangle(vertex_indices=face) for face in small.faces.astype(np.uint32)]
    return {"meshes": [types.Mesh(triangles=triangles, vertices=vertices)], "mesh_poses": [Pose()]}


def _box(types: SceneTypes, mesh: Mesh) -> dict[str, Any]:
    low, high = mesh.vertices.min(axis=0).astype(np.float64), mesh.vertices.max(axis=0).astype(np.float64)
    centre = Pose()
    centre.position.x, centre.position.y, centre.position.z = (0.5 * (low + high)).tolist()
    primitive = types.SolidPrimitive(type=types.SolidPrimitive.BOX, dimensions=(high - low).tolist())
    return {"primitives": [primitive], "primitive_poses": [centre]}
