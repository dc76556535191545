# SPDX-License-Identifier: Apache-2.0
"""Triangle meshes in metres, read from CAD files."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..checks import check_range
from ..errors import MeshError
from ..geometry import fibonacci_directions

logger = logging.getLogger(__name__)

SUFFIXES = (".obj", ".stl", ".ply", ".dae", ".glb", ".gltf", ".off", ".3mf")
MAX_DIAMETER = 10.0  # metres; more than that is almost always a file in millimetres
MIN_DIAMETER = 1e-3
MAX_FILE_FACES = 5_000_000
_AGGRESSIONS = (2, 4, 7)  # of the edge collapse: the gentler, the better the silhouette, but not all get to the number
_COLLAPSED_DIAMETER = 0.25  # metres, to which a mesh is scaled for it: its thresholds are absolute
_COLLAPSED_FACES = 100_000  # of triangles much smaller than these it makes holes, and it takes seconds


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in metres, in the frame of its file.

    Attributes:
        name: what the object is called, by default the file's stem.
        vertices: (V, 3) float32, metres.
        faces: (F, 3) int32 indices of vertices; neither winding nor closedness is assumed.
        center: (3,) float64, middle of the bounding box, metres; estimated rotations turn about it.
        diameter: largest distance between two vertices, metres (the BOP definition).
        path: file it came from, or None.
        scale: factor that was applied to the file's numbers.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    center: np.ndarray = field(init=False)
    diameter: float = field(init=False)
    path: str | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        vertices = np.ascontiguousarray(self.vertices, dtype=np.float32)
        faces = np.ascontiguousarray(self.faces, dtype=np.int32)
        _check_arrays(self.name, vertices, faces)
        object.__setattr__(self, "vertices", vertices)
        object.__setattr__(self, "faces", faces)
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        object.__setattr__(self, "center", (low.astype(np.float64) + high) / 2.0)
        object.__setattr__(self, "diameter", vertex_diameter(vertices))

    def normalised_vertices(self) -> np.ndarray:
        """Vertices with the center at the origin and diameter one. -> (V, 3) float32."""
        return ((self.vertices - self.center) / self.diameter).astype(np.float32)


def vertex_diameter(vertices: np.ndarray) -> float:
    """Largest distance between two vertices, from the extremes along many directions. (V, 3) -> metres."""
    directions = fibonacci_directions(1000 if len(vertices) < 20_000 else 250)
    axes = np.concatenate([directions, np.eye(3)])
    centered = vertices - vertices.mean(axis=0, dtype=np.float64).astype(vertices.dtype)
    extremes = np.unique([int(np.argmax(centered @ axis)) for axis in axes.astype(vertices.dtype)])
    points = vertices[extremes].astype(np.float64)
    squares = (points**2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2.0 * points @ points.T
    return float(np.sqrt(max(distances.max(), 0.0)))


def _check_arrays(name: str, vertices: np.ndarray, faces: np.ndarray) -> None:
    if vertices.ndim != 2 or vertices.shape[1:] != (3,) or len(vertices) < 3:
        raise MeshError(f"mesh '{name}': expected vertices of shape (V, 3) with V >= 3, got {vertices.shape}.")
    if faces.ndim != 2 or faces.shape[1:] != (3,) or len(faces) < 1:
        raise MeshError(f"mesh '{name}': expected at least one triangle, got faces of shape {faces.shape}.")
    if not np.isfinite(vertices).all():
        bad = int((~np.isfinite(vertices)).any(axis=1).sum())
        raise MeshError(f"mesh '{name}': {bad} of {len(vertices)} vertices are NaN or infinite. Repair the file.")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise MeshError(
            f"mesh '{name}': a face names vertex {int(faces.max())}, but there are {len(vertices)} vertices."
        )
    corners = vertices[np.clip(faces, 0, len(vertices) - 1)].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    if not area > 0:
        raise MeshError(f"mesh '{name}': all triangles are degenerate (no area). Export the mesh again.")


def load_mesh(
    path: str | Path, scale: float = 1.0, max_faces: int = 10_000, max_diameter: float = MAX_DIAMETER
) -> Mesh:
    """Read a mesh file and return it in metres.

    Args:
        path: obj, stl, ply, dae, glb, gltf, off or 3mf. A scene is flattened into one mesh.
        scale: factor from the file's unit to metres (0.001 for millimetres, 0.01 for centimetres).
        max_faces: finer meshes are simplified to about that many faces (quadric edge collapse).
        max_diameter: larger objects are refused, metres; raise it for something that really is so large.

    Raises:
        MeshError: the file is missing, unreadable, empty, has NaN vertices or too many faces, or its diameter
            says that it is not in metres.
    """
    check_range("scale", scale, 1e-9, 1e9, MeshError)
    file = Path(path).expanduser()
    if not file.is_file():
        raise MeshError(f"mesh: no file '{path}'. Pass the path of a mesh file ({', '.join(SUFFIXES)}).")
    if file.suffix.lower() not in SUFFIXES:
        raise MeshError(f"mesh '{path}': expected one of {', '.join(SUFFIXES)}, got '{file.suffix}'. Convert it.")
    vertices, faces, unit = _read(file)
    if len(faces) > MAX_FILE_FACES:
        raise MeshError(f"mesh '{path}': {len(faces)} faces, at most {MAX_FILE_FACES} are read. Simplify the mesh.")
    mesh = Mesh(file.stem, vertices * scale, faces, path=str(file.resolve()), scale=float(scale))
    _check_metres(mesh, max_diameter, unit)
    return simplified(mesh, max_faces)


def _read(file: Path) -> tuple[np.ndarray, np.ndarray, str | None]:
    import trimesh

    if file.stat().st_size == 0:
        raise MeshError(f"mesh '{file}': the file is empty.")
    try:
        scene = trimesh.load_scene(file, process=False)
        unit = scene.units
        mesh = scene.to_mesh()
    except Exception as cause:  # trimesh and its readers raise anything
        raise MeshError(f"mesh '{file}': cannot be read as {file.suffix} ({type(cause).__name__}: {cause}).") from cause
    vertices, faces = np.asarray(mesh.vertices), np.asarray(getattr(mesh, "faces", np.zeros((0, 3))))
    if len(faces) == 0 or len(vertices) == 0:
        raise MeshError(f"mesh '{file}': expected triangles, got {len(vertices)} vertices and {len(faces)} faces.")
    used, faces = np.unique(faces, return_inverse=True)
    return vertices[used], faces.reshape(-1, 3), unit


def _check_metres(mesh: Mesh, max_diameter: float, unit: str | None) -> None:
    told = f" The file names its unit: {unit}." if unit else ""
    if mesh.diameter > max_diameter:
        raise MeshError(
            f"mesh '{mesh.path}': diameter {mesh.diameter:.4g} m is more than {max_diameter:g} m, so the file is "
            f"probably not in metres.{told} Pass scale=0.001 for millimetres, scale=0.01 for centimetres."
        )
    if mesh.diameter < MIN_DIAMETER:
        raise MeshError(
            f"mesh '{mesh.path}': diameter {mesh.diameter:.4g} m is less than {MIN_DIAMETER} m.{told} "
            f"Pass a larger scale (it was {mesh.scale:g}), or check that the mesh is not degenerate."
        )


def clustered(mesh: Mesh, faces: int) -> Mesh:
    """A copy with very roughly ``faces`` faces: the vertices in a cell of a grid become one.

    Parts thinner than a cell, some ``sqrt(2 area / faces)``, become flat; a mesh of nothing else is returned as it is.
    (Rossignac and Borrel 1993)
    """
    vertices = mesh.vertices.astype(np.float64)
    corners = vertices[mesh.faces]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    cell = max(np.sqrt(2.0 * area / faces), 1e-4 * mesh.diameter)
    place = ((vertices - vertices.min(axis=0)) / cell).astype(np.int64)
    count = place.max(axis=0) + 1
    number = (place[:, 0] * count[1] + place[:, 1]) * count[2] + place[:, 2]
    _, cluster, members = np.unique(number, return_inverse=True, return_counts=True)
    middle = np.stack([np.bincount(cluster, vertices[:, k]) / members for k in range(3)], axis=1)
    left = cluster[mesh.faces]
    left = left[(left[:, 0] != left[:, 1]) & (left[:, 1] != left[:, 2]) & (left[:, 2] != left[:, 0])]
    _, first = np.unique(np.sort(left, axis=1), axis=0, return_index=True)
    if 2 * len(first) < faces:
        return mesh
    return Mesh(mesh.name, middle, left[np.sort(first)], path=mesh.path, scale=mesh.scale)


def simplified(mesh: Mesh, max_faces: int) -> Mesh:
    """Return ``mesh``, or a copy with about ``max_faces`` faces if it has more (quadric edge collapse).

    The same in every unit. A mesh of very many faces is :func:`clustered` first.
    """
    check_range("max_faces", max_faces, 100, error=MeshError)
    if len(mesh.faces) <= max_faces:
        return mesh
    import trimesh

    most = max(_COLLAPSED_FACES, 4 * max_faces)
    start = mesh if len(mesh.faces) <= most else clustered(mesh, most)
    unit = _COLLAPSED_DIAMETER / mesh.diameter
    fine = trimesh.Trimesh(unit * start.vertices.astype(np.float64), start.faces, process=False)
    fine.merge_vertices()
    for aggression in _AGGRESSIONS:
        coarse = fine.simplify_quadric_decimation(face_count=int(max_faces), aggression=aggression)
        if len(coarse.faces) <= 1.1 * max_faces:
            break
    logger.info("mesh '%s': simplified from %d to %d faces.", mesh.name, len(mesh.faces), len(coarse.faces))
    return Mesh(mesh.name, coarse.vertices / unit, coarse.faces, path=mesh.path, scale=mesh.scale)
