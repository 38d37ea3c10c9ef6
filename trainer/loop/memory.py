"""Memory that is too short for a batch: how libraries say it, which batch would fit, and what is said to the user."""

from __future__ import annotations

import errno
import gc
import os
import resource
from collections.abc import Callable

import torch

from ...cache.words import SHORT_OF_MEMORY
from ..config import Config
from .heap import give_back_freed, trim

LEAST = 2  # clips: a batch norm needs more than one


def is_short(error: BaseException) -> bool:
    """Whether an error of a library says that memory was too short, on the device or beside it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in SHORT_OF_MEMORY)


def fitting_batch(trial: Callable[[int], None], batch: int) -> int:
    """The largest batch below `batch`, to a tenth, for which `trial(clips)` runs; 0 where not even two clips do.

    `batch` has failed already and is not tried again. What a trial raises for want of memory is taken as the answer;
    anything else passes through. On a CPU a fifth is held back for the holes of a heap, which trials are spared.
    """
    spared = not torch.cuda.is_initialized() and give_back_freed()
    _free()
    low, high = 0, batch
    while not low and high > LEAST:
        tried = max(high // 2, LEAST)
        low, high = (tried, high) if _runs(trial, tried) else (0, tried)
    while low and high - low > max(1, low // 10):
        tried = (low + high) // 2
        low, high = (tried, high) if _runs(trial, tried) else (low, tried)
    return max(min(low, LEAST), low * 4 // 5) if spared else low


def _runs(trial: Callable[[int], None], clips: int) -> bool:
    """Whether a trial finds memory enough; what it took is given back before the next."""
    try:
        trial(clips)
    except Exception as error:
        if not is_short(error):
            raise
        return False
    finally:
        _free()
    return True


def _free() -> None:
    gc.collect()
    trim()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def too_large(batch: int, fits: int, device: torch.device, config: Config) -> str:
    """One line: the batch does not fit, which one does (0: none), and what to type."""
    said = f"batch {batch} does not fit into the memory of {device}{_limit(device)}"
    half = "--set precision=bf16" if config.precision == "fp32" else ""
    if not fits:
        instead = ", ".join(filter(None, (half, "a smaller --set window=, --set width=", "another --device")))
        return f"{said}, and {LEAST} clips don't either; try {instead}"
    rate = "" if config.lr_batch else f" --set lr_batch={batch} keeps the rate per clip"
    return f"{said}; {fits} fits (measured): --set batch={fits}{rate}{half and f'; or {half}'}"


def _limit(device: torch.device) -> str:
    """How much memory there is for all, where the system says so."""
    if device.type == "cuda":
        size = torch.cuda.get_device_properties(device).total_memory
    elif device.type == "cpu":
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
        size = size if allowed == resource.RLIM_INFINITY else min(size, allowed)
    else:
        return ""
    return f" (limit {size / 1e9:.1f} GB)"
