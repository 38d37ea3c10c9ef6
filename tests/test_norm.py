"""Batch norm of ours against torch's: the same numbers, rows that stand for several, values far from zero."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmcl.trainer.backbones.norm import BatchNorm


def pair(channels: int) -> tuple[BatchNorm, nn.BatchNorm1d]:
    """Ours and torch's with the same entries, in float64."""
    torch.manual_seed(0)
    ours, theirs = BatchNorm(channels).double(), nn.BatchNorm1d(channels).double()
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def through(norm: nn.Module, x: Tensor, grad: Tensor, *weight: Tensor) -> list[Tensor]:
    """Output, gradients of input, scale and shift, and running statistics after one training step."""
    x = x.clone().requires_grad_()
    y = norm(x, *weight)
    y.backward(grad)
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in norm.parameters() if p.grad is not None), *norm.buffers()]


@pytest.mark.parametrize("shape", [(6, 5, 7), (6, 5, 4, 3), (2, 5, 9)])
def test_numbers_are_torchs(shape: tuple[int, ...]):
    ours, theirs = pair(5)
    x, grad = torch.randn(shape, dtype=torch.float64) * 2 + 1, torch.randn(shape, dtype=torch.float64)
    found = through(ours, x, grad)
    wanted = through(theirs, x.flatten(2), grad.flatten(2))
    assert len(found) == len(wanted) == 7
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine.reshape(other.shape), other, rtol=1e-6, atol=1e-6)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x.flatten(2)).view(shape), rtol=1e-6, atol=1e-6)


def test_a_row_of_weight_three_is_three_rows():
    """Also with a row of weight nought, which counts for nothing and gets no gradient."""
    ours, theirs = pair(4)
    x = torch.randn(4, 4, 6, dtype=torch.float64)
    grad = torch.randn(4, 4, 6, dtype=torch.float64)
    grad[3] = 0
    weight = torch.tensor([1.0, 3.0, 2.0, 0.0])
    repeats = torch.tensor([1, 3, 2, 0])
    found = through(ours, x, grad, weight)
    wanted = through(theirs, x.repeat_interleave(repeats, 0), (grad[:3] / repeats[:3, None, None])[[0, 1, 1, 1, 2, 2]])
    torch.testing.assert_close(found[0][[0, 1, 1, 1, 2, 2]], wanted[0], rtol=1e-6, atol=1e-6)
    summed = torch.stack([wanted[1][:1].sum(0), wanted[1][1:4].sum(0), wanted[1][4:].sum(0)])
    torch.testing.assert_close(found[1][:3], summed, rtol=1e-6, atol=1e-6)
    assert not found[1][3].any()
    for mine, other in zip(found[2:], wanted[2:], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


def test_values_far_from_zero_keep_their_digits():
    """Mean square less squared mean would have no digit left in float32."""
    ours = BatchNorm(3)
    x = torch.randn(8, 3, 50) * 0.01 + 30
    exact = x.double()
    variance, mean = torch.var_mean(exact, dim=(0, 2), correction=0, keepdim=True)
    wanted = (exact - mean) / (variance + 1e-5).sqrt()
    assert (ours(x).double() - wanted).abs().max() < 3e-3  # the input's own digits: 30 / 0.01 times 1e-7


def test_bfloat16_takes_its_statistics_in_float32():
    ours, plain = BatchNorm(3), BatchNorm(3)
    x = torch.randn(8, 3, 200) + 2
    found, wanted = ours(x.bfloat16()), plain(x.bfloat16().float())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(ours.running_var, plain.running_var, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.float(), wanted, rtol=0, atol=0.02)
