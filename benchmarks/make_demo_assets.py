# SPDX-License-Identifier: Apache-2.0
"""Remake the real-frame part of the demo's data from the YCB-Video data set.

    python benchmarks/make_demo_assets.py DATASET SCANS [--out dfips_ros/data/demo]

DATASET is a folder with ``000001-color.png``, ``000001-label.png``, ``000001-meta.mat`` ... (scene 0000 of
YCB-Video, MIT), SCANS a folder with ``061_foam_brick/textured.obj`` and ``009_gelatin_box/textured.obj``.

The scans are not shipped. What ships is a box of the size that the YCB object set publishes, placed in the
object frame of YCB-Video: position, axes and edge radius are those that bring the box nearest to the scan
(robust least squares on the distance of 6,000 surface points). The images take no part in that fit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import scipy.io
import trimesh
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

JPEG_QUALITY = 88
SURFACE_POINTS = 6000
ROBUST_SCALE_M = 0.001


@dataclass(frozen=True)
class Box:
    """A published object: name, YCB folder, label value in YCB-Video, edge lengths in metres, ascending."""

    name: str
    ycb_name: str
    label_value: int
    size: tuple[float, float, float]


BOXES = (
    Box("foam_brick", "061_foam_brick", 21, (0.050, 0.050, 0.075)),
    Box("gelatin_box", "009_gelatin_box", 8, (0.028, 0.073, 0.085)),
)


def rounded_box_distance(points: np.ndarray, size: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance of points (N, 3) to a box centred at the origin whose edges are rounded."""
    q = np.abs(points) - (size / 2 - radius)
    return np.linalg.norm(np.maximum(q, 0.0), axis=1) + np.minimum(q.max(axis=1), 0.0) - radius


