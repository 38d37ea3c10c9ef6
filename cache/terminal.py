"""Where the commands print: plain lines and bars, in colours on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from .words import cell, printable

OnProgress = Callable[[int, int], None]  # done, total
PLAIN_EVERY = 15.0  # seconds between lines where there is no terminal


def new_console(*, quiet: bool = False) -> Console:
    """Where the commands print: in colours on a terminal, in plain lines elsewhere, nowhere if quiet."""
    terminal = _is_terminal(sys.stdout)
    return Console(highlight=False, soft_wrap=not terminal, width=None if terminal else 160, quiet=quiet)


def _is_terminal(stream: TextIO | None) -> bool:
    """A stream that was closed before the command began (`>&-`) is None."""
    return stream is not None and stream.isatty()


def say(console: Console, text: str, style: str | None = None) -> None:
    """One plain line: nothing in a name or a message is taken for markup or for a control character."""
    console.print(printable(text), style=style, markup=False)


class Rate(ProgressColumn):
    """Done a second, over the last while."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.1f}/s" if task.speed else "-/s", style="cyan")


@contextmanager
def bars(console: Console) -> Iterator[Callable[[str], OnProgress]]:
    """Gives `bar(title)`, which gives `progress(done, total)`: bars on a terminal, plain lines elsewhere."""
    if not console.is_terminal:
        yield lambda title: plain(console, title)
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn()
    # rich would print what others write above the bars, and so take it from a file that it was meant for
    out, err = _is_terminal(sys.stdout), _is_terminal(sys.stderr)
    with Progress(*columns, console=console, redirect_stdout=out, redirect_stderr=err) as shown:

        def bar(title: str) -> OnProgress:
            task = shown.add_task(cell(title), total=None)
            return lambda done, total: shown.update(task, completed=done, total=total)

        yield bar


def plain(console: Console, title: str) -> OnProgress:
    """A line at the end, and one every quarter of a minute, with rate and time left."""
    started = last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done and (done == total or now - last > PLAIN_EVERY):
            last, rate = now, done / max(now - started, 1e-6)
            console.print(
                f"{printable(title)}: {done}/{total}, {rate:,.1f}/s, {(total - done) / rate:,.0f} s left", markup=False
            )

    return progress


def error_text(error: Exception) -> str:
    """An error in words: what it says itself, of the system's errors the file and the reason."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return printable(f"{error.filename}: {error.strerror}")
    return printable(str(error))
