"""Two sets of scores of the same clips: McNemar's exact test, the interval of the difference, gains by class."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from scipy.stats import bootstrap

from mmcl.trainer.testing.metrics import measure
from mmcl.trainer.testing.paired import Gain, Paired, gains, mcnemar, p_text, paired_line, right


def hits(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Which clips two networks have right: so many both, only the first, only the second, neither."""
    cells = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * neither
    shuffled = np.random.default_rng(0).permutation(np.array(cells))
    return shuffled[:, 0], shuffled[:, 1]


@pytest.mark.parametrize(("first", "second"), [(2, 9), (9, 2), (5, 5), (0, 4), (1, 0), (30, 12)])
def test_mcnemar_is_the_two_sided_binomial_sum_over_the_clips_they_differ_on(first: int, second: int):
    """The formula as textbooks print it: twice the smaller tail of a fair coin, 1 at most."""
    differ, fewer = first + second, min(first, second)
    wanted = min(1.0, 2 * sum(comb(differ, k) for k in range(fewer + 1)) / 2**differ)
    found = mcnemar(*hits(20, first, second, 10))
    assert found.p_value == pytest.approx(wanted)
    assert (found.clips, found.only_first, found.only_second) == (30 + differ, first, second)
    assert found.difference == pytest.approx((second - first) / found.clips)


def test_two_that_never_differ_are_equal_for_sure_on_these_clips():
    assert mcnemar(*hits(20, 0, 0, 10)) == Paired(30, 0, 0, 0.0, (0.0, 0.0), 1.0)


def test_the_interval_of_the_difference_is_that_of_a_bootstrap_over_pairs():
    first, second = hits(60, 8, 20, 12)
    found = mcnemar(first, second)
    wanted = bootstrap(
        (first, second),
        lambda one, other: other.mean() - one.mean(),
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=3000,
        rng=2,
    ).confidence_interval
    assert found.interval == pytest.approx((wanted.low, wanted.high), abs=0.02)


def test_the_same_accuracies_paired_otherwise_are_another_matter():
    """60 and 66 of 100: 6 clips gained and none lost is something; 40 gained and 34 lost is nothing."""
    assert mcnemar(*hits(60, 0, 6, 34)).p_value < 0.05
    assert mcnemar(*hits(26, 34, 40, 0)).p_value > 0.5


def test_a_difference_in_words():
    wide, sure = mcnemar(*hits(60, 8, 10, 22)), mcnemar(*hits(60, 2, 20, 18))
    assert paired_line(wide).startswith("+2.0 points [")
    assert paired_line(wide).endswith("], McNemar p = 0.81: could be chance")
    assert paired_line(sure).startswith("+18.0 points [+")
    assert paired_line(sure).endswith("], McNemar p < 0.001: more than chance, on these clips")
    assert "-" not in paired_line(sure).split("]")[0]


def test_gains_are_by_class_and_leave_out_classes_without_clips():
    labels = np.array([0, 0, 2, 2, 2, 2])
    first, second = (np.eye(3, dtype=np.float32)[called] for called in ([0, 1, 2, 2, 0, 0], [0, 0, 2, 0, 0, 0]))
    found = gains(measure(first, labels), measure(second, labels), ("a", "b", "c"))
    assert found == [Gain("a", 2, 0.5, 1.0), Gain("c", 4, 0.5, 0.25)]
    assert [line.gain for line in found] == [0.5, -0.25]
    assert right(first, labels).tolist() == [True, False, True, True, False, False]


def test_a_difference_that_was_chosen_on_the_clips_has_no_verdict():
    """A p-value would say of weights that were fitted to these clips what is said of any others."""
    first, second = np.arange(100) < 50, np.arange(100) < 80
    assert "more than chance" in paired_line(mcnemar(first, second))
    chosen = mcnemar(first, second, chosen=True)
    assert paired_line(chosen) == "+30.0 points, CHOSEN ON THESE CLIPS: no test says what that is worth"
    assert p_text(chosen) == "no test"
