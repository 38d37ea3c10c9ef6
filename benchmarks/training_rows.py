"""What the parts of benchmarks/training.py find, how it is timed, and the table that it is printed as."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

Call = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One finding: a number, with its spread over the rounds, or words; and the bound that it is held against."""

    what: str
    found: float | str
    least: float | None = None
    most: float | None = None
    spread: tuple[float, float] | None = None

    @property
    def missed(self) -> bool:
        if isinstance(self.found, str):
            return False
        return (self.least is not None and self.found < self.least) or (
            self.most is not None and self.found > self.most
        )

    @property
    def shown(self) -> str:
        if isinstance(self.found, str):
            return self.found
        spread = f" ({_number(self.spread[0])} to {_number(self.spread[1])})" if self.spread else ""
        return f"{_number(self.found)}{spread}"

    @property
    def wanted(self) -> str:
        bounds = [("at least", self.least), ("at most", self.most)]
        words = " and ".join(f"{word} {_number(bound)}" for word, bound in bounds if bound is not None)
        return f"{words}: MISSED" if self.missed else words


def measured(what: str, values: Sequence[float], *, least: float | None = None, most: float | None = None) -> Row:
    """The median of some rounds, and their range."""
    return Row(what, statistics.median(values), least, most, (min(values), max(values)))


def faster(what: str, seconds: np.ndarray, least: float | None = None) -> Row:
    """How many times faster the second side was than the first, and how long both took."""
    first, second = (1000 * np.median(seconds, axis=0)).tolist()
    times = (seconds[:, 0] / seconds[:, 1]).tolist()
    return measured(f"{what} ({_number(first)} ms, ours {_number(second)} ms)", times, least=least)


def alternating(sides: Sequence[Call], rounds: int, clock: Callable[[], float] = time.perf_counter) -> np.ndarray:
    """Seconds of each side in each round, [rounds, sides]; `time.process_time` for those of CPU.

    The sides take turns, each round in the other order, so that a disturbance meets all of them; one round goes before.
    """
    for side in sides:
        side()
    seconds = np.empty((rounds, len(sides)))
    for number in range(rounds):
        for place in range(len(sides))[:: 1 if number % 2 else -1]:
            started = clock()
            sides[place]()
            seconds[number, place] = clock() - started
    return seconds


def table(rows: Sequence[Row]) -> str:
    lines = [f"| {row.what} | {row.shown} | {row.wanted} |" for row in rows]
    return "\n".join(["| what | found | wanted |", "|---|---|---|", *lines])


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    return [
        {"what": row.what, "found": row.found, "spread": row.spread, "wanted": row.wanted, "missed": row.missed}
        for row in rows
    ]


def machine() -> str:
    """The processor, how many of its cores are ours, torch and its threads; the GPU where there is one."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
    cores = len(os.sched_getaffinity(0))
    vector = torch.backends.cpu.get_cpu_capability()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    name = names[0] if names else platform.machine()
    return f"{name} ({vector}), {cores} cores, torch {torch.__version__}, {torch.get_num_threads()} threads{gpu}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
