"""Two sets of scores of the same clips: what is a difference, and what may be chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from .metrics import Interval, Metrics, interval_of, resampled

SURE = 0.05  # a p-value below it is said to be more than chance


class Paired(NamedTuple):
    """How often only one of two was right, of the same clips.

    `difference` is the second's share of right clips less the first's. `p_value` is McNemar's exact test: how likely
    a split of the clips that they disagree on as uneven as this one is, or more so, where both are equally good.
    It is nothing where `chosen` is True: one of the two was fitted to, or chosen on, these very clips.
    """

    clips: int
    only_first: int
    only_second: int
    difference: float
    interval: Interval
    p_value: float
    chosen: bool = False


class Gain(NamedTuple):
    """The share of a class's clips that was right before (the first) and after (the second)."""

    name: str
    clips: int
    before: float
    after: float

    @property
    def gain(self) -> float:
        return self.after - self.before


def mcnemar(first: np.ndarray, second: np.ndarray, *, chosen: bool = False) -> Paired:
    """Two networks on the same clips; `first` and `second` say which clips each had right, bool [n].

    McNemar (1947) in its exact form: a sign test of the clips on which they differ. The interval of the difference is
    a bootstrap over clips.
    """
    clips, only_first, only_second = len(first), int((first & ~second).sum()), int((second & ~first).sum())
    differ = only_first + only_second
    drawn = resampled(np.array([only_first, only_second, clips - differ]))
    return Paired(
        clips,
        only_first,
        only_second,
        (only_second - only_first) / clips,
        interval_of((drawn[:, 1] - drawn[:, 0]) / clips),
        float(binomtest(only_second, differ).pvalue) if differ else 1.0,
        chosen,
    )


def right(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which clips are called right, bool [n]; of equal scores the first class's counts."""
    return scores.argmax(1) == labels


def gains(first: Metrics, second: Metrics, classes: Sequence[str]) -> list[Gain]:
    """A line a class that has clips, in the order of the labels; both metrics are of the same clips."""
    clips = first.confusion.sum(1)
    before, after = (metrics.confusion.diagonal() for metrics in (first, second))
    return [
        Gain(classes[label], int(clips[label]), *(float(found[label] / clips[label]) for found in (before, after)))
        for label in np.flatnonzero(clips).tolist()
    ]


def paired_line(paired: Paired) -> str:
    """Such as `+0.6 points [-0.3, 1.5], McNemar p = 0.21: could be chance`."""
    if paired.chosen:
        return f"{100 * paired.difference:+.1f} points, CHOSEN ON THESE CLIPS: no test says what that is worth"
    low, high = (100 * bound for bound in paired.interval)
    verdict = "more than chance, on these clips" if paired.p_value < SURE else "could be chance"
    return f"{100 * paired.difference:+.1f} points [{low:+.1f}, {high:+.1f}], McNemar {p_text(paired)}: {verdict}"


def p_text(paired: Paired) -> str:
    if paired.chosen:
        return "no test"
    return "p < 0.001" if paired.p_value < 0.001 else f"p = {paired.p_value:.2g}"
