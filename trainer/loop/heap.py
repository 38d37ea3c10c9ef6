"""glibc's heap: whether the memory of a CPU's tensors goes back to the system when they are freed.

A training step takes and frees gigabytes in large pieces. As glibc is set, each is mapped anew and every page of it
faulted in again, a fifth of the step.
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
LARGE, SMALL = 1 << 30, 1 << 16  # bytes


def keep_freed() -> bool:
    """From here on freed memory is kept for the next tensors; False where the C library can't be told."""
    return _set(TRIM_THRESHOLD, (1 << 31) - 1) and _set(MMAP_THRESHOLD, LARGE)


def give_back_freed() -> bool:
    """From here on tensors are mapped, and go back when they are freed; False where the C library can't be told."""
    return _set(MMAP_THRESHOLD, SMALL)


def trim() -> None:
    """Give back what the heap holds and nobody uses."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _set(option: int, value: int) -> bool:
    libc = ctypes.CDLL(None)
    return hasattr(libc, "mallopt") and bool(libc.mallopt(option, value))
