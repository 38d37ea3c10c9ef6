"""The confusion matrix as a picture that can be read at 10 and at 120 classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DPI, MARGIN = 110, 0.1  # the margin in inches
NUMBERED = 60  # classes; a count in each cell of more is hardly read, takes seconds, and confusion.csv has them


def draw_confusion(path: Path, confusion: np.ndarray, classes: tuple[str, ...], title: str) -> None:
    """Rows are true classes, columns what they were called; shades are shares of the row.

    Counts stand in the cells of up to 60 classes.
    """
    size = max(5.0, 0.33 * len(classes) + 2.5)
    figure = Figure(figsize=(size, size))
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ticks, names = np.arange(len(classes)), [_plain(name) for name in classes]
    axes.set_xticks(ticks, names, rotation=90, fontsize=8)
    axes.set_yticks(ticks, names, fontsize=8)
    axes.set_xlabel("called")
    axes.set_ylabel("true")
    axes.set_title(_plain(title), fontsize=9, wrap=True)
    if len(classes) <= NUMBERED:
        _draw_counts(axes, confusion, share)
    figure.dpi = DPI
    box = figure.get_tightbbox(canvas.get_renderer()).padded(MARGIN)  # bbox_inches="tight" finds it by drawing twice
    figure.savefig(path, dpi=DPI, format="png", bbox_inches=box)


def _draw_counts(axes: Axes, confusion: np.ndarray, share: np.ndarray) -> None:
    for row, column in zip(*np.nonzero(confusion), strict=True):
        colour = "w" if share[row, column] > 0.5 else "k"
        count = axes.text(column, row, str(confusion[row, column]), ha="center", va="center", fontsize=7, color=colour)
        count.set_in_layout(False)


def _plain(text: str) -> str:
    """Dollar signs as they are, not as the ends of a formula."""
    return text.replace("$", r"\$")
