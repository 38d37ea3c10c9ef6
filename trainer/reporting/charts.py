"""metrics.csv as charts: the parts of the loss, and top-1, epoch by epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .content import Chart, Line, Mark

WIDTH, HEIGHT = 320, 150  # of a chart's drawing; its labels stand outside
LARGEST = 1e9  # of a loss, an epoch, a rate; beyond it a line breaks
POINTS = 400  # of a line, at most
PARTS = {
    "loss": "loss",
    "classify": "classification loss",
    "align": "alignment loss (FAM)",
    "refine": "refinement loss (FRM)",
}
TOP1 = ("train_top1", "held_out_top1")
NO_VALUE = -1.0  # what metrics.csv holds where nothing was held out


class Series(NamedTuple):
    """A column over epochs; NaN where it has no number."""

    name: str
    kind: str
    values: list[float]


class Form(NamedTuple):
    """How numbers are written: those of the axis, and those in words."""

    tick: str
    value: str


PLAIN, PERCENT = Form("g", ".3g"), Form(".0%", ".1%")


class Axis(NamedTuple):
    """From the epochs to the drawing's x, and what all charts mark on it."""

    epochs: list[float]
    falls: tuple[Mark, ...]
    kept: float | None

    def x(self, epoch: float) -> float:
        low, high = self.epochs[0], self.epochs[-1]
        return WIDTH * (epoch - low) / max(high - low, 1)


def read_metrics(path: Path) -> dict[str, list[float]]:
    """The columns of metrics.csv as numbers, NaN where there is none; empty where the file is not there or not one."""
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            lines = [line for line in csv.DictReader(file) if math.isfinite(_number(line.get("epoch")))]
    except (OSError, csv.Error):
        return {}
    names = ("epoch", "lr", "seconds", *PARTS, *TOP1)
    return {name: [_number(line.get(name)) for line in lines] for name in names} if lines else {}


def _number(text: str | None) -> float:
    """NaN too where the number is larger than any that can be drawn."""
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    return value if abs(value) <= LARGEST else math.nan


def charts_of(metrics: Mapping[str, list[float]], kept: float | None, held_out: str) -> tuple[Chart, ...]:
    """A chart for each part of the loss that was there, and one for top-1.

    `kept` is the epoch whose weights were, `held_out` says what clips those are that were looked at each epoch.
    """
    if not metrics:
        return ()
    epochs = metrics["epoch"]
    axis = Axis(epochs, _falls(epochs, metrics["lr"]), kept)
    losses = [chart for name, title in PARTS.items() if (chart := _loss(title, metrics[name], axis))]
    if len(losses) == 2:  # without teachers the loss is the classification loss
        del losses[0]
    lines = [Series("training clips", "first", metrics["train_top1"])]
    lines.append(Series(held_out, "second", _shares(metrics["held_out_top1"])))
    shown = [line for line in lines if _finite(line.values)]
    return (*losses, _chart("top-1", shown, axis, (0.0, 1.0), PERCENT)) if shown else tuple(losses)


def _loss(title: str, values: list[float], axis: Axis) -> Chart | None:
    found = _finite(values)
    if not found or not any(found):
        return None
    return _chart(title, [Series(title, "first", values)], axis, (min(0.0, *found), max(found)), PLAIN)


def _shares(values: Sequence[float]) -> list[float]:
    return [math.nan if value == NO_VALUE else value for value in values]


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _falls(epochs: Sequence[float], rates: Sequence[float]) -> tuple[Mark, ...]:
    """Where the learning rate falls to less than half at once."""
    steps = zip(epochs[1:], rates, rates[1:], strict=False)
    return tuple(Mark(epoch, f"lr {after:.2g}") for epoch, before, after in steps if after < before / 2)


def _chart(title: str, series: Sequence[Series], axis: Axis, span: tuple[float, float], form: Form) -> Chart:
    ticks = nice_ticks(*span)
    low, high = min(span[0], ticks[0]), max(span[1], ticks[-1])
    lines = tuple(Line(one.name, one.kind, _path(one.values, axis, (low, high))) for one in series)
    up = tuple(Mark(_y(tick, (low, high)), format(tick, form.tick)) for tick in ticks)
    falls = tuple(Mark(axis.x(at), text) for at, text in axis.falls)
    kept = None if axis.kept is None else axis.x(axis.kept)
    return Chart(title, lines, _across(axis), up, falls, kept, _said(title, series, axis, form))


def nice_ticks(low: float, high: float) -> list[float]:
    """About four round numbers that span `low` to `high`."""
    rough = max(high - low, 1e-9) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _across(axis: Axis) -> tuple[Mark, ...]:
    low, high = axis.epochs[0], axis.epochs[-1]
    inner = [tick for tick in nice_ticks(low, high) if low < tick < high - 0.08 * (high - low)]
    ticks = [low, *(tick for tick in inner if tick - low > 0.08 * (high - low) and tick == int(tick)), high]
    return tuple(Mark(axis.x(tick), f"{tick:g}") for tick in dict.fromkeys(ticks))


def _y(value: float, span: tuple[float, float]) -> float:
    return round(HEIGHT * (1 - (value - span[0]) / max(span[1] - span[0], 1e-12)), 1)


def _path(values: Sequence[float], axis: Axis, span: tuple[float, float]) -> str:
    """An SVG path, broken where a number is missing; of very long trainings every k-th epoch."""
    step, words, broken = math.ceil(len(values) / POINTS), list[str](), True
    for epoch, value in list(zip(axis.epochs, values, strict=True))[::step]:
        if math.isfinite(value):
            words.append(f"{'M' if broken else 'L'}{axis.x(epoch):.1f} {_y(value, span)}")
        broken = not math.isfinite(value)
    return "".join(words)


def _said(title: str, series: Sequence[Series], axis: Axis, form: Form) -> str:
    """The chart in words, for who can't see it."""
    parts = []
    for one in series:
        first, *_, last = [*_finite(one.values), *_finite(one.values)]
        name = "" if one.name == title else f"{one.name} "
        parts.append(f"{name}from {first:{form.value}} to {last:{form.value}}")
    return f"{title} over {len(axis.epochs)} epochs: {', '.join(parts)}"
