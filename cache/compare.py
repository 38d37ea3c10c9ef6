"""Two caches of one data set side by side: how far they agree, clip by clip.

What cannot be known, such as the correlation with a constant, is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import nan

import numpy as np

from .recipe import Recipe
from .skeletons import Skeletons
from .store import Rows, decoded

BLOCK = 2048  # clips whose features are in memory at once
CKA_CLIPS = 1000  # at most so many enter the comparison of spaces, evenly spread
FIRST = ("feature", "prompt_feature")  # these columns come before the others


@dataclass(frozen=True)
class Counts:
    """Clips: in both caches, in one only, failed on each side of those in both, and compared: good in both."""

    both: int
    left_only: int
    right_only: int
    left_failed: int
    right_failed: int
    compared: int


@dataclass(frozen=True)
class Candidate:
    """One answer's probability: its mean on each side, the mean absolute difference, Pearson's correlation."""

    word: str
    left: float
    right: float
    difference: float
    correlation: float


@dataclass(frozen=True)
class Feature:
    """A column of features: dimensions on each side, cosine (mean, 5th percentile; NaN for different dimensions).

    `cka` compares the two spaces whatever their dimensions: linear CKA, unbiased (HSIC_1; Nguyen et al., 2021), 1 for
    spaces that are rotations of each other, 0 on average for unrelated ones.
    """

    column: str
    left: int
    right: int
    cosine: float
    low: float
    cka: float


@dataclass(frozen=True)
class ClassLine:
    """A class: its compared clips, the share that agrees, the first candidate's mean on each side, the mean cosine."""

    name: str
    clips: int
    agreement: float
    left: float
    right: float
    cosine: float


