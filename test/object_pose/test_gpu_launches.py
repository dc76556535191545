# SPDX-License-Identifier: Apache-2.0
"""What a solve on a GPU launches, counted on tensors without memory: with one mask it is the launches that take time.

A stand-in for Triton counts its kernels and looks at what they are given.
"""

import importlib
import pkgutil
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dfips_ros import processes
from dfips_ros.processes import device_contour, device_meshes, device_observation
from dfips_ros.tasks.object_pose import (
    EstimatorConfig,
    Symmetries,
    device_crop,
    device_polish,
    device_solver,
    device_stages,
)
from dfips_ros.tasks.object_pose.device_solver import DevicePoseSolver

MOST_LAUNCHES = 89  # of a solve with five stages and eight steps of polish
STAGE, STEP = 5, 4  # launches of each
CAMERA = np.array([[305.0, 0.0, 161.0], [0.0, 304.0, 118.0], [0.0, 0.0, 1.0]])
MODULES = (
    device_contour, device_crop, device_meshes, device_observation, device_polish, device_solver, device_stages,
)  # fmt: skip
META = torch.device("meta")
POINTERS = {torch.uint8, torch.int8, torch.int32, torch.int64, torch.float32, torch.float64}
NO_LAUNCH = ("aten.empty", "aten.new_empty")  # memory alone


class _Count(TorchDispatchMode):
    """Operations of PyTorch that launch something, and the names of all."""

    def __init__(self):
        super().__init__()
        self.names, self.count = set(), 0

    def __torch_dispatch__(self, function, kinds, arguments=(), named=None):
        self.names.add(str(function))
        self.count += not function.is_view and not str(function).startswith(NO_LAUNCH)
        return function(*arguments, **(named or {}))


class _Kernel:
    """Counts its launches; on the device without memory, a tensor left on the CPU does not fit."""

    launched = []

    def __init__(self, function):
        self.function = function

    def __getitem__(self, grid):
        assert all(isinstance(n, int) and n > 0 for n in grid)
        return self.launch

    def launch(self, *arguments, **constants):
        names = self.function.__code__.co_varnames[: self.function.__code__.co_argcount]
        given = {**dict(zip(names, arguments, strict=False)), **constants}
        assert set(names) <= set(given), self.function.__name__
        for name, value in given.items():
            if isinstance(value, torch.Tensor):
                assert value.device.type == "meta" and value.is_contiguous() and value.dtype in POINTERS, name
                assert not name.isupper()
            else:
                assert isinstance(value, (bool, int, float)), name
        self.launched.append(self.function.__name__)


@pytest.fixture
def counted(monkeypatch):
    """Kernels that count, in modules that are gone afterwards."""
    triton, language = types.ModuleType("triton"), types.ModuleType("triton.language")
    triton.language, language.constexpr = language, lambda value: value
    triton.jit = lambda function=None, **_: triton.jit if function is None else _Kernel(function)
    triton.cdiv, triton.next_power_of_2 = lambda a, b: -(-a // b), lambda n: 1 << (n - 1).bit_length()
    before = {name: module for name, module in sys.modules.items() if ".processes.cuda_" in name}
    for name in before:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(processes, name.rpartition(".")[2])
    with monkeypatch.context() as importing:  # PyTorch, too, looks for it
        importing.setitem(sys.modules, "triton", triton)
        importing.setitem(sys.modules, "triton.language", language)
        for module in pkgutil.iter_modules(processes.__path__):
            if module.name.startswith("cuda_"):
                importlib.import_module(f"{processes.__name__}.{module.name}")
    for module in MODULES:
        monkeypatch.setattr(module, "has_kernels", lambda device: device.type == "meta")
    yield
    for name in [name for name in sys.modules if ".processes.cuda_" in name]:
        del sys.modules[name]
        vars(processes).pop(name.rpartition(".")[2], None)


def launches(like, config, stages=None, count=1):
    """How many launches a solve takes, and which operations of PyTorch are among them."""
    solver = DevicePoseSolver(like.mesh, like._solver, config, META, Symmetries.none(), stages)
    masks, near = np.ones((count, 240, 320), bool), np.tile(np.eye(4), (count, 1, 1))
    seen, *rest = solver._inputs(masks, CAMERA, near)
    inputs = (seen if count == 1 else seen.mT.contiguous().mT, *rest)  # in memory column by column
    _Kernel.launched.clear()
    with _Count() as record:
        found = solver.forward(*inputs)
    steps = solver.num_stages + 1
    for tensor, shape, dtype in (
        (found.T_camera_object, (count, 4, 4), torch.float64), (found.covariance, (count, 6, 6), torch.float64),
        (found.history, (count, steps, 4, 4), torch.float64), (found.residual_norms, (count, steps), torch.float32),
        (found.iou, (count,), torch.float32), (found.solved, (count,), torch.bool),
    ):  # fmt: skip
        assert tensor.device == META and tensor.shape == shape and tensor.dtype == dtype and tensor.is_contiguous()
    with _Count() as copy:
        found.clone()
    assert copy.count == 1
    return record.count + len(_Kernel.launched), record.names


def test_a_solve_takes_few_launches(estimator, counted):
    total, names = launches(estimator, EstimatorConfig())
    assert total <= MOST_LAUNCHES
    assert "aten.lift_fresh.default" not in names  # a tensor made on the host and copied
    assert launches(estimator, EstimatorConfig(), count=3)[0] - total <= 2  # the masks and the camera matrix, copied


def test_each_stage_and_each_step_takes_few(estimator, counted):
    config = EstimatorConfig()
    longer = replace(config, refine=replace(config.refine, iterations=config.refine.iterations + 3))
    total = launches(estimator, config)[0]
    assert launches(estimator, longer)[0] == total + 3 * STEP
    assert launches(estimator, config, stages=7)[0] == launches(estimator, config, stages=4)[0] + 3 * STAGE


def test_without_polish_and_with_several_trials(estimator, counted):
    assert launches(estimator, EstimatorConfig(refine=None))[0] <= MOST_LAUNCHES - 8 * STEP
    adaptive = estimator._solver.config
    estimator._solver.config = replace(adaptive, max_scalings=2)
    try:
        total = launches(estimator, EstimatorConfig(), count=2)[0]
    finally:
        estimator._solver.config = adaptive
    assert total <= MOST_LAUNCHES + 2  # all trials of a stage are drawn at once
