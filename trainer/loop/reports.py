"""The numbers of steps as the host sees them: at once on a CPU, late on an accelerator, which never waits for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from .inputs import Inputs

LATE = 2  # steps that an accelerator may be ahead of the host
TERMS = ("total", "classify", "align", "refine")


class Report(NamedTuple):
    """A step's numbers over all processes: its mean losses and share of right answers.

    `stop` says that one of them was asked to stop, `due` that the state is to be saved: so all do it after one step.
    `inputs` and `scores` [n, K] are this process's, for what must be said of a step that failed.
    """

    step: int
    numbers: list[float]
    stop: bool
    due: bool
    inputs: Inputs
    scores: Tensor

    @property
    def not_finite(self) -> list[str]:
        """The terms of the loss that are NaN or Inf; `total` where only their sum is."""
        bad = [name for name, number in zip(TERMS, self.numbers, strict=False) if not isfinite(number)]
        return bad[1:] or bad


class Reports:
    """Steps in their order; each is copied to the host beside the accelerator's work."""

    def __init__(self, device: torch.device) -> None:
        self._late = LATE if device.type == "cuda" else 0
        self._waiting: deque[tuple[int, Tensor, torch.cuda.Event | None, Inputs, Tensor]] = deque()

    def add(self, step: int, numbers: Tensor, inputs: Inputs, scores: Tensor) -> None:
        copied = None
        if self._late:
            host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            numbers = host.copy_(numbers, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        self._waiting.append((step, numbers, copied, inputs, scores))

    def read(self, *, to_the_end: bool = False) -> Iterator[Report]:
        """The reports that are due, or all of them."""
        while len(self._waiting) > (0 if to_the_end else self._late):
            step, numbers, copied, inputs, scores = self._waiting.popleft()
            if copied is not None:
                copied.synchronize()
            *means, stop, due = numbers.tolist()
            yield Report(step, means, stop > 0, due > 0, inputs, scores)
