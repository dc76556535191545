# SPDX-License-Identifier: Apache-2.0
"""All kernels of a solve compile for compute capability 9.0, and fit its registers; without a GPU.

What the interpreter forgives, the compiler does not: types that do not match, shapes that are no powers of two, values
of other types in the branches of a condition. Takes minutes, a few seconds where Triton has the kernels in its cache.
"""

import re
import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed; it comes with PyTorch's CUDA builds")
pytestmark = [
    pytest.mark.slow, pytest.mark.timeout(1800),
    pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU the kernels compile when they run"),
]  # fmt: skip
KERNELS = {
    "cuda_views": {"_along_rows", "_along_columns"}, "cuda_crop": {"_warp"},
    "cuda_observation": {"_along_rows", "_along_columns", "_sample", "_moments"}, "cuda_kernels": {"_raster"},
    "cuda_silhouette": {"_sums", "_outline"}, "cuda_contour": {"_rows"}, "cuda_stages": {"_stage", "_unrolled"},
    "cuda_polish": {"_reach", "_outline", "_trials", "_end"}, "cuda_outcome": {"_kept", "_finish"},
}  # fmt: skip
MOST_STACK = 128  # bytes of a thread; sine and cosine take 48, and what does not fit the registers takes hundreds
COMPILE = '''
import importlib, pathlib, pkgutil, subprocess, tempfile
import numpy as np, torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver, jit
from dfips_ros import processes
from dfips_ros.tasks import object_pose
from dfips_ros.tasks.object_pose import ObjectPoseEstimator, Symmetries, device_solver, shapes

class Target:
    def get_current_target(self): return GPUTarget("cuda", 90, 32)
    def get_current_device(self): return 0
    def get_current_stream(self, device=None): return 0

def compiled(kernel, grid):
    def launch(*arguments, **constants):
        found = kernel.run(*arguments, grid=grid, warmup=True, **constants)
        assert ".target sm_90" in found.asm["ptx"]
        file = pathlib.Path(tempfile.mkdtemp()) / "cubin"
        file.write_bytes(found.asm["cubin"])
        tool = pathlib.Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        usage = subprocess.run([tool, "-res-usage", file], capture_output=True, text=True, check=True).stdout
        print(kernel.fn.__module__.rpartition(".")[2], kernel.fn.__name__, usage.replace("\\n", " "))
    return launch

driver.set_active(Target())
jit.JITFunction.__getitem__ = compiled
for package in (processes, object_pose):
    for found in pkgutil.iter_modules(package.__path__):
        if found.name.startswith("device_"):
            module = importlib.import_module(f"{package.__name__}.{found.name}")
            if hasattr(module, "has_kernels"):
                module.has_kernels = lambda device: True
estimator = ObjectPoseEstimator(shapes.random_shape(3), device="cpu")
solver = device_solver.DevicePoseSolver(
    estimator.mesh, estimator._solver, estimator.config, torch.device("meta"), Symmetries.none())
camera = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
solver.forward(*solver._inputs(np.ones((1, 480, 640), bool), camera, np.eye(4)[None]))
'''


def test_kernels_compile():
    out = subprocess.run([sys.executable, "-P", "-c", COMPILE], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr[-3000:]
    lines = [line.split(maxsplit=2) for line in out.stdout.splitlines()]
    assert {tuple(line[:2]) for line in lines} == {(module, name) for module in KERNELS for name in KERNELS[module]}
    for module, name, usage in lines:
        stack = re.search(r"STACK:(\d+)", usage)
        assert stack and int(stack[1]) <= MOST_STACK, (module, name, usage)