@dataclass(frozen=True)
class Comparison:
    """Two caches of one kind and data set: `answers` is the share of equal answer texts, whatever their case, `choice`
    that of equal likeliest candidates, `mass` the mean total belief in the candidates on each side."""

    left: Recipe
    right: Recipe
    counts: Counts
    answers: float
    choice: float
    mass: tuple[float, float]
    candidates: tuple[Candidate, ...]
    features: tuple[Feature, ...]
    classes: tuple[ClassLine, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Pair:
    """The compared rows: names, and their numbers on each side."""

    left: Rows
    right: Rows
    names: list[str]
    rows: tuple[np.ndarray, ...]
    notes: list[str] = field(default_factory=list)

    def both(self, column: str) -> tuple[np.ndarray, np.ndarray] | None:
        """A fixed column of the compared rows on both sides; None where one has it not."""
        if not all(isinstance(side.columns.get(column), np.ndarray) for side in (self.left, self.right)):
            return None
        return self.left.array(column)[self.rows[0]], self.right.array(column)[self.rows[1]]


def compare(left: Rows, right: Rows, skeletons: Skeletons) -> Comparison:
    """How two caches of features agree; ValueError where they are of two data sets or kinds, or of no features."""
    _refuse_unlike(left.recipe, right.recipe, skeletons.dataset)
    counts, pair = _pair(left, right, skeletons)
    same, chosen, probabilities, candidates = _same_answers(pair), *_candidates(pair)
    features, cosines = _features(pair)
    agreement = same if chosen is None else chosen
    left_mass, right_mass = pair.both("mass") or (None, None)
    first = [side[:, 0] for side in probabilities] if probabilities else [None, None]
    per_clip = (agreement, *first, cosines)
    return Comparison(
        left.recipe,
        right.recipe,
        counts,
        _mean(same),
        _mean(chosen),
        (_mean(left_mass), _mean(right_mass)),
        candidates,
        features,
        tuple(_class_lines(pair.names, per_clip, skeletons)),
        tuple(pair.notes),
    )


def _refuse_unlike(left: Recipe, right: Recipe, dataset: str) -> None:
    for what, found in (("data sets", (left.dataset, right.dataset)), ("kinds", (left.kind, right.kind))):
        if found[0] != found[1]:
            raise ValueError(
                f"{left.key} and {right.key} are of two {what}, {found[0]} and {found[1]}; choose two of one"
            )
    if left.dataset != dataset:
        raise ValueError(f"{left.key} and {right.key} are caches of {left.dataset}, the skeletons are of {dataset}")
    if left.kind == "person-images":
        raise ValueError(f"{left.key} and {right.key} hold person images; compare takes rgb or text features")


def _pair(left: Rows, right: Rows, skeletons: Skeletons) -> tuple[Counts, _Pair]:
    both = [name for name in skeletons.names if name in left.row_of and name in right.row_of]
    good = [name for name in both if name not in left.failures and name not in right.failures]
    rows = tuple(np.array([side.row_of[name] for name in good], int) for side in (left, right))
    counts = Counts(
        both=len(both),
        left_only=len(left.row_of.keys() - right.row_of.keys()),
        right_only=len(right.row_of.keys() - left.row_of.keys()),
        left_failed=sum(name in left.failures for name in both),
        right_failed=sum(name in right.failures for name in both),
        compared=len(good),
    )
    return counts, _Pair(left, right, good, rows)


def _same_answers(pair: _Pair) -> np.ndarray | None:
    texts = pair.both("answer_text")
    if texts is None:
        return None
    said = ([text.strip().casefold() for text in decoded(side)] for side in texts)
    return np.array([a == b for a, b in zip(*said, strict=True)], bool)


def _candidates(
    pair: _Pair,
) -> tuple[np.ndarray | None, tuple[np.ndarray, np.ndarray] | None, tuple[Candidate, ...]]:
    """Whether the likeliest candidate is the same [n], the probabilities of each side [n, C], and a line each."""
    words = [[str(w) for w in side.recipe.settings.get("candidates", ())] for side in (pair.left, pair.right)]
    folded = [[word.casefold() for word in side] for side in words]
    found = pair.both("probabilities")
    if sorted(folded[0]) != sorted(folded[1]):
        pair.notes.append(
            f"candidates differ ({', '.join(words[0]) or '-'}; {', '.join(words[1]) or '-'}): not compared"
        )
        return None, None, ()
    if found is None or not words[0]:
        return None, None, ()
    left, right = found[0].astype(float), found[1][:, [folded[1].index(word) for word in folded[0]]].astype(float)
    lines = [_candidate(word, left[:, at], right[:, at]) for at, word in enumerate(words[0])]
    return left.argmax(1) == right.argmax(1), (left, right), tuple(lines)


def _candidate(word: str, left: np.ndarray, right: np.ndarray) -> Candidate:
    return Candidate(word, _mean(left), _mean(right), _mean(np.abs(left - right)), correlation(left, right))


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Pearson's, of the finite pairs; NaN where a side is constant."""
    known = np.isfinite(left) & np.isfinite(right)
    left, right = left[known], right[known]
    if len(left) < 2 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return nan
    left, right = left - left.mean(), right - right.mean()
    return float(left @ right / np.sqrt((left @ left) * (right @ right)))


def _features(pair: _Pair) -> tuple[tuple[Feature, ...], np.ndarray | None]:
    """A line a column of features, and the cosines [n] of the first column whose dimensions agree."""
    lines, first = [], None
    for column in _feature_columns(pair):
        left, right = pair.left.array(column), pair.right.array(column)
        cosines = _cosines(left, right, pair.rows) if left.shape[1] == right.shape[1] else None
        if cosines is None:
            pair.notes.append(f"{column}: no cosine between {left.shape[1]} and {right.shape[1]} dimensions")
        first = cosines if first is None else first
        chosen = np.unique(np.linspace(0, max(len(pair.names) - 1, 0), CKA_CLIPS).astype(int))[: len(pair.names)]
        space = linear_cka(left[pair.rows[0][chosen]], right[pair.rows[1][chosen]])
        known = np.array([]) if cosines is None else cosines[np.isfinite(cosines)]
        low = float(np.percentile(known, 5)) if len(known) else nan
        lines.append(Feature(column, left.shape[1], right.shape[1], _mean(known), low, space))
    return tuple(lines), first


def _feature_columns(pair: _Pair) -> list[str]:
    sides = [pair.left.columns, pair.right.columns]
    shared = [name for name in sides[0] if name in sides[1] and name != "probabilities"]
    fixed = [name for name in shared if all(_is_feature(side[name]) for side in sides)]
    return sorted(fixed, key=lambda name: (name not in FIRST, name))


def _is_feature(column: object) -> bool:
    return isinstance(column, np.ndarray) and column.ndim == 2 and column.dtype.kind == "f"


def _cosines(left: np.ndarray, right: np.ndarray, rows: tuple[np.ndarray, ...]) -> np.ndarray:
    """[n]; NaN where a side is zero."""
    cosines = np.full(len(rows[0]), nan)
    for start in range(0, len(cosines), BLOCK):
        block = slice(start, start + BLOCK)
        a, b = left[rows[0][block]].astype(float), right[rows[1][block]].astype(float)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        np.divide((a * b).sum(1), norms, out=cosines[block], where=norms > 0)
    return cosines


def linear_cka(left: np.ndarray, right: np.ndarray) -> float:
    """Linear CKA of features [n, D] and [n, E] by the unbiased HSIC_1; NaN for fewer than 4 rows or constant ones."""
    kernels = [_kernel(side.astype(float)) for side in (left, right)]
    if len(left) < 4 or any(kernel is None for kernel in kernels):
        return nan
    k, l = (kernel for kernel in kernels if kernel is not None)  # noqa: E741
    scale = _hsic(k, k) * _hsic(l, l)
    return _hsic(k, l) / scale**0.5 if scale > 0 else nan


def _kernel(features: np.ndarray) -> np.ndarray | None:
    """Inner products [n, n] with an empty diagonal; None where the rows are all alike, or not finite."""
    largest = np.abs(features).max(initial=0)
    if not np.isfinite(largest) or not len(features) or np.ptp(features, axis=0).max(initial=0) <= 1e-6 * largest:
        return None
    centred = (features - features.mean(0)) / largest
    kernel = centred @ centred.T
    np.fill_diagonal(kernel, 0)
    return kernel


def _hsic(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    n = len(k)
    middle = k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 * k.sum(0) @ l.sum(0) / (n - 2)
    return float(((k * l).sum() + middle) / (n * (n - 3)))


def _class_lines(
    names: Sequence[str], per_clip: Sequence[np.ndarray | None], skeletons: Skeletons
) -> Iterator[ClassLine]:
    label_of = dict(zip(skeletons.names, skeletons.labels.tolist(), strict=True))
    labels = np.array([label_of[name] for name in names], int)
    for label, name in enumerate(skeletons.classes):
        mine = labels == label
        means = (_mean(None if values is None else values[mine]) for values in per_clip)
        yield ClassLine(name, int(mine.sum()), *means)


def _mean(values: np.ndarray | None) -> float:
    """Of the finite values; NaN where there are none."""
    known = np.array([]) if values is None else values[np.isfinite(values)]
    return float(known.mean(dtype=float)) if len(known) else nan
