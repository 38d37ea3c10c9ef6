"""Where the time goes: seconds of work by step, summed over threads, and the step that holds up the rest."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

DEVICE_STEPS = ("forward",)  # one at a time; the others run beside it in threads


class Clock:
    """Adds up the seconds of each step; shared by all threads of a command."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._started = time.perf_counter()

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._seconds[step] += time.perf_counter() - started

    @property
    def seconds(self) -> Mapping[str, float]:
        return dict(self._seconds)

    @property
    def wall(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._started


def bottleneck(seconds: Mapping[str, float], cores: int) -> str:
    """The step that the others wait for: the device's, or the longest of those that share the cores."""
    device = sum(seconds.get(step, 0) for step in DEVICE_STEPS)
    beside = {step: spent for step, spent in seconds.items() if step not in DEVICE_STEPS}
    if not beside or device > sum(beside.values()) / cores:
        return "forward"
    return max(beside, key=lambda step: beside[step])
