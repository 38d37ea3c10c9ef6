"""Encoders that cost what they are told and know nothing, so that the loop around them can be measured.

Their cost a picture, in milliseconds, is MMCL_BENCH_MS; each picture looked at adds a byte to the file MMCL_BENCH_LOG.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

GRID = 60  # pixels between those that are the feature
WORK = bytes(1 << 20)  # what is summed to burn time; the interpreter is free meanwhile, as beside any native code


class Waiting:
    """A device of its own: it takes time, and no CPU."""

    layout = "strip"

    def __init__(self, device: str) -> None:
        self._seconds = float(os.environ.get("MMCL_BENCH_MS", 0)) / 1000
        self._log = os.environ.get("MMCL_BENCH_LOG")
        self.settings = {"seconds": self._seconds}

    def encode(self, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Some pixels of each picture as its feature [N, D]."""
        self._spend(self._seconds * len(images))
        if self._log:
            with Path(self._log).open("ab") as log:
                log.write(b"." * len(images))
        return {"feature": np.stack([image[::GRID, ::GRID].ravel() for image in images]).astype(np.float32)}

    def _spend(self, seconds: float) -> None:
        time.sleep(seconds)


class Burning(Waiting):
    """One thread of the CPU."""

    def _spend(self, seconds: float) -> None:
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            zlib.crc32(WORK)


class Numbers:
    """As fast as can be: 512 random numbers a picture, which it does not look at."""

    layout = "strip"

    def __init__(self, device: str) -> None:
        self._random = np.random.default_rng(0)
        self.settings = {"seed": 0}

    def encode(self, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return {"feature": self._random.random((len(images), 512), np.float32)}
