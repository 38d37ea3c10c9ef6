"""A confusion matrix that can be read at 10 and at 120 classes: its cells, their shades, and orders of its classes."""

from __future__ import annotations

import math

import numpy as np

from .content import Cell, Matrix

SHADES = 8
LARGEST, SMALLEST, ROOM = 46, 15, 720  # pixels of a cell; of a matrix where its cells are between the two
LABELLED, TOGETHER, WORST = "as labelled", "most confused side by side", "worst first"


def matrix_of(confusion: np.ndarray, classes: tuple[str, ...]) -> Matrix:
    """The matrix of counts int [K, K], row by row: true classes in rows, what they were called in columns."""
    clips = confusion.sum(1)
    share = confusion / np.maximum(clips[:, None], 1)
    cells = tuple(
        Cell(column, row, shade(share[row, column], right=row == column), row == column, int(confusion[row, column]))
        for row, column in zip(*(axis.tolist() for axis in np.nonzero(confusion)), strict=True)
    )
    size = min(max(ROOM // len(classes), SMALLEST), LARGEST)
    return Matrix(classes, tuple(clips.tolist()), cells, orders(share, clips), size)


def shade(share: float, *, right: bool) -> int:
    """1 to 8; of mistakes by the square root, so that one in a hundred is seen beside one in two."""
    return max(1, math.ceil(SHADES * (share if right else math.sqrt(share)) - 1e-9))


def orders(share: np.ndarray, clips: np.ndarray) -> dict[str, tuple[int, ...]]:
    """The classes as they are labelled, with those that are confused beside each other, and worst first."""
    worst = np.lexsort((share.diagonal(), clips == 0))
    found = {LABELLED: range(len(share)), TOGETHER: together(share), WORST: worst.tolist()}
    return {name: tuple(order) for name, order in found.items()}


def together(share: np.ndarray) -> list[int]:
    """An order in which classes that are confused are neighbours: the leaves of an average-linkage tree."""
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    if len(share) < 3:
        return list(range(len(share)))
    distance = 1 - np.clip((share + share.T) / 2, 0, 1)
    np.fill_diagonal(distance, 0)
    condensed = squareform(distance, checks=False)
    return leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed)).tolist()
