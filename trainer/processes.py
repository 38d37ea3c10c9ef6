"""The processes that train one network: each has its rows of the global batch, and sums go through all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

_apart = False


class Share(NamedTuple):
    """The `rank`-th of `world` processes that a launcher (torchrun, accelerate launch) started."""

    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the one process that writes and prints."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """This process's rows of a global batch: contiguous, as many as the others' or one less."""
        return slice(self.rank * count // self.world, (self.rank + 1) * count // self.world)


def share() -> Share:
    """The share of this process, as its launcher numbered it; `process_device` joins it to the others."""
    if _apart:
        return Share()
    if dist.is_available() and dist.is_initialized():
        return Share(dist.get_rank(), dist.get_world_size())
    return Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def alone() -> bool:
    """Whether this process computes without others."""
    return _apart or not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)


@contextmanager
def apart() -> Iterator[None]:
    """Within it this process computes for itself, as if there were no others."""
    global _apart
    _apart = True
    try:
        yield
    finally:
        _apart = False


def summed(x: Tensor) -> Tensor:
    """The sum of `x` over all processes, on all of them, differentiable; `x` itself where there is one.

    Where each process holds its share of a loss, gradients through this are those of the whole loss.
    """
    return x if alone() else _Sum.apply(x)


def everyones(x: Tensor, count: int) -> Tensor:
    """All processes' rows of a global batch, [count, ...] in order, differentiable; from this process's rows."""
    if alone():
        return x
    mine = share().rows(count)
    before, after = x.new_zeros(mine.start, *x.shape[1:]), x.new_zeros(count - mine.stop, *x.shape[1:])
    return summed(torch.cat([before, x, after]))


class _Sum(torch.autograd.Function):
    """All-reduce; a value that went to all processes gets the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return all_reduced(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return all_reduced(grads[0])


def all_reduced(x: Tensor) -> Tensor:
    """A new tensor with the sum over all processes; no gradient."""
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
