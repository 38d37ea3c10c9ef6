"""What the report of a comparison shows: entries beside each other, each against the first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version

from ..matrix.tables import percent
from ..testing.compare import Comparison, Group
from ..testing.compare_files import GAINS, SUMMARY, TABLE, folder_of
from ..testing.ensemble import ON_TEST, Ensemble
from ..testing.entries import Entry
from ..testing.evaluate import WITH_TEXT
from ..testing.metrics import TOP, confused_pairs
from ..testing.paired import Paired, paired_line
from ..testing.scores import FILE
from .compared import Change, ComparisonContent, EnsembleLine, EntryLine, GainLine, Member, PairsOf, Seeds, Versus
from .content import Link
from .of_run import headlines_of

PAIRS = 10  # of an entry
GRID = 0.05  # of the axis of top-1: its ends are multiples of it
BESIDE = ((SUMMARY, "these numbers, for a program"), (TABLE, "a line an entry"), (GAINS, "gains by class"))
ALARMS = ("WEIGHTS WERE", "EPOCHS WERE")  # what notes begin with that make numbers other than they look
LEAK = "LEAK"


def comparison_content(found: Comparison) -> ComparisonContent:
    """The report of a comparison, from what it holds alone."""
    lines = tuple(_entry(entry, paired) for entry, paired in zip(found.entries, (None, *found.paired), strict=True))
    ensembles = tuple(_ensemble(ensemble) for ensemble in found.ensembles)
    gains = _gains(found)
    few = f"{len(found.entries)} {'entry' if len(found.entries) == 1 else 'entries'}"
    return ComparisonContent(
        title=f"{found.on}: {few} side by side",
        subtitle=f"{found.clips:,} test clips in {len(found.classes)} classes, the same for all",
        warnings=tuple(note for note in found.notes if note.startswith(ALARMS) or LEAK in note),
        columns=tuple(headline.name for headline in lines[0].headlines),
        entries=lines,
        span=_span([*lines, *(ensemble.line for ensemble in ensembles)]),
        ensembles=ensembles,
        seeds=tuple(_seeds(group, len(found.classes)) for group in found.groups),
        gain_titles=tuple(entry.title for entry in found.entries[1:]),
        gains=gains,
        widest=max((abs(change.gain) for line in gains for change in line.changes), default=0.0),
        pairs=tuple(_pairs(entry) for entry in found.entries),
        notes=tuple(found.notes),
        links=_links(found),
        made_by=f"mmcl {version('mmcl')}",
    )


def _entry(entry: Entry, paired: Paired | None) -> EntryLine:
    alarm = WITH_TEXT in entry.selection or entry.on_test
    return EntryLine(entry.title, entry.selection, alarm, headlines_of(entry.metrics), _versus(paired))


def _versus(paired: Paired | None) -> Versus | None:
    if paired is None:
        return None
    return Versus(paired.difference, *paired.interval, paired.only_first, paired.only_second, paired_line(paired))


def _ensemble(found: Ensemble) -> EnsembleLine:
    alarm, versus = found.chosen == ON_TEST, _versus(found.versus_first)
    members = map(Member, found.members, found.weights, found.single)
    line = EntryLine(found.title, found.selection, found.on_test, headlines_of(found.metrics), versus)
    return EnsembleLine(line, found.chosen, alarm, tuple(members))


def _span(lines: Sequence[EntryLine]) -> tuple[float, float]:
    """Round ends of an axis that shows the first headline of all, with their intervals."""
    low, high = min(line.headlines[0].low for line in lines), max(line.headlines[0].high for line in lines)
    return max(math.floor(low / GRID) * GRID, 0.0), min(math.ceil(high / GRID) * GRID, 1.0)


def _seeds(group: Group, classes: int) -> Seeds:
    spreads = (group.top1, *((group.top5,) if classes > TOP else ()), group.mean_class)
    return Seeds(group.name, group.top1.n, tuple(percent(spread) for spread in spreads))


def _gains(found: Comparison) -> tuple[GainLine, ...]:
    """Classes by how much the entries differ on them, most first."""
    lines = [
        GainLine(one[0].name, one[0].clips, tuple(Change(gain.before, gain.after) for gain in one))
        for one in zip(*found.gains, strict=True)
    ]
    return tuple(sorted(lines, key=lambda line: -max(abs(change.gain) for change in line.changes)))


def _pairs(entry: Entry) -> PairsOf:
    return PairsOf(entry.title, tuple(confused_pairs(entry.metrics, entry.scores.classes, PAIRS)), entry.notes)


def _links(found: Comparison) -> tuple[Link, ...]:
    """What is written beside the report, by the same command."""
    scores = (Link(f"{folder_of(one)}/{FILE}", f"the scores of {one.title}") for one in found.ensembles)
    return (*(Link(*pair) for pair in BESIDE), *scores)
