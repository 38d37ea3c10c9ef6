"""The learning rate: warm-up, steps, cosine, and what it is for another batch."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from mmcl.trainer.config import Config
from mmcl.trainer.loop.schedule import base_rate, learning_rate

STEPPED = Config(lr=0.1, warmup=5, milestones=(8, 10))
COSINE = Config(lr=0.1, warmup=2, epochs=10, schedule="cosine")


def rates(config: Config, steps: int) -> list[float]:
    """Of every step of the run."""
    return [learning_rate(config, epoch, step, steps) for epoch in range(config.epochs) for step in range(steps)]


def test_the_rate_warms_up_and_falls_at_each_milestone():
    found = [learning_rate(STEPPED, epoch) for epoch in range(12)]
    assert found == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert learning_rate(replace(STEPPED, warmup=0), 0) == 0.1


def test_in_steps_it_is_the_same_for_a_whole_epoch():
    for epoch in range(12):
        assert {learning_rate(STEPPED, epoch, step, 7) for step in range(7)} == {learning_rate(STEPPED, epoch)}


def test_a_cosine_rises_step_by_step_to_the_rate_and_falls_to_nothing_at_the_end():
    found = rates(COSINE, 5)
    assert found[:10] == pytest.approx([0.01 * step for step in range(1, 11)])
    assert found[10] == pytest.approx(0.1)
    assert all(a > b for a, b in pairwise(found[10:]))
    assert learning_rate(COSINE, 6, 0, 5) == pytest.approx(0.05)  # half of the fall
    assert learning_rate(COSINE, 10, 0, 5) == pytest.approx(0, abs=1e-12)


def test_a_cosine_without_a_warm_up_begins_with_the_rate():
    assert learning_rate(replace(COSINE, warmup=0), 0, 0, 5) == pytest.approx(0.1)


def test_a_run_that_is_all_warm_up_has_a_rate():
    assert max(rates(replace(COSINE, warmup=10), 5)) == pytest.approx(0.1)
    assert max(rates(replace(COSINE, warmup=20), 5)) == pytest.approx(0.05)


@pytest.mark.parametrize(("batch", "wanted"), [(64, 0.1), (200, 0.3125), (16, 0.025)])
def test_the_rate_goes_with_the_batch_where_it_says_for_which_it_was_chosen(batch: int, wanted: float):
    config = Config(lr=0.1, batch=batch, lr_batch=64, warmup=0)
    assert base_rate(config) == pytest.approx(wanted) == learning_rate(config, 0)
    assert base_rate(replace(config, lr_batch=0)) == 0.1
