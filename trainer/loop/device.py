"""The device that a command computes on: one for a command in one process, one a process under a launcher."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from accelerate import PartialState

PATIENCE = timedelta(hours=2)  # that processes wait for the main one, which alone tests what a matrix has trained


def find_device(asked: str | None = None) -> torch.device:
    """The device that was asked for, or the accelerator where one can be used, else the CPU; float32 is no TF32 there.

    Raises ValueError where the asked one can't be used, RuntimeError under a launcher with several processes.
    """
    if (world := _launched("WORLD_SIZE")) > 1:
        raise RuntimeError(f"{world} processes: this command runs in one; start it without a launcher")
    return _only_device(asked)


def process_device(asked: str | None = None) -> torch.device:
    """This process's device in training: under a launcher its own GPU, or the CPU where there is none.

    The process is joined to the others. Raises ValueError where a machine has fewer GPUs than processes, or the asked
    device can't be used.
    """
    if (world := _launched("WORLD_SIZE")) == 1:
        return _only_device(asked)
    on_cpu = asked == "cpu" or not torch.cuda.is_available()
    if asked not in (None, "cpu", "cuda") or (asked == "cuda" and on_cpu):
        raise ValueError(f"--device {asked}: {world} processes take a GPU each, or --device cpu; leave it out")
    here = _launched("LOCAL_WORLD_SIZE")
    if not on_cpu and here > torch.cuda.device_count():
        raise ValueError(
            f"{here} processes on a machine with {torch.cuda.device_count()} GPUs; start one a GPU, or --device cpu"
        )
    state = PartialState(cpu=on_cpu, timeout=PATIENCE)
    if state.num_processes != world:
        raise RuntimeError(f"{state.num_processes} of {world} launched processes found each other; launch them again")
    _no_tf32()
    return _usable(str(state.device))


def _launched(name: str) -> int:
    """How many processes a launcher started, by its environment variable; 1 without a launcher."""
    return int(os.environ.get(name, "1"))


def _only_device(asked: str | None) -> torch.device:
    _no_tf32()
    return _usable(asked or str(PartialState().device or "cpu"))


def _usable(name: str) -> torch.device:
    """The device with its index; ValueError where it can't be used."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0][:100]
        raise ValueError(f"--device {name}: can't be used here ({said}); leave it out") from error


def _no_tf32() -> None:
    torch.backends.cudnn.allow_tf32 = False
