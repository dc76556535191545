# SPDX-License-Identifier: Apache-2.0
"""The parts of the demo: what the camera shows, and the truth that is kept from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..processes.mesh import Mesh, load_mesh
from ..processes.silhouette import RasterRenderer
from ..tasks.object_pose.demo_data import (
    demo_mesh_path,
    demo_symmetries,
    ycb_camera_matrix,
    ycb_frames,
    ycb_object_names,
)
from ..tasks.object_pose.recording import Recording, make_recording
from ..tasks.object_pose.sequences import SequenceConfig, SequenceGenerator

CAMERA_RATE = 30.0
REAL_SECONDS = 5.0
GENERATED = "drill"


@dataclass(frozen=True)
class DemoPart:
    """One run of the tracker.

    Attributes:
        name: short, for files.
        title: one line, for people.
        source: "real" or "generated".
        mesh: the object.
        mesh_path: file that the tracker loads; ``mesh_scale`` goes with it.
        symmetries: (S, 4, 4) object -> object, the identity first.
        recording: what the camera shows.
        truth: per frame T_camera_object (4, 4).
        tags: per frame "clean", "occluded" or "hidden".
        note: what the camera shows, in a few words.
    """

    name: str
    title: str
    source: str
    mesh: Mesh
    mesh_path: Path
    mesh_scale: float
    symmetries: np.ndarray
    recording: Recording
    truth: Sequence[np.ndarray]
    tags: Sequence[str]
    note: str = ""

    @cached_property
    def _renderer(self) -> RasterRenderer:
        return RasterRenderer(self.mesh)

    def silhouette(self, T_camera_object: np.ndarray) -> np.ndarray:
        """The object at a pose, with nothing in front of it. -> (H, W) bool."""
        pose = torch.from_numpy(np.asarray(T_camera_object, dtype=np.float32)[None])
        camera = torch.from_numpy(self.recording.camera_matrix.astype(np.float32))
        depth = self._renderer.render(pose, camera, self.recording.size)
        return depth[0].numpy() > 0

    def reference(self, index: int) -> np.ndarray:
        """The silhouette that an estimate of frame ``index`` should have. -> (H, W) bool."""
        return self.recording.mask(index) > 0 if self.source == "real" else self.silhouette(self.truth[index])


def part_names() -> list[str]:
    """Parts in the order in which they run."""
    return [*ycb_object_names(), GENERATED]


def real_part(name: str, seconds: float) -> DemoPart:
    """The ten real frames of one object, played forth and back at camera rate."""
    frames = ycb_frames(name)
    cycle = np.r_[np.arange(len(frames)), np.arange(len(frames) - 2, 0, -1)]
    order = np.resize(cycle, max(round(seconds * CAMERA_RATE), 2))
    recording = make_recording(ycb_camera_matrix(), CAMERA_RATE, [(f.mask, f.image) for f in frames], order)
    path = demo_mesh_path(name)
    return DemoPart(
        name=name,
        title=f"{name.replace('_', ' ')} (real)",
        source="real",
        mesh=load_mesh(path),
        mesh_path=path,
        mesh_scale=1.0,
        symmetries=demo_symmetries(name),
        recording=recording,
        truth=[frames[i].T_camera_object for i in order],
        tags=["clean"] * len(order),
        note=f"{len(frames)} YCB-Video frames, forth and back",
    )


def generated_part(
    seconds: float,
    seed: int = 0,
    mesh_path: Path | None = None,
    scale: float = 1.0,
    progress: bool = True,
    events: bool = True,
) -> DemoPart:
    """A mesh on a moving trajectory through noise, occlusion and a short disappearance.

    Args:
        seconds: length.
        seed: of everything random.
        mesh_path: the user's own mesh; by default the drill that ships.
        scale: factor from its unit to metres.
        progress: show a bar on stderr.
        events: with occlusion and disappearance.
    """
    path = demo_mesh_path(GENERATED) if mesh_path is None else mesh_path
    mesh = load_mesh(path, scale)
    hidden = min(SequenceConfig.hidden_seconds, seconds / 8) if events else 0.0
    occlusion = SequenceConfig.occlusion if events else 0.0
    config = SequenceConfig(seconds=seconds, rate=CAMERA_RATE, seed=seed, hidden_seconds=hidden, occlusion=occlusion)
    generator = SequenceGenerator(mesh, config)
    tags: list[str] = []

    def shown() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        steps, hidden_bar = range(len(generator)), not progress or None
        bar = tqdm(steps, desc="rendering the generated sequence", unit="frame", disable=hidden_bar)
        for index in bar:
            frame = generator.frame(index)
            tags.append(frame.tag)
            yield frame.mask, frame.image

    recording = make_recording(generator.camera_matrix, CAMERA_RATE, shown())
    return DemoPart(
        name=GENERATED if mesh_path is None else mesh.name,
        title=f"{mesh.name} (generated)",
        source="generated",
        mesh=mesh,
        mesh_path=path.resolve(),
        mesh_scale=scale,
        symmetries=demo_symmetries(GENERATED) if mesh_path is None else np.eye(4)[None],
        recording=recording,
        truth=list(generator.poses),
        tags=tags,
        note=f"seed {seed}; noisy masks, occlusion up to {config.occlusion:.0%}, hidden for {hidden:g} s",
    )
