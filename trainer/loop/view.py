"""What is seen of a run while it trains: a live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from math import isfinite

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ...cache.words import printable
from ..run import Run
from .checkpoint import EpochMetrics, Watcher

PLAIN_EVERY = 15.0  # seconds between lines where there is no terminal
TICK, TICKS = 0.25, 120  # the rate is that of the last half minute
EPOCHS_SHOWN, OTHER_LINES = 8, 7  # rows of the table, and the lines of the picture that are none
BLOCKS = "▁▂▃▄▅▆▇█"


@contextmanager
def view(console: Console, run: Run) -> Iterator[Watcher]:
    """A Watcher that shows steps and epochs; the terminal is as it was after an error too."""
    if not console.is_terminal:
        yield Lines(console, run)
        return
    picture = Picture(run)
    with Live(picture, console=console, vertical_overflow="crop"):
        yield picture


def epoch_line(line: EpochMetrics, run: Run) -> str:
    """One epoch: rate, losses, top-1 in training and on what chooses the epoch, where something does."""
    parts = ", ".join(f"{name} {value:.3f}" for name, value in _parts(line, run))
    loss = f"loss {line.loss:.3f}{parts and f' ({parts})'}"
    chosen = f"  {_chosen_by(run)} {line.held_out_top1:6.1%}" if line.held_out_top1 >= 0 else ""
    return f"epoch {line.epoch:3d}/{run.config.epochs}  lr {line.lr:.4g}  {loss}  train {line.train_top1:6.1%}{chosen}"


def sparkline(values: list[float], width: int) -> str:
    """Values as a row of blocks, lowest to highest; means of neighbours where there are more than `width`."""
    groups = min(len(values), width)
    edges = [len(values) * group // groups for group in range(groups + 1)] if groups else []
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    finite = [mean for mean in means if isfinite(mean)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((mean - low) * scale)] if isfinite(mean) else " " for mean in means)


class Pace:
    """How far a run is, how fast it went lately, and how long it still takes."""

    def __init__(self, run: Run) -> None:
        self.done = self.total = 0
        self._config = run.config
        self._seen: deque[tuple[float, int]] = deque(maxlen=TICKS)
        self._last = (0.0, 0)

    def step(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        self._last = (time.monotonic(), done)
        if not self._seen or self._last[0] - self._seen[-1][0] > TICK:
            self._seen.append(self._last)

    @property
    def where(self) -> tuple[int, int, int]:
        """The epoch under way, its steps that are done, and the steps of an epoch."""
        steps = max(1, self.total // self._config.epochs)
        epoch = max(0, self.done - 1) // steps
        return epoch + 1, self.done - epoch * steps, steps

    def __str__(self) -> str:
        """Clips a second and time left; what was done before a resume counts for neither."""
        (since, before), (now, done) = self._seen[0] if self._seen else self._last, self._last
        if done == before:
            return "- clips/s"
        rate = (done - before) / max(now - since, 1e-6)
        left = timedelta(seconds=round((self.total - done) / rate))
        return f"{rate * self._config.batch:,.0f} clips/s, {left} left"


class Lines:
    """Plain lines: one an epoch, and in long epochs one every quarter of a minute."""

    def __init__(self, console: Console, run: Run) -> None:
        self._console, self._run, self._pace = console, run, Pace(run)
        self._said = time.monotonic()

    def step(self, done: int, total: int) -> None:
        self._pace.step(done, total)
        epoch, step, steps = self._pace.where
        if step < steps and time.monotonic() - self._said >= PLAIN_EVERY:
            self._say(f"epoch {epoch:3d}/{self._run.config.epochs}: {step}/{steps} steps, {self._pace}")

    def epoch(self, line: EpochMetrics) -> None:
        self._say(f"{epoch_line(line, self._run)}  {line.seconds:.1f} s")

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Picture:
    """What Live draws: the run, the last epochs, the course of the loss, a bar over all steps."""

    def __init__(self, run: Run) -> None:
        self._run, self._pace = run, Pace(run)
        self._lines: list[EpochMetrics] = []

    def step(self, done: int, total: int) -> None:
        self._pace.step(done, total)

    def epoch(self, line: EpochMetrics) -> None:
        self._lines.append(line)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(_title(self._run), style="bold")
        if self._lines:
            yield self._table(max(1, min(EPOCHS_SHOWN, console.height - OTHER_LINES)))
        if len(self._lines) > 1 and not options.ascii_only:
            losses = [line.loss for line in self._lines]
            yield Text(f"loss {sparkline(losses, max(1, options.max_width - 5))}", style="cyan", no_wrap=True)
        yield self._bar()

    def _table(self, rows: int) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for title, _ in _cells(self._lines[-1], self._run):
            table.add_column(title, justify="right", no_wrap=True)
        for line in self._lines[-rows:]:
            table.add_row(*(value for _, value in _cells(line, self._run)))
        return table

    def _bar(self) -> Table:
        epoch, _, _ = self._pace.where
        bar = ProgressBar(total=self._pace.total or None, completed=self._pace.done, pulse=not self._pace.total)
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        grid.add_row(f"epoch {epoch}/{self._run.config.epochs}", bar, str(self._pace))
        return grid


def _title(run: Run) -> str:
    config = run.config
    network = f"{config.backbone}, width {config.width}, batch {config.batch}, seed {config.seed}"
    return printable(f"{run.dataset} {config.split}, {config.stream}: {network}; keeps the {run.selection}")


def _cells(line: EpochMetrics, run: Run) -> list[tuple[str, str]]:
    """The table's columns, titles and values."""
    losses = [("loss", line.loss), *_parts(line, run)]
    cells = [("epoch", str(line.epoch)), ("lr", f"{line.lr:.4g}"), *((name, f"{x:.3f}") for name, x in losses)]
    cells.append(("train", f"{line.train_top1:.1%}"))
    if run.config.validation or run.config.select_on_test:
        cells.append((_chosen_by(run), f"{line.held_out_top1:.1%}"))
    return [*cells, ("seconds", f"{line.seconds:.1f}")]


def _parts(line: EpochMetrics, run: Run) -> list[tuple[str, float]]:
    """The loss in parts, of those heads that the run has; none where it is one part."""
    used = [
        (name, x) for name, x, cache in (("align", line.align, run.rgb), ("refine", line.refine, run.text)) if cache
    ]
    return [("classify", line.classify), *used] if used else []


def _chosen_by(run: Run) -> str:
    return "TEST SET" if run.config.select_on_test else "held out"
