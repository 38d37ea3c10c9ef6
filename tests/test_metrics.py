"""Metrics against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmcl.trainer.testing.metrics import measure, per_class

# six classes, class 5 without a clip; a row's scores fall in the order of the classes given here
RANKED = ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [1, 0, 2, 3, 4, 5], [5, 4, 3, 1, 0, 2], [3, 2, 1, 0, 5, 4])
LABELS = np.array([0, 0, 0, 2, 3])


def scores_of(ranked: tuple[list[int], ...]) -> np.ndarray:
    scores = np.zeros((len(ranked), len(ranked[0])), np.float32)
    for row, order in enumerate(ranked):
        scores[row, order] = -np.arange(len(order))
    return scores


def test_metrics_are_those_worked_out_by_hand():
    """Right: clips 0, 1, 4. Top-5 misses clip 3, whose class comes sixth. Classes: 2 of 3, 0 of 1, 1 of 1."""
    found = measure(scores_of(RANKED), LABELS)
    assert found.clips == 5
    assert found.top1 == pytest.approx(3 / 5)
    assert found.top5 == pytest.approx(4 / 5)
    assert found.mean_class == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert found.chance == pytest.approx(3 / 5)
    wanted = np.zeros((6, 6), int)
    wanted[0, 0], wanted[0, 1], wanted[2, 5], wanted[3, 3] = 2, 1, 1, 1
    np.testing.assert_array_equal(found.confusion, wanted)


def test_a_line_a_class_that_has_clips():
    lines = per_class(measure(scores_of(RANKED), LABELS), tuple("abcdef"))
    found = [(line.name, line.clips, line.accuracy, line.mistaken_for, line.mistakes) for line in lines]
    assert found == [("a", 3, pytest.approx(2 / 3), "b", 1), ("c", 1, 0.0, "f", 1), ("d", 1, 1.0, "", 0)]


def test_with_fewer_than_five_classes_top5_is_all_of_them():
    found = measure(np.array([[0.1, 0.9], [0.8, 0.2]], np.float32), np.array([0, 0]))
    assert (found.top1, found.top5, found.mean_class, found.chance) == (0.5, 1.0, 0.5, 1.0)


def test_ties_go_to_the_first_class():
    assert measure(np.zeros((2, 3), np.float32), np.array([0, 1])).confusion[:, 0].tolist() == [1, 1, 0]
