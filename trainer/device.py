"""The one device that a command computes on."""

from __future__ import annotations

import torch
from accelerate import PartialState


def find_device() -> torch.device:
    """The accelerator where one can be used, else the CPU; float32 is float32 there, not TF32.

    Raises RuntimeError under a launcher with several processes.
    """
    state = PartialState()
    if state.num_processes > 1:
        raise RuntimeError(f"{state.num_processes} processes: this command runs in one; start it without a launcher")
    torch.backends.cudnn.allow_tf32 = False
    return state.device or torch.device("cpu")
