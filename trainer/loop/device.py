"""The one device that a command computes on."""

from __future__ import annotations

import torch
from accelerate import PartialState


def find_device(asked: str | None = None) -> torch.device:
    """The device that was asked for, or the accelerator where one can be used, else the CPU; float32 is no TF32 there.

    Raises ValueError where the asked one can't be used, RuntimeError under a launcher with several processes.
    """
    state = PartialState()
    if state.num_processes > 1:
        raise RuntimeError(f"{state.num_processes} processes: this command runs in one; start it without a launcher")
    torch.backends.cudnn.allow_tf32 = False
    if asked is None:
        return state.device or torch.device("cpu")
    try:
        return torch.empty(0, device=asked).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device {asked}: can't be used here ({str(error).splitlines()[0]}); leave it out"
        ) from error
