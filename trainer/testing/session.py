"""One call of `mmcl evaluate`: every entry tested, shown, and put beside the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from ...cache.skeletons import Skeletons
from ...cache.terminal import OnProgress, bars, new_console, say
from ..loop.checkpoint import load_model
from ..loop.device import find_device
from ..run import Run, read_run
from .asked import Asked, asked_for
from .compare import Comparison, compare
from .compare_files import refuse_foreign, refuse_place, write_comparison
from .ensemble import Ensemble, ensembles_of, refuse_choice, refuse_members
from .entries import Entry, Files, Member, entries_of, member_of_run
from .evaluate import Evaluation, evaluate, evaluate_with_text, read_data
from .fitting import held_out_scores
from .others import read_score_file
from .paired import mcnemar, paired_line, right
from .scores import refuse_difference
from .speed import Speed, measure_speed, speed_lines, speed_table
from .tables import (
    class_table,
    comparison_table,
    ensemble_table,
    gains_table,
    group_table,
    paired_lines,
    pairs_table,
    result_line,
    result_table,
)
from .with_text import refuse_no_heads

MANY = 10_000_000  # scores; to compare more takes seconds, so that a bar is shown
SHOWN_LINES = 8  # comparisons in words; all are in the table


@dataclass(frozen=True)
class Wish:
    """What a command asks for beside its entries; `ensemble` is what --ensemble says, ON_TEST, or None."""

    data: Path | None = None
    out: Path | None = None
    ensemble: str | None = None
    speed: bool = False
    with_text: bool = False


def evaluate_all(entries: Sequence[Path], wish: Wish) -> list[Evaluation]:
    """Every run tested and shown; where there are several entries, or a score file, all of them compared.

    Raises ValueError or FileNotFoundError for what can't be tested or compared, as far as that can be known before the
    first run is tested.
    """
    asked = asked_for(entries)
    files = {path: read_score_file(path) for path in asked.files}
    session = _Session(wish, asked, files, new_console(), {})
    compared = bool(asked.files or len(asked.paths) > 1 or wish.ensemble or wish.out)
    session.check(compared)
    results = session.test(alone=not compared)
    if compared:
        session.compare(results)
    elif wish.with_text:
        session.with_text(asked.runs[0], results[0])
    return results


class _Tested(NamedTuple):
    """A run's folder, what its test gave, what it costs where that was asked for, and where its report is."""

    folder: Path
    result: Evaluation
    speed: Speed | None
    report: Path


