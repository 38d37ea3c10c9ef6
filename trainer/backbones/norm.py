"""Batch norm over the global batch, in which a row may stand for several."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..processes import all_reduced, alone

EPSILON, MOMENTUM = 1e-5, 0.1  # torch's own
CANCELS = 100.0  # squared mean over variance and epsilon from which on the quick variance loses digits


class BatchNorm(nn.Module):
    """Batch norm over all axes but C of [B, C, ...], with torch's entries and numbers.

    `weight` [B] of a call says how many rows each row stands for. Statistics are those of all processes' rows.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        if self.training:
            self.num_batches_tracked.add_(1)
        if not self.training or (x.is_cuda and weight is None and alone()):
            statistics, affine = (self.running_mean, self.running_var), (self.weight, self.bias)
            return F.batch_norm(x, *statistics, *affine, self.training, MOMENTUM, EPSILON)
        y, mean, variance = _Weighted.apply(x, weight, self.weight, self.bias)
        with torch.no_grad():
            self.running_mean.lerp_(mean, MOMENTUM)
            self.running_var.lerp_(variance, MOMENTUM)
        return y


class _Weighted(torch.autograd.Function):
    """Training-mode batch norm of weighted rows, with the mean and the unbiased variance, [C] each.

    Statistics are combined in float64 from each row's own. On a CPU it takes half the time of torch's own.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, scale: Tensor, shift: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, kind = x.contiguous(), scale.dtype
        mean, variance, count = _statistics(x.flatten(2), weight)
        y = F.batch_norm(x, mean.to(kind), variance.to(kind), scale, shift, False, 0.0, EPSILON)
        ctx.save_for_backward(x, weight, scale, mean, variance, count)
        mean, unbiased = mean.to(kind), (variance * count / (count - 1)).to(kind)
        ctx.mark_non_differentiable(mean, unbiased)
        return y, mean, unbiased

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale, mean, variance, count = ctx.saved_tensors
        g, kind, inverse = grads[0].contiguous(), scale.dtype, (variance + EPSILON).rsqrt()
        shift_grad = g.flatten(2).sum(2, dtype=kind).sum(0, dtype=torch.float64)
        product = torch.linalg.vecdot(g.flatten(2).to(kind), x.flatten(2).to(kind)).sum(0, dtype=torch.float64)
        scale_grad = (product - mean * shift_grad) * inverse
        sums = torch.stack([shift_grad, scale_grad])
        offset, slope = (sums if alone() else all_reduced(sums)) / count
        factor = scale * inverse
        # dx = factor * (g - weight * (offset + x_hat * slope)); batch norm's own kernel makes the affine part
        affine = (-factor * slope).to(kind), (-factor * offset).to(kind)
        dx = F.batch_norm(x, mean.to(kind), variance.to(kind), *affine, False, 0.0, EPSILON)
        dx = _times(dx, weight).addcmul_(g, factor.to(x.dtype).view(-1, *[1] * (x.dim() - 2)))
        return dx, None, scale_grad.to(kind), shift_grad.to(kind)


def _statistics(rows: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance [C] of all processes' weighted rows [B, C, L], and how many values went in; float64."""
    if not _asks_nothing(rows):
        mean, variance, count = _combined(*_quick_moments(rows), rows.shape[2], weight)
        if bool((mean**2 <= CANCELS * (variance + EPSILON)).all()):
            return mean, variance, count
    return _combined(*_exact_moments(rows), rows.shape[2], weight)


def _asks_nothing(x: Tensor) -> bool:
    """Whether the way through must not hang on values: a GPU would wait, a compiled graph would break."""
    return x.is_cuda or torch.compiler.is_compiling()


def _quick_moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and mean square of each row [B, C], at the speed of memory."""
    length, kind = rows.shape[2], torch.promote_types(rows.dtype, torch.float32)
    square = torch.linalg.vector_norm(rows, dim=2, dtype=kind).double() ** 2 / length
    return rows.sum(2, dtype=kind) / length, square


def _exact_moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The same, for values far from zero too."""
    exact = rows.to(torch.promote_types(rows.dtype, torch.float32))
    variance, mean = torch.var_mean(exact, dim=2, correction=0)
    return mean, variance.double() + mean.double() ** 2


def _combined(mean: Tensor, square: Tensor, length: int, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    times = mean.new_ones(len(mean), 1) if weight is None else weight[:, None]
    parts = [mean.double() * times, square * times, times.expand_as(mean)]
    sums = torch.stack(parts).sum(1, dtype=torch.float64) * length
    total, squares, counts = sums if alone() else all_reduced(sums)
    mean = total / counts
    return mean, (squares / counts - mean**2).clamp(min=0), counts


def _times(x: Tensor, weight: Tensor | None) -> Tensor:
    """Rows [B, ...] times their weight [B], in place; on a CPU only those that stand for another number than one."""
    if weight is None:
        return x
    if _asks_nothing(x):
        return x.mul_(weight.to(x.dtype).view(-1, *[1] * (x.dim() - 1)))
    for row in (weight != 1).nonzero()[:, 0].tolist():
        x[row] *= weight[row]
    return x