def fit_box(scan: trimesh.Trimesh, size: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Place a box of fixed size on a scan. Returns T_object_box (4, 4), edge radius and mean distance in metres."""
    oriented = scan.bounding_box_oriented.primitive
    order = np.argsort(oriented.extents)
    start = np.array(oriented.transform)
    axes = start[:3, :3][:, order]
    axes[:, 2] *= np.sign(np.linalg.det(axes))
    points, _ = trimesh.sample.sample_surface(scan, SURFACE_POINTS, seed=0)

    def place(x: np.ndarray) -> np.ndarray:
        pose = np.eye(4)
        pose[:3, :3] = axes @ Rotation.from_rotvec(x[:3]).as_matrix()
        pose[:3, 3] = start[:3, 3] + x[3:6]
        return pose

    def distance(x: np.ndarray) -> np.ndarray:
        pose = place(x)
        return rounded_box_distance((points - pose[:3, 3]) @ pose[:3, :3], size, x[6])

    first = np.r_[np.zeros(6), 0.002]
    low = np.r_[np.full(3, -0.5), np.full(3, -0.02), 0.0]
    high = np.r_[np.full(3, 0.5), np.full(3, 0.02), size.min() / 4]
    scale = np.r_[np.full(3, 0.1), np.full(4, 0.01)]
    found = least_squares(distance, first, bounds=(low, high), x_scale=scale, loss="soft_l1", f_scale=ROBUST_SCALE_M).x
    if found[6] < 0.5e-3:  # a sharp edge: fit the placement again without the radius
        found[6] = 0.0
        bounds = (low[:6], high[:6])
        found[:6] = least_squares(
            lambda x: distance(np.r_[x, 0.0]),
            np.zeros(6),
            bounds=bounds,
            x_scale=scale[:6],
            loss="soft_l1",
            f_scale=ROBUST_SCALE_M,
        ).x
    return place(found), float(found[6]), float(np.abs(distance(found)).mean())


def rounded_box(size: np.ndarray, radius: float, steps: int = 4) -> trimesh.Trimesh:
    """A box centred at the origin, its edges rounded; the mesh has the symmetry of the box."""
    if radius == 0.0:
        return trimesh.creation.box(size)
    weights = [(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]
    octant = np.array(weights, dtype=float)
    octant *= radius / np.linalg.norm(octant, axis=1, keepdims=True)
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    corners = signs * (size / 2 - radius)
    return trimesh.convex.convex_hull((corners[:, None] + signs[:, None] * octant).reshape(-1, 3))


def box_symmetries(size: np.ndarray, T_object_box: np.ndarray) -> list[np.ndarray]:
    """Rotations of the object that leave the box as it is, without the identity, as (4, 4)."""
    found = []
    for permutation in itertools.permutations(range(3)):
        for signs in itertools.product((-1.0, 1.0), repeat=3):
            rotation = np.eye(3)[list(permutation)] * np.array(signs)[:, None]
            same_box = np.allclose(np.abs(rotation @ size), size)
            if np.linalg.det(rotation) > 0 and same_box and not np.allclose(rotation, np.eye(3)):
                inner = np.eye(4)
                inner[:3, :3] = rotation
                found.append(T_object_box @ inner @ np.linalg.inv(T_object_box))
    return found


def model_info(mesh: trimesh.Trimesh, box: Box, T_object_box: np.ndarray, radius: float) -> dict:
    """The mesh's entry in models_info.json: keys as in BOP, but lengths in metres."""
    low, high = mesh.bounds
    spread = np.linalg.norm(mesh.vertices[:, None] - mesh.vertices[None], axis=-1).max()
    info = {"file": f"{box.name}.obj", "diameter": round(float(spread), 6)}
    for axis, letter in enumerate("xyz"):
        info[f"min_{letter}"] = round(float(low[axis]), 6)
        info[f"size_{letter}"] = round(float(high[axis] - low[axis]), 6)
    info["symmetries_discrete"] = [
        [round(float(v), 9) for v in symmetry.ravel()] for symmetry in box_symmetries(np.array(box.size), T_object_box)
    ]
    info["box_size"] = list(box.size)
    info["edge_radius"] = round(radius, 5)
    return info


def write_meshes(scans: Path, out: Path) -> None:
    """Write the two boxes and their entries of models_info.json (other entries are kept)."""
    out.mkdir(parents=True, exist_ok=True)
    table_file = out / "models_info.json"
    table = json.loads(table_file.read_text()) if table_file.exists() else {}
    for box in BOXES:
        scan = trimesh.load(scans / box.ycb_name / "textured.obj", force="mesh")
        T_object_box, radius, distance = fit_box(scan, np.array(box.size))
        radius = round(radius, 4)
        mesh = rounded_box(np.array(box.size), radius)
        mesh.apply_transform(T_object_box)
        header = f"{box.name}: a box of {' x '.join(f'{1e3 * s:g}' for s in box.size)} mm, in metres, Apache-2.0"
        mesh.export(out / f"{box.name}.obj", include_normals=False, include_texture=False, header=header, digits=6)
        table[box.name] = model_info(mesh, box, T_object_box, radius)
        print(
            f"{box.name}: {len(mesh.faces)} faces, edge radius {1e3 * radius:.1f} mm, "
            f"mean distance to the scan {1e3 * distance:.2f} mm"
        )
    table_file.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")


def write_frames(dataset: Path, out: Path) -> None:
    """Write colour as JPEG, labels as they are, and poses.json."""
    out.mkdir(parents=True, exist_ok=True)
    frames = []
    camera_matrix = None
    for meta_file in sorted(dataset.glob("*-meta.mat")):
        number = meta_file.name.split("-")[0]
        meta = scipy.io.loadmat(meta_file)
        camera_matrix = meta["intrinsic_matrix"]
        poses = {int(c): meta["poses"][:, :, i] for i, c in enumerate(meta["cls_indexes"].ravel())}
        colour = cv2.imread(str(dataset / f"{number}-color.png"), cv2.IMREAD_COLOR)
        cv2.imwrite(str(out / f"{number}-color.jpg"), colour, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        shutil.copyfile(dataset / f"{number}-label.png", out / f"{number}-label.png")
        frames.append(
            {
                "color": f"{number}-color.jpg",
                "label": f"{number}-label.png",
                "T_camera_object": {
                    box.name: [*poses[box.label_value].tolist(), [0.0, 0.0, 0.0, 1.0]] for box in BOXES
                },
            }
        )
    table = {
        "source": "YCB-Video, scene 0000 (Xiang et al. 2017, PoseCNN), MIT: see LICENSE",
        "camera_matrix": camera_matrix.tolist(),
        "distortion": "none applied: the data set gives labels and poses for the pinhole matrix",
        "image_size": {"height": colour.shape[0], "width": colour.shape[1]},
        "objects": {
            box.name: {"ycb_name": box.ycb_name, "label_value": box.label_value, "mesh": f"{box.name}.obj"}
            for box in BOXES
        },
        "frames": frames,
    }
    (out / "poses.json").write_text(json.dumps(table, indent=1) + "\n")
    shutil.copyfile(dataset / "LICENSE", out / "LICENSE")
    print(f"{len(frames)} frames, {sum(f.stat().st_size for f in out.iterdir()) / 1e6:.2f} MB")


def main() -> None:
    """Parse the command line and write both folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="folder of the YCB-Video frames")
    parser.add_argument("scans", type=Path, help="folder of the YCB-Video scans (only measured, not copied)")
    parser.add_argument("--out", type=Path, default=Path("dfips_ros/data/demo"))
    arguments = parser.parse_args()
    write_meshes(arguments.scans, arguments.out / "meshes")
    write_frames(arguments.dataset, arguments.out / "ycb_video")


if __name__ == "__main__":
    main()
