# SPDX-License-Identifier: Apache-2.0
"""Make the demo's cordless drill: a mesh from primitives whose silhouette determines its pose.

    pip install manifold3d          # for the exact union
    python examples/make_demo_drill.py [--out dfips_ros/data/demo/meshes]

A tool with a mirror plane has two poses with almost the same silhouette (seen from the left and from the
right), so this one has a handle on one side only.
Frame: origin in the motor housing, x along the bit, y to the left, z up. Metres.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import trimesh
from trimesh.creation import cone, cylinder, icosphere
from trimesh.transformations import rotation_matrix, translation_matrix

SECTIONS = 24
ALONG_X = rotation_matrix(np.pi / 2, (0, 1, 0))
ALONG_Y = rotation_matrix(-np.pi / 2, (1, 0, 0))


def at(mesh: trimesh.Trimesh, x: float, y: float, z: float, turn: np.ndarray | None = None) -> trimesh.Trimesh:
    """Turn a part about its own origin, then move it."""
    if turn is not None:
        mesh.apply_transform(turn)
    mesh.apply_transform(translation_matrix((x, y, z)))
    return mesh


def rounded_slab(length: float, width: float, height: float, radius: float) -> trimesh.Trimesh:
    """A box with rounded vertical edges, centred."""
    corners = [
        at(
            cylinder(radius, height, sections=SECTIONS),
            sx * (length / 2 - radius),
            sy * (width / 2 - radius),
            0.0,
        )
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    return trimesh.util.concatenate(corners).convex_hull


def make_drill() -> trimesh.Trimesh:
    """The drill as one closed surface."""
    housing = at(cylinder(0.031, 0.125, sections=SECTIONS), -0.012, 0, 0, ALONG_X)
    rear = at(icosphere(2, 0.031), -0.074, 0, 0)
    rear.vertices[:, 0] = -0.074 + 0.55 * (rear.vertices[:, 0] + 0.074)
    gearbox = at(cylinder(0.027, 0.034, sections=SECTIONS), 0.065, 0, 0, ALONG_X)
    chuck = at(cone(0.022, 0.075, sections=SECTIONS), 0.08, 0, 0, ALONG_X)
    bit = at(cylinder(0.0055, 0.09, sections=12), 0.15, 0, 0, ALONG_X)
    lean = rotation_matrix(np.radians(14), (0, 1, 0))
    grip = at(rounded_slab(0.044, 0.034, 0.125, 0.015), -0.038, 0, -0.075, lean)
    guard = at(rounded_slab(0.016, 0.018, 0.030, 0.006), 0.0, 0, -0.040, rotation_matrix(np.radians(-20), (0, 1, 0)))
    battery = at(rounded_slab(0.108, 0.062, 0.038, 0.012), -0.036, 0, -0.150)
    heel = at(rounded_slab(0.060, 0.050, 0.024, 0.012), -0.050, 0, -0.124)
    collar = at(cylinder(0.031, 0.018, sections=SECTIONS), 0.062, 0, 0, ALONG_X)
    handle = at(cylinder(0.0135, 0.105, sections=SECTIONS), 0.062, 0.070, 0, ALONG_Y)
    knob = at(icosphere(2, 0.019), 0.062, 0.122, 0)
    parts = [housing, rear, gearbox, chuck, bit, grip, guard, battery, heel, collar, handle, knob]
    drill = trimesh.boolean.union(parts, engine="manifold")
    drill.merge_vertices()
    return drill


def main() -> None:
    """Write the mesh and its entry in models_info.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("dfips_ros/data/demo/meshes"))
    out = parser.parse_args().out
    drill = make_drill()
    if not drill.is_watertight:
        raise SystemExit("The union is not closed: check the parts.")
    header = "drill: made by examples/make_demo_drill.py, in metres, Apache-2.0"
    drill.export(out / "drill.obj", include_normals=False, include_texture=False, header=header, digits=6)
    table_file = out / "models_info.json"
    table = json.loads(table_file.read_text()) if table_file.exists() else {}
    low, high = drill.bounds
    hull = drill.convex_hull.vertices
    diameter = max(float(np.linalg.norm(hull - vertex, axis=1).max()) for vertex in hull)
    info: dict = {"file": "drill.obj", "diameter": round(diameter, 6), "symmetries_discrete": []}
    for axis, letter in enumerate("xyz"):
        info[f"min_{letter}"] = round(float(low[axis]), 6)
        info[f"size_{letter}"] = round(float(high[axis] - low[axis]), 6)
    table["drill"] = info
    table_file.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    print(f"drill: {len(drill.vertices)} vertices, {len(drill.faces)} faces, diameter {diameter:.3f} m")


if __name__ == "__main__":
    main()
