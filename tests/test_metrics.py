"""Metrics against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from mmcl.trainer.testing.metrics import Pair, confused_pairs, measure, per_class
from mmcl.trainer.testing.notes import sure_note

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


def test_ranks_are_those_of_a_stable_sort_of_whole_numbers_too():
    """Scores with many ties, against an order that is sorted."""
    rng = np.random.default_rng(4)
    scores, labels = rng.integers(0, 3, (400, 12)).astype(np.float32), rng.integers(0, 12, 400)
    order = np.argsort(-scores, axis=1, kind="stable")
    found = measure(scores, labels)
    assert found.top1 == (order[:, 0] == labels).mean()
    assert found.top5 == (order[:, :5] == labels[:, None]).any(1).mean()
    assert found.confusion[3].tolist() == np.bincount(order[labels == 3, 0], minlength=12).tolist()


def made_up(clips: int = 60, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, classes - 1, clips)  # the last class has no clip
    scores = rng.normal(size=(clips, classes)).astype(np.float32)
    scores[np.arange(clips), labels] += 1.5 * (labels % 3 > 0)
    return scores, labels


def test_intervals_are_those_of_a_bootstrap_over_clips():
    """Beside scipy's, which resamples the clips one by one; a class that a resample lacks doesn't count in its mean."""
    scores, labels = made_up()
    first = scores.argmax(1) == labels
    among = (np.argsort(-scores, axis=1)[:, :5] == labels[:, None]).any(1)

    def mean_class(hits: np.ndarray, of: np.ndarray) -> float:
        return float(np.mean([hits[of == label].mean() for label in np.unique(of)]))

    found = measure(scores, labels)
    for interval, data, statistic in (
        (found.top1_interval, (first,), np.mean),
        (found.top5_interval, (among,), np.mean),
        (found.mean_class_interval, (first, labels), mean_class),
    ):
        wanted = bootstrap(
            data, statistic, paired=len(data) > 1, vectorized=False, method="percentile", n_resamples=3000, rng=1
        ).confidence_interval
        assert interval == pytest.approx((wanted.low, wanted.high), abs=0.025)
        assert interval.high - interval.low > 0.1


def test_intervals_are_the_same_every_time_and_hold_the_number_they_are_of():
    scores, labels = made_up()
    found, again = measure(scores, labels), measure(scores, labels)
    assert found.top1_interval == again.top1_interval and found.mean_class_interval == again.mean_class_interval
    assert found.top1_interval.low < found.top1 < found.top1_interval.high
    assert found.mean_class_interval.low < found.mean_class < found.mean_class_interval.high


def test_more_clips_make_the_interval_of_top1_narrower_as_their_square_root():
    scores, labels = made_up()
    once, four = measure(scores, labels), measure(np.tile(scores, (4, 1)), np.tile(labels, 4))
    widths = [found.top1_interval.high - found.top1_interval.low for found in (once, four)]
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.1)


def test_a_result_without_a_mistake_has_no_width_and_says_what_it_is_worth_instead():
    """The rule of three: of 12 clips all right, top-1 is at least 0.05 to the power of 1/12."""
    scores, labels = np.eye(3, dtype=np.float32)[np.arange(12) % 3], np.arange(12) % 3
    found = measure(scores, labels)
    assert found.top1_interval == (1.0, 1.0)
    [note] = sure_note(found)
    assert note == "all 12 clips are right, which a bootstrap can't judge; top-1 is at least 77.9% (95%, binomial)"
    [note] = sure_note(measure(scores, (labels + 1) % 3))
    assert note == "all 12 clips are wrong, which a bootstrap can't judge; top-1 is at most 22.1% (95%, binomial)"
    assert sure_note(measure(scores, np.zeros(12, int))) == []


def test_the_most_confused_pairs_come_first_by_clips_then_by_their_share_of_the_class():
    called = np.array([1, 1, 2, 0, 0, 2, 2, 2])
    labels = np.array([0, 0, 0, 0, 2, 1, 1, 2])
    metrics = measure(np.eye(3, dtype=np.float32)[called], labels)
    assert confused_pairs(metrics, ("a", "b", "c")) == [
        Pair("b", "c", 2, 1.0),
        Pair("a", "b", 2, 0.5),
        Pair("c", "a", 1, 0.5),
        Pair("a", "c", 1, 0.25),
    ]
    assert confused_pairs(metrics, ("a", "b", "c"), most=1) == [Pair("b", "c", 2, 1.0)]
    assert confused_pairs(measure(np.eye(3, dtype=np.float32), np.arange(3)), ("a", "b", "c")) == []


def test_the_most_confused_of_many_pairs_are_those_of_a_list_that_is_sorted():
    """Of equal clips and shares the first class comes first."""
    rng = np.random.default_rng(5)
    scores, labels = rng.normal(size=(900, 30)).astype(np.float32), rng.integers(0, 30, 900)
    metrics, classes = measure(scores, labels), tuple(f"class {label:02}" for label in range(30))
    clips = metrics.confusion.sum(1)
    pairs = [
        Pair(classes[true], classes[called], int(count), float(count / clips[true]))
        for (true, called), count in np.ndenumerate(metrics.confusion)
        if true != called and count
    ]
    assert confused_pairs(metrics, classes) == sorted(pairs, key=lambda pair: (-pair.clips, -pair.share))[:20]
