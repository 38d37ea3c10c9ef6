"""A matrix as a picture: a dot a seed, the mean, and how far the seeds lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .results import About, Group
from .tables import percent, points

# Okabe and Ito's colours, which differ for all kinds of colour vision
GREY, BLUE, ORANGE, GREEN, RED = "#555555", "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLOURS = {"none": GREY, "FAM": BLUE, "FRM": ORANGE, "both": GREEN}
INK, FAINT = "#222222", "#DDDDDD"
ROW = 0.42  # inches a group
NUMBERS = (14, "left"), (108, "right"), (122, "left")  # the numbers' columns: points to the right of a panel, alignment


def draw_matrix(path: Path, groups: Sequence[Group], about: About) -> None:
    """A panel a stream where there are ablations, else one; a row a group, all on one axis of top-1."""
    panels = _panels([group for group in groups if group.top1_by_seed])
    rows = [max(len(panel), 2) for panel in panels]
    figure = Figure(figsize=(8.6, ROW * sum(rows) + 0.5 * len(panels) + 1.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=rows)[:, 0]
    for ax, panel in zip(axes, panels, strict=True):
        _draw_panel(ax, panel)
    axes[-1].set_xlabel("top-1, %", color=INK, fontsize=9)
    title = f"{about.dataset} {about.split}: top-1 on the test split, skeletons only"
    figure.suptitle(_plain(title), x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    colour = RED if about.select_on_test else GREY
    figure.supxlabel(_plain(_legend(groups, about)), x=0.01, ha="left", fontsize=8, color=colour)
    figure.savefig(path, dpi=160, format="png")


def _panels(groups: Sequence[Group]) -> list[list[Group]]:
    if not any(group.ablation for group in groups):
        return [list(groups)]
    streams = dict.fromkeys(group.stream for group in groups)
    return [[group for group in groups if group.stream == stream] for stream in streams]


def _legend(groups: Sequence[Group], about: About) -> str:
    hollow = ", hollow where features are a control" if any("-" in group.ablation for group in groups) else ""
    return f"dot: a seed{hollow}; line: mean; bar: ± sample deviation. Weights kept: {about.kept}"


def _draw_panel(ax: Axes, groups: Sequence[Group]) -> None:
    for row, group in enumerate(groups):
        _draw_group(ax, row, group)
    _beside(ax, -0.6, _heads(groups), va="bottom", fontsize=8, color=GREY)
    if groups[0].ablation:
        ax.set_title(groups[0].stream, loc="left", fontsize=10, fontweight="bold", color=INK)
        _mark_none(ax, groups)
    ax.set_yticks(range(len(groups)), [_label(group) for group in groups])
    ax.set_ylim(max(len(groups), 2) - 0.4, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    ax.tick_params(length=0, labelsize=9, labelcolor=INK)
    ax.grid(axis="x", color=FAINT, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.margins(x=0.06)
    ax.spines[:].set_visible(False)


def _draw_group(ax: Axes, row: int, group: Group) -> None:
    """Dots (hollow for a control), a line at the mean, a bar one deviation to each side, numbers at the right."""
    top1, (real, _, control) = group.top1, group.ablation.partition("-")
    if top1 is None:
        return
    mean, colour = 100 * top1.mean, COLOURS.get(real, BLUE)
    if top1.deviation is not None:
        ax.barh(row, 200 * top1.deviation, left=mean - 100 * top1.deviation, height=0.36, color=colour, alpha=0.18)
    ax.vlines(mean, row - 0.27, row + 0.27, color=colour, linewidth=2.4)
    values = [100 * value for value in group.top1_by_seed.values()]
    ax.scatter(
        values, _apart(values, row), s=34, facecolor="white" if control else colour, edgecolor=colour, lw=1.4, zorder=3
    )
    _beside(ax, row, (percent(top1), str(top1.n), _versus(group)), va="center", fontsize=9, color=INK)


def _beside(ax: Axes, row: float, cells: Sequence[str], **style: Any) -> None:
    for (x, side), said in zip(NUMBERS, cells, strict=True):
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "annotation_clip": False}
        ax.annotate(said, (1, row), (x, 0), ha=side, **place, **style)


def _heads(groups: Sequence[Group]) -> tuple[str, str, str]:
    return "mean ± dev.", "n", "minus none" if any(group.versus_none for group in groups) else ""


def _versus(group: Group) -> str:
    return points(group.versus_none) if group.versus_none else ""


def _apart(values: Sequence[float], row: int) -> list[float]:
    """Heights that keep dots of the same value from hiding one another: in the row, then above and below it."""
    seen: dict[float, int] = {}
    heights = []
    for value in values:
        again = seen[value] = seen.get(value, -1) + 1
        heights.append(row + (again + 1) // 2 * 0.15 * (-1) ** again)
    return heights


def _mark_none(ax: Axes, groups: Sequence[Group]) -> None:
    """A line at the mean without co-learning, against which the others are read."""
    for group in groups:
        if group.ablation == "none" and group.top1:
            ax.axvline(100 * group.top1.mean, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=0.5)


def _label(group: Group) -> str:
    real, _, control = group.ablation.partition("-")
    return f"{real}, {control} features" if control else real or group.stream


def _plain(text: str) -> str:
    """Dollar signs as they are, not as the ends of a formula."""
    return text.replace("$", r"\$")
