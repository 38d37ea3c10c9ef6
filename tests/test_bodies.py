"""Absent bodies computed once: outputs, gradients and statistics are those of the plain network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmcl.pipeline.preparation.layouts import KINECT_V1, KINECT_V2
from mmcl.trainer.backbones.bodies import bodies_of, pick_bodies, pool_bodies
from mmcl.trainer.model import SkeletonClassifier, build_model


def network(slots: int = 2) -> SkeletonClassifier:
    """Of no symmetry that could hide a mistake: every entry is random."""
    torch.manual_seed(1)
    model = build_model("ctrgcn", KINECT_V2, bodies=slots, width=8, classes=5).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.3, 0.3)
    return model


def clips(counts: Tensor, slots: int = 2) -> Tensor:
    torch.manual_seed(2)
    x = torch.randn(len(counts), 3, 8, 25, slots, dtype=torch.float64)
    return x * (torch.arange(slots) < counts[:, None])[:, None, None, None]


def after_a_step(model: SkeletonClassifier, x: Tensor, bodies: object) -> list[Tensor]:
    model.train()
    outputs = model(x, bodies)  # type: ignore[arg-type]
    (outputs.scores**2).sum().backward()
    grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return [outputs.feature.detach(), outputs.scores.detach(), *grads, *model.buffers()]


@pytest.mark.parametrize(
    ("counts", "slots", "multiple"),
    [([2, 1, 1, 1], 2, 1), ([1, 1, 1], 2, 1), ([2, 1, 2, 1], 2, 4), ([3, 1, 2, 2], 3, 1), ([1, 2], 3, 5)],
)
def test_a_training_step_is_that_of_the_plain_network(counts: list[int], slots: int, multiple: int):
    there = torch.tensor(counts)
    x, bodies = clips(there, slots), bodies_of(there, slots, "cpu", multiple)
    assert bodies is not None and len(bodies.pick) % multiple == 0
    found, wanted = after_a_step(network(slots), x, bodies), after_a_step(network(slots), x, None)
    assert len(found) == len(wanted) > 100
    for mine, plain in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-6, atol=1e-6 * float(plain.abs().max()) + 1e-9)


def test_evaluation_is_that_of_the_plain_network():
    there, model = torch.tensor([1, 2, 1]), network().eval()
    torch.testing.assert_close(model(clips(there), bodies_of(there, 2, "cpu")).scores, model(clips(there)).scores)


def test_rows_are_the_real_bodies_and_one_for_each_slot_that_is_empty_somewhere():
    bodies = bodies_of(torch.tensor([1, 2, 1, 1]), 2, "cpu")
    assert bodies is not None
    assert bodies.pick.tolist() == [0, 2, 3, 4, 6, 1] and bodies.weight.tolist() == [1, 1, 1, 1, 1, 3]
    assert bodies.back.tolist() == [0, 5, 1, 2, 3, 5, 4, 5]
    filled = bodies_of(torch.tensor([1, 2, 1, 1]), 2, "cpu", multiple=4)
    assert filled is not None and filled.weight.tolist() == [1, 1, 1, 1, 1, 3, 0, 0]


def test_nothing_is_saved_where_all_slots_are_full():
    assert bodies_of(torch.tensor([2, 2]), 2, "cpu") is None and bodies_of(torch.tensor([1, 1]), 1, "cpu") is None
    x = torch.randn(4, 3)
    assert pick_bodies(x, None) is x
    torch.testing.assert_close(pool_bodies(x, 2, None), x.view(2, 2, 3).mean(1))


def test_a_network_of_one_body_needs_none():
    model = build_model("ctrgcn", KINECT_V1, bodies=1, width=8, classes=3).eval()
    assert model(torch.zeros(2, 3, 16, 20, 1)).scores.shape == (2, 3)


def test_a_single_row_trains():
    """One clip of one body a process: its parts are views of each other, which nothing may write into."""
    model = build_model("ctrgcn", KINECT_V1, bodies=1, width=8, classes=3).train()
    model(torch.randn(1, 3, 16, 20, 1)).scores.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
