"""Mean and deviation of rows that are never all in memory."""

from __future__ import annotations

import numpy as np

SAME = 1e-6  # of the largest value: what varies less is a constant with rounding in it


class Moments:
    """Mean and deviation [D] in float64 of rows that come a block [n, D] at a time (Chan, Golub and LeVeque, 1979)."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = np.zeros(dim)
        self._squares = np.zeros(dim)
        self._largest = np.zeros(dim)

    def add(self, block: np.ndarray) -> None:
        """Count finite rows in."""
        if not len(block):
            return
        exact = block.astype(np.float64)
        mean, both = exact.mean(0), self.count + len(exact)
        np.maximum(self._largest, exact.max(0), out=self._largest)
        np.maximum(self._largest, -exact.min(0), out=self._largest)
        exact -= mean
        moved = mean - self.mean
        self._squares += np.einsum("nd,nd->d", exact, exact) + moved**2 * (self.count * len(exact) / both)
        self.mean += moved * (len(exact) / both)
        self.count = both

    @property
    def deviation(self) -> np.ndarray:
        """0 where all values are the same, but for rounding."""
        deviation = np.sqrt(self._squares / max(self.count, 1))
        least = np.maximum(SAME * self._largest, np.finfo(np.float32).tiny)
        return np.where(deviation > least, deviation, 0)
