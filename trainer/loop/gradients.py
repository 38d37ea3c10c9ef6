"""The gradients of one step, summed over all processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Gradients:
    """The gradients of some parameters; with several processes they lie in one tensor, which one all-reduce sums.

    `numbers` is how many numbers of a step travel with them.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], world: int, numbers: int) -> None:
        self._parameters = parameters
        self._flat: Tensor | None = None
        if world > 1:
            size = sum(parameter.numel() for parameter in parameters)
            self._flat = parameters[0].new_zeros(size + numbers, requires_grad=False)
            self._numbers = self._flat[size:]

    def clear(self) -> None:
        """Make ready for a backward pass."""
        if self._flat is None:
            for parameter in self._parameters:
                parameter.grad = None
            return
        self._flat.zero_()
        start = 0
        for parameter in self._parameters:
            parameter.grad = self._flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()

    def sum(self, numbers: Tensor) -> Tensor:
        """Sum the gradients over all processes; gives the sum of their `numbers`."""
        if self._flat is None:
            return numbers
        self._numbers.copy_(numbers)
        dist.all_reduce(self._flat)
        return self._numbers.clone()

    def clip(self, largest: float) -> None:
        """Scale all of them so that their norm is at most `largest`; 0 leaves them as they are."""
        if largest:
            torch.nn.utils.clip_grad_norm_(self._parameters, largest)