@dataclass(frozen=True)
class _Session:
    """What one command was asked for, where it prints, and the data sets that it has read, by their folder."""

    wish: Wish
    asked: Asked
    files: Files
    console: Console
    read: dict[Path, Skeletons]

    @property
    def out(self) -> Path:
        return self.wish.out or self.asked.out()

    def check(self, compared: bool) -> None:
        """What is wrong with the words, said before the first run is tested."""
        runs = {path: read_run(path) for path in self.asked.runs}
        if self.wish.with_text and (compared or len(runs) != 1):
            raise ValueError("--with-text: refines the scores of one run; give one, and no --ensemble or --out")
        if self.wish.speed and not runs:
            raise ValueError("--speed: measures networks; give a run")
        for path, run in runs.items():
            if self.wish.with_text:
                refuse_no_heads(path, run)
            if (place := path / "evaluation").exists() and not place.is_dir():
                raise ValueError(f"{place}: a file, where the evaluation's folder goes; move it away")
        if compared:
            _refuse_others(runs)
            refuse_place(self.out)
            refuse_foreign(self.out)
        if self.wish.ensemble:
            refuse_choice(self.wish.ensemble, len(self.asked.paths))
            refuse_members(self.wish.ensemble, [self._member(path, runs) for path in self.asked.paths])

    def _member(self, path: Path, runs: Mapping[Path, Run]) -> Member:
        title = self.asked.titles[path]
        return member_of_run(title, runs[path]) if path in runs else Member(title, self.files[path].about, None)

    def skeletons_of(self, run: Run) -> Skeletons:
        """The data set of a run, read once."""
        folder = self.wish.data or Path(run.data)
        if folder not in self.read:
            self.read[folder] = read_data(run, self.wish.data)
        return self.read[folder]

    def test(self, *, alone: bool) -> list[Evaluation]:
        """Each run's evaluation, written with its report and shown: all of it, or a line where it is one of several."""
        for note in self.asked.notes:
            say(self.console, note)
        runs, tested = self.asked.runs, list[_Tested]()
        with bars(self.console) as bar:
            clips = bar("test clips") if alone else _silent
            every = bar("runs tested") if len(runs) > 1 else _silent
            for number, folder in enumerate(runs, 1):
                tested.append(self._test(folder, clips))
                every(number, len(runs))
        for one in tested:
            self._show(one, alone=alone)
        return [one.result for one in tested]

    def _test(self, folder: Path, progress: OnProgress) -> _Tested:
        from ..reporting.report import write_run_report  # which draws what is measured here

        run = read_run(folder)
        skeletons = self.skeletons_of(run)
        result = evaluate(folder, self.wish.data, progress, skeletons=skeletons)
        speed = measure_speed(run, load_model(folder, run), folder, find_device()) if self.wish.speed else None
        return _Tested(folder, result, speed, write_run_report(result, skeletons, folder, speed, self.wish.data))

    def _show(self, one: _Tested, *, alone: bool) -> None:
        result, classes = one.result, one.result.run.classes
        if alone:
            for table in (class_table(result), pairs_table(result.metrics, classes), result_table(result)):
                self.console.print(table)
        else:
            say(self.console, f"{result_line(result, self.asked.titles[one.folder])}; written: {result.folder}")
        if one.speed:
            self.console.print(speed_table(one.speed))
            for line in speed_lines(one.speed):
                say(self.console, line)
        if alone:
            for line in (*result.notes, f"written: {result.folder}", f"report: {one.report}"):
                say(self.console, line)

    def with_text(self, folder: Path, only: Evaluation) -> None:
        """The same run with the LLM's text features at test time, beside what it was without."""
        from ..reporting.report import write_run_report

        data = self.wish.data or Path(only.run.data)
        skeletons = self.skeletons_of(only.run)
        result = evaluate_with_text(folder, skeletons, only, data)
        for table in (class_table(result), result_table(result)):
            self.console.print(table)
        hits = [right(one.scores.values, one.scores.labels) for one in (only, result)]
        for note in (*result.notes, f"top-1 minus that on skeletons only: {paired_line(mcnemar(*hits))}"):
            say(self.console, note)
        report = write_run_report(result, skeletons, folder, None, self.wish.data)
        say(self.console, f"written: {result.folder}\nreport: {report}")

    def compare(self, results: Sequence[Evaluation]) -> None:
        """All entries side by side, written and shown."""
        from ..reporting.report import write_comparison_report  # which draws what is compared here

        by_path = {result.folder.parent: result for result in results}
        tested = [by_path.get(path, path) for path in self.asked.paths]
        scores = sum(len(one.names) * one.values.shape[1] for one in self.files.values())
        scores += sum(result.scores.values.size for result in results)
        with bars(self.console) as bar:
            progress = bar("entries compared") if scores > MANY else _silent
            entries = entries_of(tested, self.files, self.asked.titles, progress)
        found = compare(entries, self._ensembles(entries), self.out, self.asked.notes)
        report = write_comparison(found, write_comparison_report)
        show_comparison(self.console, found)
        say(self.console, f"written: {found.folder}\nreport: {report}")

    def _ensembles(self, entries: Sequence[Entry]) -> tuple[Ensemble, ...]:
        if not self.wish.ensemble:
            return ()
        with bars(self.console) as bar:
            progress = bar("held-out clips") if self.wish.ensemble == "validation" else _silent
            held_out = partial(held_out_scores, skeletons_of=self.skeletons_of, progress=progress)
            many = sum(entry.scores.values.size for entry in entries) > MANY
            return ensembles_of(entries, self.wish.ensemble, held_out, bar("ensembles") if many else _silent)


def show_comparison(console: Console, found: Comparison) -> None:
    """The tables of a comparison, and what to know beside them."""
    first = found.entries[0]
    tables = [pairs_table(first.metrics, found.classes, first.title), comparison_table(found)]
    if found.gains:
        tables.insert(0, gains_table(found))
    if found.ensembles:
        tables.append(ensemble_table(found.ensembles))
    if found.groups:
        tables.append(group_table(found.groups, len(found.classes)))
    for table in tables:
        console.print(table)
    for line in (*paired_lines(found)[:SHOWN_LINES], *found.notes):
        say(console, line)


def _refuse_others(runs: dict[Path, Run]) -> None:
    """ValueError where runs don't know the same classes or split: known before any of them is tested."""
    like = next(iter(runs.values()), None)
    for path, run in runs.items():
        if like and run.config.split != like.config.split:
            here, there = run.config.split, like.config.split
            raise ValueError(f"{path}: split {here}, beside {next(iter(runs))} of {there}; only the same clips compare")
        try:
            refuse_difference("classes", run.classes, like.classes if like else ())
        except ValueError as error:
            raise ValueError(f"{path}: beside {next(iter(runs))}, {error}") from error


def _silent(done: int, total: int) -> None:
    pass
