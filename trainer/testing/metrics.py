"""What scores are worth: top-1, top-5, mean class accuracy, each with its interval; a table a class; the confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

TOP = 5  # with no more classes than that, top-5 is right whatever was scored
RESAMPLES, SEED = 10_000, 0
LEVEL = 0.95
HOW = f"{LEVEL:.0%} intervals: bootstrap over the test clips, {RESAMPLES:,} resamples"


class Interval(NamedTuple):
    """Where 95% of the resamples lie; as what it is the interval of."""

    low: float
    high: float


@dataclass(frozen=True)
class Metrics:
    """Accuracies are shares in [0, 1]; `confusion[i, j]` counts clips of class i that were called class j.

    The intervals say how far the numbers would move with other clips of the same people and the same network.
    """

    clips: int
    top1: float
    top5: float
    mean_class: float
    chance: float
    confusion: np.ndarray
    top1_interval: Interval
    top5_interval: Interval
    mean_class_interval: Interval


@dataclass(frozen=True)
class ClassLine:
    """One class: its clips, the share called right, and what it is most often called instead."""

    name: str
    clips: int
    accuracy: float
    mistaken_for: str
    mistakes: int


class Pair(NamedTuple):
    """Clips of class `true` that were called `called`; `share` is of all clips of class `true`."""

    true: str
    called: str
    clips: int
    share: float


def measure(scores: np.ndarray, labels: np.ndarray) -> Metrics:
    """Metrics of scores [n, K] against labels [n]; classes without a clip don't count in the mean over classes."""
    classes = scores.shape[1]
    called, own = scores.argmax(1), scores[np.arange(len(labels)), labels][:, None]
    confusion = np.bincount(labels * classes + called, minlength=classes**2).reshape(classes, classes)
    clips = confusion.sum(1)
    ahead = (scores > own) | ((scores == own) & (np.arange(classes) < labels[:, None]))  # of equal scores the first
    first, among = called == labels, ahead.sum(1) < TOP
    top1, top5, mean_class = _intervals(labels, first, among, classes)
    return Metrics(
        clips=len(labels),
        top1=float(first.mean()),
        top5=float(among.mean()),
        mean_class=float((confusion.diagonal()[clips > 0] / clips[clips > 0]).mean()),
        chance=float(clips.max() / clips.sum()),
        confusion=confusion,
        top1_interval=top1,
        top5_interval=top5,
        mean_class_interval=mean_class,
    )


def _intervals(labels: np.ndarray, first: np.ndarray, among: np.ndarray, classes: int) -> tuple[Interval, ...]:
    """Of top-1, top-5 and mean class accuracy, from one set of resamples.

    A clip counts only by its class and by where its class came, so a resample of clips is one draw of how many clips
    fall into each cell (class, outcome): multinomial, exactly, whatever the number of clips.
    """
    outcome = np.where(first, 2, np.where(among, 1, 0))
    cells = np.bincount(labels * 3 + outcome, minlength=3 * classes).reshape(classes, 3)
    cells = cells[cells.any(1)]
    drawn = resampled(cells.ravel()).reshape(RESAMPLES, len(cells), 3)
    clips, right = drawn.sum(2), drawn[:, :, 2]
    there = clips > 0  # a class that a resample lacks does not count in its mean, as in `measure`
    mean_class = np.divide(right, clips, out=np.zeros(clips.shape), where=there).sum(1) / there.sum(1)
    total = len(labels)
    return (
        interval_of(right.sum(1) / total),
        interval_of(drawn[:, :, 1:].sum((1, 2)) / total),
        interval_of(mean_class),
    )


def resampled(counts: np.ndarray) -> np.ndarray:
    """Counts [cells] of as many clips drawn with replacement: [RESAMPLES, cells], the same every time."""
    total = counts.sum()
    return np.random.default_rng(SEED).multinomial(total, counts / total, size=RESAMPLES)


def interval_of(values: np.ndarray) -> Interval:
    """The middle 95% of resampled values."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def per_class(metrics: Metrics, classes: tuple[str, ...]) -> list[ClassLine]:
    """A line a class that has clips, in the order of the labels."""
    lines = []
    for label, row in enumerate(metrics.confusion):
        wrong = np.where(np.arange(len(row)) == label, 0, row)
        if row.sum():
            other = classes[int(wrong.argmax())] if wrong.any() else ""
            lines.append(
                ClassLine(classes[label], int(row.sum()), float(row[label] / row.sum()), other, int(wrong.max()))
            )
    return lines


def confused_pairs(metrics: Metrics, classes: Sequence[str], most: int = 20) -> list[Pair]:
    """The classes most often taken for another, by clips, then by share; none where nothing was confused."""
    wrong, clips = metrics.confusion.copy(), metrics.confusion.sum(1)
    np.fill_diagonal(wrong, 0)
    true, called = np.nonzero(wrong)
    counts = wrong[true, called]
    shares = counts / clips[true]
    first = np.lexsort((-shares, -counts))[:most]
    return [Pair(classes[int(true[at])], classes[int(called[at])], int(counts[at]), float(shares[at])) for at in first]
