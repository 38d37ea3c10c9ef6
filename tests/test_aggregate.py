"""The aggregation that makes topologies as they are needed, against the plain product."""

from __future__ import annotations

import pytest
import torch

from mmcl.trainer.backbones import aggregate as module
from mmcl.trainer.backbones.aggregate import aggregate


def arguments() -> list[torch.Tensor]:
    torch.manual_seed(0)
    shapes = (5, 3, 6, 16), (3, 8, 6), (5, 8, 12, 7)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def plain(relations: torch.Tensor, refine: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """y[b, c, u, t] = sum over s, v of topology[b, c, s, v, u] * values[b, c, s, v, t]."""
    topology = torch.einsum("scr,bsrvu->bcsvu", refine, relations.unflatten(3, (4, 4)))
    return torch.einsum("bcsvu,bcsvt->bcut", topology, values.unflatten(2, (3, 4)))


@pytest.mark.parametrize("at_once", [1, 2 * 3 * 8 * 16, 1 << 20])
def test_output_and_gradients_are_those_of_the_plain_product(at_once: int, monkeypatch: pytest.MonkeyPatch):
    """However many bodies go at a time, also where the last stretch is shorter."""
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    found, wanted = arguments(), arguments()
    one, other = aggregate(*found), plain(*wanted)
    torch.testing.assert_close(one, other)
    grad = torch.randn_like(other)
    one.backward(grad)
    other.backward(grad)
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_the_form_of_a_gpu_is_the_same():
    torch.testing.assert_close(module._at_once(*arguments()), aggregate(*arguments()))


def test_bfloat16_comes_out_as_it_went_in():
    relations, refine, values = (argument.detach().float() for argument in arguments())
    with torch.autocast("cpu", torch.bfloat16):
        found = aggregate(relations, refine, values.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), plain(relations, refine, values), rtol=0.05, atol=0.3)
