"""What scores are worth: top-1, top-5, mean class accuracy, a table a class, a confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Metrics:
    """Accuracies are shares in [0, 1]; `confusion[i, j]` counts clips of class i that were called class j."""

    clips: int
    top1: float
    top5: float
    mean_class: float
    chance: float
    confusion: np.ndarray


@dataclass(frozen=True)
class ClassLine:
    """One class: its clips, the share called right, and what it is most often called instead."""

    name: str
    clips: int
    accuracy: float
    mistaken_for: str
    mistakes: int


def measure(scores: np.ndarray, labels: np.ndarray) -> Metrics:
    """Metrics of scores [n, K] against labels [n]; classes without a clip don't count in the mean over classes."""
    classes = scores.shape[1]
    order = np.argsort(-scores, axis=1, kind="stable")
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, order[:, 0]), 1)
    clips = confusion.sum(1)
    return Metrics(
        clips=len(labels),
        top1=float((order[:, 0] == labels).mean()),
        top5=float((order[:, :5] == labels[:, None]).any(1).mean()),
        mean_class=float((confusion.diagonal()[clips > 0] / clips[clips > 0]).mean()),
        chance=float(clips.max() / clips.sum()),
        confusion=confusion,
    )


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
