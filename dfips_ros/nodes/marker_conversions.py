# SPDX-License-Identifier: Apache-2.0
"""The tracked mesh as visualization_msgs markers for RViz."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker

from ..processes.mesh import Mesh, simplified

# Formats that RViz loads by itself and reads as load_mesh does; others are sent as triangles. Not .dae: RViz
# applies the unit and the up axis that the file names.
RVIZ_FORMATS = (".stl", ".obj")

MAX_TRIANGLES = 2000
GHOST_ALPHA = 0.4
GHOST_NANOSECONDS = 500_000_000


class MeshMarker:
    """Makes the marker of one mesh: a ``file://`` resource where RViz reads the format, else a triangle list.

    Args:
        mesh: vertices in metres; its ``path`` and ``scale`` say how RViz loads it.
        namespace: namespace of the marker, usually the object's name.
        colour: red, green, blue, alpha, each 0 to 1.
    """

    def __init__(
        self,
        mesh: Mesh,
        namespace: str,
        colour: tuple[float, float, float, float] = (0.1, 0.8, 0.3, 0.6),
    ) -> None:
        self._namespace = namespace
        self._colour = ColorRGBA(r=colour[0], g=colour[1], b=colour[2], a=colour[3])
        self._resource = _resource_uri(mesh.path)
        self._scale = float(mesh.scale) if self._resource else 1.0
        self._points = [] if self._resource else _triangle_points(mesh)

    @property
    def is_resource(self) -> bool:
        """True when RViz loads the mesh from its file, False when the triangles travel in the message."""
        return bool(self._resource)

    def at(self, pose: Pose, header: Header) -> Marker:
        """The marker at a pose."""
        return self._made(pose, header, self._namespace, 0, self._colour)

    def ghosts(self, poses: Sequence[Pose], header: Header) -> list[Marker]:
        """Pale markers at the poses that the stages went through, the first the palest; they fade by themselves."""
        markers = []
        for number, pose in enumerate(poses):
            share = (number + 1) / (len(poses) + 1)
            own = self._colour
            colour = ColorRGBA(r=1.0 - share * (1.0 - own.r), g=own.g * share, b=own.b * share, a=GHOST_ALPHA * share)
            markers.append(self._made(pose, header, f"{self._namespace} stages", number, colour))
            markers[-1].lifetime = Duration(sec=0, nanosec=GHOST_NANOSECONDS)
        return markers

    def _made(self, pose: Pose, header: Header, namespace: str, number: int, colour: ColorRGBA) -> Marker:
        marker = Marker(header=header, ns=namespace, id=number, action=Marker.ADD, pose=pose, color=colour)
        marker.scale.x = marker.scale.y = marker.scale.z = self._scale
        if self._resource:
            marker.type = Marker.MESH_RESOURCE
            marker.mesh_resource = self._resource
            marker.mesh_use_embedded_materials = False
        else:
            marker.type = Marker.TRIANGLE_LIST
            marker.points = self._points
        return marker


def deleted_marker(header: Header, namespace: str) -> Marker:
    """Takes the marker of an object away."""
    return Marker(header=header, ns=namespace, id=0, action=Marker.DELETE)


def _resource_uri(path: str | None) -> str:
    if path is None or Path(path).suffix.lower() not in RVIZ_FORMATS or not Path(path).is_file():
        return ""
    return Path(path).resolve().as_uri()


def _triangle_points(mesh: Mesh) -> list[Point]:
    """Corners of the triangles, three after three; large meshes are reduced to about ``MAX_TRIANGLES``."""
    small = simplified(mesh, MAX_TRIANGLES)
    corners = small.vertices.astype(np.float64)[small.faces.ravel()]
    return [Point(x=x, y=y, z=z) for x, y, z in corners.tolist()]
