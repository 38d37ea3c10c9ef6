"""What a network says of clips, as it comes: a table on a terminal, plain lines elsewhere, JSON lines where asked."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from ...cache.terminal import bars, new_console
from ...cache.words import cell, printable
from ..data_commands import late
from ..stop import Stopped
from .files import Files, Named, Unread
from .reader import Read
from .reading import Outcome

CLIPS = 64  # of a batch, as in `mmcl evaluate`
BYTES = 1 << 26  # of a batch's joints, beyond which it is not made longer
WAITING = 1024  # files without a clip that are held for one
CLOSED = 128 + signal.SIGPIPE  # the exit code that shells expect of a command whose reader has gone
DIGITS = 6  # of a probability in JSON, those that say something


def batches(outcomes: Iterable[Outcome]) -> Iterator[list[Outcome]]:
    """Stretches of the outcomes with up to 64 clips each, and what could not be read in between."""
    batch, clips, size = list[Outcome](), 0, 0
    for outcome in outcomes:
        batch.append(outcome)
        if isinstance(outcome, Read):
            clips, size = clips + 1, size + outcome.joints.nbytes
        if clips == CLIPS or size > BYTES or len(batch) - clips == WAITING or not clips:
            yield batch
            batch, clips, size = [], 0, 0
    if batch:
        yield batch


def watched(files: Files) -> Iterator[Named]:
    """The files, with a bar on stderr where the answers themselves do not go by on the terminal."""
    console = Console(stderr=True)
    if not console.is_terminal or sys.stdout.isatty():
        yield from files.paths
        return
    with bars(console) as bar:
        progress = late(bar, "files")
        for done, path in enumerate(files.paths, 1):
            yield path
            progress(done, files.total or done)


@dataclass
class Answers:
    """Prints the `top` classes of each clip to stdout, and counts what it prints."""

    classes: Sequence[str]
    top: int
    as_json: bool
    clips: int = 0
    unread: int = 0
    noted: int = 0
    _console: Console = field(default_factory=new_console)

    def note(self, text: str) -> None:
        """Say something beside the answers, on stderr."""
        if sys.stderr is not None:  # it was closed, and print would take stdout
            print(printable(text), file=sys.stderr, flush=True)

    def show(self, batch: Sequence[Outcome], probabilities: np.ndarray) -> None:
        """Print a batch; probabilities [clips, K] are those of its clips in their order."""
        of_clip = iter(probabilities)
        answers = [self._answer(found, next(of_clip)) if isinstance(found, Read) else (found, []) for found in batch]
        if self._console.is_terminal and not self.as_json:
            self._console.print(self._table(answers))
        else:
            in_words = self._json if self.as_json else self._line
            sys.stdout.write("".join(f"{in_words(found, top)}\n" for found, top in answers))
        sys.stdout.flush()
        for found, _ in answers:
            self.clips += isinstance(found, Read)
            self.unread += isinstance(found, Unread)
            self.noted += isinstance(found, Read) and bool(found.notes)

    @property
    def summary(self) -> str:
        said = f"clips: {self.clips:,}; files or clips that could not be used: {self.unread:,}"
        return said + (f"; odd and taken, with a note: {self.noted:,}" if self.noted else "")

    def _answer(self, found: Read, probabilities: np.ndarray) -> tuple[Outcome, list[tuple[str, float]]]:
        """A clip with its classes, or what it is where the network's numbers overflowed."""
        if np.isfinite(probabilities).all():
            return found, self._top(probabilities)
        reason = f"scores are not finite; joints of up to {np.abs(found.joints).max():.3g}"
        return Unread(found.file, found.clip, reason), []

    def _top(self, probabilities: np.ndarray) -> list[tuple[str, float]]:
        places = np.argsort(-probabilities, kind="stable")[: self.top]
        return [(self.classes[int(place)], float(probabilities[place])) for place in places]

    def _json(self, found: Outcome, top: Sequence[tuple[str, float]]) -> str:
        """One object, ASCII only: a file's name of any bytes comes through, and can't steer a terminal."""
        if isinstance(found, Unread):
            return json.dumps({"file": found.file, "clip": found.clip, "error": found.reason}, allow_nan=False)
        bodies, frames = found.joints.shape[:2]
        about = {"file": found.file, "clip": found.clip, "frames": frames, "bodies": bodies}
        classes = [{"class": name, "probability": float(f"{share:.{DIGITS}g}")} for name, share in top]
        return json.dumps({**about, "top": classes, "notes": list(found.notes)}, allow_nan=False)

    def _line(self, found: Outcome, top: Sequence[tuple[str, float]]) -> str:
        """File, clip and then a class a column, or the error; notes come last, and tabs between all."""
        if isinstance(found, Unread):
            said = [f"error: {found.reason}"]
        else:
            said = [*(_share(*one) for one in top), *(f"note: {note}" for note in found.notes)]
        return "\t".join(" ".join(printable(text).split("\n")) for text in (found.file, found.clip, *said))

    def _table(self, answers: Iterable[tuple[Outcome, Sequence[tuple[str, float]]]]) -> Table:
        """A batch's part of the table: all parts have the same columns, and the first one names them."""
        first = not self.clips + self.unread
        table = Table(box=None, show_header=first, padding=(0, 2, 0, 0))
        width = self._console.width
        table.add_column("clip", width=width * 2 // 5, overflow="fold")
        table.add_column(f"top {min(self.top, len(self.classes))}", width=width - width * 2 // 5 - 4, overflow="fold")
        for found, top in answers:
            table.add_row(cell(_called(found)), _cell(found, top))
        return table


def _cell(found: Outcome, top: Sequence[tuple[str, float]]) -> str:
    """The answer with rich's markup: the first class stands out, errors are red, notes yellow."""
    if isinstance(found, Unread):
        return f"[red]{cell(found.reason)}[/]"
    best, *others = [cell(_share(*one)) for one in top]
    notes = "".join(f"\n[yellow]{cell(note)}[/]" for note in found.notes)
    return ", ".join([f"[bold]{best}[/]", *others]) + notes


def _share(name: str, probability: float) -> str:
    return f"{name} {probability:.1%}"


def _called(found: Outcome) -> str:
    """A file's path, and the clip in it where the path does not say it."""
    return found.file if PurePath(found.file).stem == found.clip or not found.clip else f"{found.file} {found.clip}"


@contextmanager
def until_unwanted(answers: Answers) -> Iterator[None]:
    """A clean end where nobody reads the answers any more (`| head`), or somebody presses Ctrl-C."""
    try:
        yield
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):  # what is left would fail again at the end
            if stream is not None:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise typer.Exit(CLOSED) from None
    except KeyboardInterrupt:
        raise Stopped(f"stopped; {answers.summary}", 128 + signal.SIGINT) from None
