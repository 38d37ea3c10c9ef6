"""Memory that is too short for a training batch: recognised, measured, and said in one line."""

from __future__ import annotations

import errno
import gc
import json
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from mmcl.trainer.config import Config
from mmcl.trainer.loop.memory import fitting_batch, is_short, too_large

CPU = torch.device("cpu")

# A real network whose memory is limited once it is there; what it may add is argv[1] MiB, its batches the others.
LIMITED = """
import json, resource, sys, torch
from pathlib import Path
from mmcl.pipeline.preparation.layouts import KINECT_V1
from mmcl.trainer.loop.memory import fitting_batch, is_short
from mmcl.trainer.model import build_model
torch.set_num_threads(1)
torch.backends.mkldnn.enabled = False  # it may crash where memory is short
model = build_model("ctrgcn", KINECT_V1, bodies=1, width=8, classes=5)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
def step(clips):
    optimizer.zero_grad()
    model(torch.randn(clips, 3, 16, 20, 1)).scores.square().mean().backward()
    optimizer.step()
step(2)
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (int(sys.argv[1]) << 20),) * 2)
batch, steps = int(sys.argv[2]), int(sys.argv[3])
try:
    for _ in range(steps):
        step(batch)
    failed = None
except RuntimeError as error:
    failed = is_short(error)
print(json.dumps({"failed": failed, "fits": fitting_batch(step, batch) if failed else batch}))
"""


def limited(mebibytes: int, batch: int, steps: int) -> dict[str, int | bool | None]:
    command = [sys.executable, "-c", LIMITED, str(mebibytes), str(batch), str(steps)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.fixture(autouse=True)
def little_to_collect() -> Iterator[None]:
    """What the other tests have loaded is not looked through after each trial."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        MemoryError(),
    ],
    ids=["torch", "the driver", "cuBLAS", "the CPU's allocator", "oneDNN", "C++", "the system", "Python"],
)
def test_a_shortage_is_recognised(error: Exception):
    assert is_short(error)


def test_what_torch_and_numpy_raise_without_memory_is_recognised():
    for ask in (lambda: torch.empty(1 << 60, dtype=torch.uint8), lambda: np.empty(1 << 60, np.uint8)):
        with pytest.raises((RuntimeError, MemoryError)) as error:
            ask()
        assert is_short(error.value)


def test_another_error_is_none():
    assert not is_short(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_short(ValueError("out of memory"))
    assert not is_short(OSError(errno.ENOSPC, "No space left on device"))


def rooms(room: int, batch: int) -> tuple[int, list[int]]:
    """What is found where `room` clips fit, and what was tried."""
    tried = []

    def trial(clips: int) -> None:
        tried.append(clips)
        if clips > room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return fitting_batch(trial, batch), tried


@pytest.mark.parametrize("room", [2, 3, 31, 99, 199])
def test_the_batch_is_found_to_a_tenth_and_never_too_large(room: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    fits, tried = rooms(room, 200)
    assert fits in tried
    assert room - max(1, room // 10) <= fits <= room
    assert 200 not in tried and len(tried) == len(set(tried)) < 14


def test_on_a_cpu_a_fifth_is_held_back_and_two_clips_are_two():
    fits, tried = rooms(99, 200)
    assert fits == max(clips for clips in tried if clips <= 99) * 4 // 5
    assert rooms(2, 4)[0] == 2


@pytest.mark.parametrize("batch", [2, 3, 200])
def test_no_batch_fits_where_two_clips_do_not(batch: int):
    tried = []

    def trial(clips: int) -> None:
        tried.append(clips)
        raise MemoryError

    assert fitting_batch(trial, batch) == 0
    assert min(tried, default=2) == 2


def test_what_else_a_trial_raises_is_not_taken_for_a_shortage():
    def trial(clips: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        fitting_batch(trial, 8)


def test_trials_do_not_hold_each_others_memory():
    """What a trial made is gone when the next one starts, also if a cycle or an error's traceback holds it."""
    alive = 0

    class Tensors:
        def __init__(self) -> None:
            nonlocal alive
            alive += 1
            self.itself = self

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def trial(clips: int) -> None:
        assert alive == 0
        _held = Tensors()
        if clips > 5:
            raise MemoryError

    assert fitting_batch(trial, 16) == 4  # a fifth less than 5
    assert alive == 0


def test_the_measured_batch_trains_where_the_asked_one_did_not():
    """A real network in a process of little memory; another process of as little trains with what was measured."""
    measured = limited(100, 500, 1)
    assert measured["failed"] is True
    fits = int(measured["fits"] or 0)
    assert 8 <= fits < 250
    assert limited(100, fits, 3) == {"failed": None, "fits": fits}


def test_the_line_says_what_to_type():
    said = too_large(200, 96, CPU, Config())
    assert said.startswith("batch 200 does not fit into the memory of cpu (limit ")
    assert said.endswith(
        " GB); 96 fits (measured): --set batch=96 --set lr_batch=200 keeps the rate per clip; or --set precision=bf16"
    )
    assert too_large(200, 96, CPU, Config(precision="bf16", lr_batch=64)).endswith("fits (measured): --set batch=96")


def test_the_line_says_what_else_to_try_where_nothing_fits():
    said = too_large(200, 0, CPU, Config())
    assert said.endswith(
        "and 2 clips don't either; try --set precision=bf16, a smaller --set window=, --set width=, another --device"
    )
    assert "bf16" not in too_large(200, 0, CPU, Config(precision="bf16"))
