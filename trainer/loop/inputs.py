"""What a step computes on, from seed, epoch and step alone: made on the host, one step ahead of the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..backbones.bodies import Bodies, bodies_of
from ..colearning.objective import Teachers, teachers_of
from ..config import Config
from ..data.features import Features
from ..data.skeleton import Draws, draw
from ..processes import Share

ORDER, AUGMENTATION = 0, 1  # streams of random numbers; SeedSequence takes (s, e) and (s, e, 0) for the same
SIZES = 8  # a compiled network meets at most so many numbers of computed bodies between N and 2N


class Inputs(NamedTuple):
    """This process's clips of a step: rows int64 [n], their random numbers and features, the bodies to compute."""

    rows: Tensor
    draws: Draws
    teachers: Teachers
    bodies: Bodies | None

    def to(self, device: torch.device) -> Inputs:
        """On the device, while the host goes on; random numbers stay, `batch` takes them from the host."""
        return self._changed(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Inputs:
        """The same in memory that a GPU copies from beside its work."""
        return self._changed(Tensor.pin_memory)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        teachers = Teachers(*(None if tensor is None else change(tensor) for tensor in self.teachers))
        bodies = None if self.bodies is None else Bodies(*map(change, self.bodies))
        return Inputs(change(self.rows), self.draws, teachers, bodies)


@dataclass(frozen=True)
class Feed:
    """What inputs are made from: the clips trained on, their features, the real bodies of each clip of the data set.

    `slots` is 0 where no absent body can be saved: one slot, or the first body stands in for it.
    """

    config: Config
    share: Share
    train: np.ndarray
    rgb: Features | None
    text: Features | None
    counts: Tensor
    slots: int
    pin: bool

    @property
    def steps(self) -> int:
        """Steps an epoch: an incomplete last batch is left out, other clips each epoch."""
        return len(self.train) * self.config.repeat // self.config.batch


def epoch_order(rows: np.ndarray, config: Config, epoch: int) -> np.ndarray:
    """The epoch's clips in its own order, from seed and epoch alone."""
    order = torch.randperm(len(rows) * config.repeat, generator=_generator(config.seed, ORDER, epoch))
    return rows[order.numpy() % len(rows)]


def inputs_of(feed: Feed, order: np.ndarray, epoch: int, step: int) -> Inputs:
    """This process's share of a step, on the host; random numbers are drawn for the global batch."""
    config = feed.config
    mine = feed.share.rows(config.batch)
    rows = order[step * config.batch : (step + 1) * config.batch][mine]
    draws = draw(_generator(config.seed, AUGMENTATION, epoch, step), config.batch, config.window)
    found = Inputs(
        torch.from_numpy(rows),
        Draws(*(numbers[mine] for numbers in draws)),
        teachers_of(feed.rgb, feed.text, rows),
        _bodies(feed, rows),
    )
    return found.pinned() if feed.pin else found


def ahead(make: Callable[[int], Inputs], steps: range) -> Iterator[tuple[int, Inputs]]:
    """Each step with its inputs; those of the next are made in a thread meanwhile."""
    with ThreadPoolExecutor(1, "inputs") as thread:
        coming: Future[Inputs] | None = None
        for step in steps:
            ready = coming or thread.submit(make, step)
            coming = thread.submit(make, step + 1) if step + 1 in steps else None
            yield step, ready.result()


def _bodies(feed: Feed, rows: np.ndarray) -> Bodies | None:
    if not feed.slots:
        return None
    multiple = 1 if feed.config.compile == "off" else max(1, len(rows) // SIZES)
    return bodies_of(feed.counts[rows], feed.slots, "cpu", multiple)


def _generator(*seed: int) -> torch.Generator:
    """Random numbers that depend on nothing but these integers: the same after any resume."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))
