# SPDX-License-Identifier: Apache-2.0
"""From an image of a known object to the light that falls on it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...checks import check_choice
from ...processes.mesh import Mesh, load_mesh
from ...processes.shading import ALBEDO, AMBIENT, GAMMA, LOG_INTENSITY, METALLIC, ROUGHNESS
from ...processes.shading_geometry import shading_mesh
from ...processes.shading_pyrender import PyrenderShading
from ...solver import FeedbackSolver, Solution, pick_device
from .config import KINDS
from .crop import ObjectView, look_at_object
from .problem import (
    LightObservation,
    PyrenderFeedback,
    RefinedLights,
    load_solver,
    refine,
    search_starts,
)  # fmt: skip
from .solution import IlluminationSolution

WEIGHTS = Path(__file__).resolve().parents[2] / "data" / "weights"
PROCESSES = ("compiled", "pyrender")
STARTS = 6
MUCH_SATURATED, DARK = 0.3, 0.12
UNEXPLAINED = 0.12  # residual norm over the level of the brighter pixels
WIDE_DEG = 15.0
ALTERNATIVE_DEG, ALTERNATIVE_GROWTH = 30.0, 1.03


class IlluminationEstimator:
    """Estimates the light from one image of an object of known shape and pose. Made once, used for many images.

    Args: as those of :meth:`from_mesh`.
    """

    def __init__(
        self,
        mesh: Mesh,
        kind: str = "directional",
        device: str = "auto",
        weights: str | Path | None = None,
        process: str = "compiled",
        starts: int = STARTS,
    ) -> None:
        self.mesh, self.kind = mesh, check_choice("kind", kind, KINDS)
        self.process = check_choice("process", process, PROCESSES)
        self.device = pick_device(device)
        self.starts = starts
        self.solver, self.config, self.checkpoint = load_solver(
            weights or WEIGHTS / f"illumination_{kind}.safetensors", kind
        )
        self.solver.to(self.device)
        self.shading = shading_mesh(mesh)

    @classmethod
    def from_mesh(
        cls,
        mesh: Mesh | str | Path,
        kind: str = "directional",
        device: str = "auto",
        weights: str | Path | None = None,
        process: str = "compiled",
        scale: float = 1.0,
        starts: int = STARTS,
    ) -> IlluminationEstimator:
        """An estimator for one object.

        Args:
            mesh: a loaded mesh, or a mesh file in metres. Normals are made from the faces, a file without them will do.
            kind: ``directional`` (far away) or ``point`` (near the object).
            device: ``auto``, ``cpu`` or ``cuda``.
            weights: safetensors file; the shipped one of this kind by default.
            process: forward process that is compared with the image at each stage: ``compiled`` (ours, pyrender's
                shading equation) or ``pyrender`` (the renderer itself, slower).
            scale: factor from the unit of the mesh file to metres.
            starts: how many initial lights go through the stages, and of a directional light through plain Gauss-Newton
                steps. The three with the smallest residuals of each are refined on more pixels; the best is returned.

        Raises:
            MeshError: the mesh cannot be used.
            ConfigError: an unknown kind, device or process.
            CheckpointError: the weights do not fit.
            MissingDependencyError: pyrender is asked for and not installed.
        """
        loaded = mesh if isinstance(mesh, Mesh) else load_mesh(mesh, scale)
        return cls(loaded, kind, device, weights, process, starts)

    def estimate(
        self, image: np.ndarray, camera_matrix: np.ndarray, T_camera_object: np.ndarray, mask: np.ndarray | None = None
    ) -> IlluminationSolution:
        """Find the light.

        Args:
            image: (H, W, 3) uint8 RGB or (H, W) uint8 grey, gamma-encoded as cameras give it, undistorted.
            camera_matrix: (3, 3) pinhole matrix of this image, pixels.
            T_camera_object: (4, 4) pose of the object in the camera's optical frame, metres.
            mask: (H, W), non-zero where the object is seen unoccluded; None takes all that the pose says.

        Raises:
            ShapeError: the image is of another type or shape (16 bit, float, four channels): convert it first.
            CameraError: the matrix is no camera matrix, or belongs to an image of another size.
            PoseError: no rigid pose, behind the camera, or the object is out of view.
            MaskError: the mask is of another type or size.
            InputError: the object is black or saturated all over.
        """
        start = time.perf_counter()
        view = self.look(image, camera_matrix, T_camera_object, mask)
        solution = self.solve(view)
        return self._answer(view, solution, start)

    def warm_up(self) -> None:
        """Compile what is compiled on first use, so that the first image takes no longer than others."""
        pose = np.eye(4)
        pose[:3, 3] = np.array([0.0, 0.0, 2.0 * self.mesh.diameter]) - self.mesh.center
        camera = np.array([[200.0, 0.0, 79.5], [0.0, 200.0, 59.5], [0.0, 0.0, 1.0]])
        self.estimate(np.tile(np.linspace(40, 200, 160).astype(np.uint8), (120, 1)), camera, pose)

    def look(
        self, image: np.ndarray, camera_matrix: np.ndarray, T_camera_object: np.ndarray, mask: np.ndarray | None = None
    ) -> ObjectView:
        """The object's pixels and the surface that each of them shows; arguments as of :meth:`estimate`."""
        return look_at_object(
            image, camera_matrix, T_camera_object, self.mesh, self.shading, self.config.crop_size, self.config.pixels,
            self.config.fine_pixels, mask,
        )  # fmt: skip

    def solve(self, view: ObjectView, num_stages: int | None = None) -> Solution:
        """Unroll the stages from all starts, the batch, without the refinement on more pixels.

        Estimates are in the crop's frame, see ``LightObservation``.
        """
        initial = search_starts(view.observation.to(self.device), self.config.point, self.starts)[0]
        return self._solver_for(view).estimate(self._repeated(view), initial, num_stages)

    def refine(self, view: ObjectView, solution: Solution) -> RefinedLights:
        """Refine what :meth:`solve` found, a batch of one picture."""
        return refine(self._solver_for(view), self._repeated(view), view.fine.to(self.device), solution)

    def _repeated(self, view: ObjectView) -> LightObservation:
        return view.observation.to(self.device)[torch.zeros(self.starts, dtype=torch.long, device=self.device)]

    def _solver_for(self, view: ObjectView) -> FeedbackSolver:
        if self.process == "compiled":
            return self.solver
        size = self.config.crop_size
        scene = PyrenderShading(self.shading, view.pose, view.camera_matrix, (size, size))
        feedback = PyrenderFeedback(self.config.point, [scene])
        solver = FeedbackSolver(feedback, self.solver.space, torch.nn.Identity, self.solver.config)
        solver.stages = self.solver.stages
        return solver.eval()

    def _answer(self, view: ObjectView, solution: Solution, start: float) -> IlluminationSolution:
        refined = self.refine(view, solution)
        estimates, norms = refined.estimates[0].cpu(), refined.norms[0].cpu()
        best = int(refined.best[0])
        level = view.level
        back = view.R_virtual_camera.T
        stages = refined.history[0, best, :, :3].cpu()
        lights = torch.cat([stages, estimates[best : best + 1, :3]]).double().numpy() @ back.T
        x = estimates[best].double().numpy()
        light = back @ x[:3]
        direction = light / np.linalg.norm(light)
        exposure = level**GAMMA
        position, history = None, lights
        if self.config.point:
            position = view.center + self.mesh.diameter * light
            history = view.center + self.mesh.diameter * lights
        spread = self._direction_std_deg(view.observation, estimates[best : best + 1])
        return IlluminationSolution(
            kind=self.kind, direction=direction, position=position,
            intensity=float(np.exp(x[LOG_INTENSITY])) * exposure,
            ambient=float(x[AMBIENT]) * exposure / max(float(x[ALBEDO]), 1e-6),
            albedo=float(x[ALBEDO]) * view.tint.astype(np.float64), roughness=float(x[ROUGHNESS]),
            metallic=float(x[METALLIC]),
            residual_norms=tuple(float(v) * level for v in (*refined.history_norms[0, best], norms[best])),
            history=history,
            object_center=view.center, object_diameter=self.mesh.diameter, direction_std_deg=spread,
            pixels=int(view.seen.sum()), reason=self._doubt(view, estimates, norms, best, spread),
            solve_time=time.perf_counter() - start,
        )  # fmt: skip

    def _direction_std_deg(self, observation: LightObservation, estimate: Tensor) -> float:
        """Of the normal equations at the estimate, all other parameters free within a wide prior; degrees."""
        features = self.solver.feedback(observation, estimate)
        jacobian = features.inputs["jacobian"][0].double()
        weight = features.inputs["weight"][0].double()
        noise = max(float(features.residual_norm[0]), 0.005)
        matrix = (jacobian * weight[:, None]).T @ jacobian / noise**2 + torch.eye(jacobian.shape[1]).double()
        covariance = torch.linalg.inv(matrix)[:2, :2]
        return float(np.rad2deg(np.sqrt(float(torch.linalg.eigvalsh(covariance)[-1]))))

    def _doubt(self, view: ObjectView, estimates: Tensor, norms: Tensor, best: int, spread: float) -> str:
        reasons = []
        if view.saturated > MUCH_SATURATED:
            reasons.append(f"{100 * view.saturated:.0f} % of the object's pixels are saturated")
        if view.level < DARK:
            reasons.append(f"the object is dark (level {view.level:.2f} of 1)")
        if float(norms[best]) > UNEXPLAINED:
            reasons.append(f"no light explains the image well (residual {float(norms[best]) * view.level:.3f})")
        if spread > WIDE_DEG:
            reasons.append(f"too few differently turned surfaces are seen (direction +- {spread:.0f} degrees)")
        lights = torch.nn.functional.normalize(estimates[:, :3], dim=1)
        apart = torch.rad2deg(torch.acos((lights @ lights[best]).clamp(-1.0, 1.0)))
        rivals = (apart > ALTERNATIVE_DEG) & (norms <= ALTERNATIVE_GROWTH * norms[best] + 1e-3)
        if bool(rivals.any()):
            angle = float(apart[rivals].min())
            reasons.append(f"a light {angle:.0f} degrees away explains the image as well")
        return "; ".join(reasons)
