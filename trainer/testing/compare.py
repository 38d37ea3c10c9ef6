"""Runs and score files side by side on the same clips: what differs, and what of it may be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ..matrix.results import Spread, spread
from ..run import CHOSEN_ON_TEST, Run
from .ensemble import ON_TEST, STARTED, Ensemble
from .entries import Entry
from .metrics import HOW, TOP, Metrics
from .paired import SURE, Gain, Paired, gains, mcnemar, right

OWN = ("LEAK", "CONTROL", "data: ", "all ", "starts from ")  # what notes of a run begin with that are passed on
COVERS = f"{HOW}: other subjects, cameras or training seeds are not in them"


class Group(NamedTuple):
    """Entries that differ in their seed alone, by title, and mean and sample deviation over them."""

    name: str
    titles: tuple[str, ...]
    top1: Spread
    top5: Spread
    mean_class: Spread


@dataclass(frozen=True)
class Comparison:
    """Entries on the same clips, each after the first against the first, and the ensembles of them.

    `paired` and `gains` have one element an entry after the first; `groups` are of entries, then of ensembles, that
    differ in their seed alone. `folder` is where it is written.
    """

    entries: tuple[Entry, ...]
    paired: tuple[Paired, ...]
    gains: tuple[tuple[Gain, ...], ...]
    groups: tuple[Group, ...]
    ensembles: tuple[Ensemble, ...]
    folder: Path
    notes: tuple[str, ...]

    @property
    def clips(self) -> int:
        return self.entries[0].metrics.clips

    @property
    def classes(self) -> tuple[str, ...]:
        return self.entries[0].scores.classes

    @property
    def on(self) -> str:
        """The data set and the split, as far as any entry knows them."""
        about = next((entry.about for entry in self.entries if entry.about.dataset), self.entries[0].about)
        return f"{about.dataset} {about.split}".strip() or "score files"

    @property
    def fitted_on_test(self) -> bool:
        return ON_TEST in " ".join(one.selection for one in (*self.entries, *self.ensembles))

    @property
    def on_test(self) -> bool:
        """Whether anything here, an epoch or a weight, was chosen on the clips it is tested on."""
        return any(one.on_test for one in (*self.entries, *self.ensembles))


def compare(
    entries: Sequence[Entry], ensembles: Sequence[Ensemble], folder: Path, notes: Sequence[str] = ()
) -> Comparison:
    """All that can be said of the entries beside each other, whose scores are those of the same clips in one order."""
    first, others = entries[0], entries[1:]
    hits = [right(entry.scores.values, entry.scores.labels) for entry in entries]
    return Comparison(
        tuple(entries),
        tuple(
            mcnemar(hits[0], other, chosen=first.on_test or entry.on_test)
            for entry, other in zip(others, hits[1:], strict=True)
        ),
        tuple(tuple(gains(first.metrics, other.metrics, first.scores.classes)) for other in others),
        (*_entry_groups(entries), *_ensemble_groups(ensembles)),
        tuple(ensembles),
        folder,
        (*_notes(entries, ensembles), *notes),
    )


def _entry_groups(entries: Sequence[Entry]) -> list[Group]:
    several = len({entry.taught for entry in entries if entry.run}) > 1
    alike = dict[object, list[Entry]]()
    for entry in entries:
        if entry.run:
            alike.setdefault(_but_for_seed(entry.run), []).append(entry)
    return [
        _group(" ".join((*some[0].kind, *((some[0].taught,) if several else ()))), some)
        for some in alike.values()
        if len({entry.about.seed for entry in some}) > 1
    ]


def _but_for_seed(run: Run) -> object:
    """What is the same in runs that differ in their seed alone."""
    keys = tuple(cache["key"] for kind in ("rgb", "text") for cache in run.teachers(kind))
    start = str(run.start and run.start["digest"])
    return replace(run.config, seed=0), run.skeletons, keys, start


def _ensemble_groups(ensembles: Sequence[Ensemble]) -> list[Group]:
    """The ensembles of each ablation, over its seeds."""
    alike = dict[str, list[Ensemble]]()
    for ensemble in ensembles:
        name = " ".join(filter(None, ("ensemble", ensemble.taught, f"(weights {ensemble.chosen})")))
        alike.setdefault(name, []).append(ensemble)
    return [_group(name, some) for name, some in alike.items() if len(some) > 1]


def _group(name: str, some: Sequence[Entry] | Sequence[Ensemble]) -> Group:
    def over(values: list[float]) -> Spread:
        return spread(values) or Spread(0, 0.0, None)

    metrics: list[Metrics] = [one.metrics for one in some]
    titles = tuple(one.title for one in some)
    parts = ("top1", "top5", "mean_class")
    return Group(name, titles, *(over([getattr(one, part) for one in metrics]) for part in parts))


def _notes(entries: Sequence[Entry], ensembles: Sequence[Ensemble]) -> list[str]:
    """What a reader must know beside the numbers."""
    notes = [COVERS]
    if len(entries) > 1:
        notes.append(f"differences are to {entries[0].title}, on the same {entries[0].metrics.clips:,} clips")
    if (count := len(entries) - 1 + len(ensembles)) > 1:
        sure = f"of {count}, one of p < {SURE / count:.2g} is more than chance (Bonferroni)"
        notes.append(f"p-values are each comparison's own; {sure}")
    if len(entries[0].scores.classes) <= TOP:
        notes.append(f"top-5 says nothing where {len(entries[0].scores.classes)} classes compete")
    if fitted := [entry.title for entry in entries if ON_TEST in entry.selection]:
        notes.append(f"WEIGHTS WERE FITTED ON THE TEST SET, so these numbers are too good: {', '.join(fitted)}")
    if chosen := [entry.title for entry in entries if CHOSEN_ON_TEST in entry.selection]:
        notes.append(f"EPOCHS WERE CHOSEN ON THE TEST SET, so these numbers are too good: {', '.join(chosen)}")
    return [*notes, *_ensemble_notes(entries, ensembles), *_own_notes(entries)]


def _ensemble_notes(entries: Sequence[Entry], ensembles: Sequence[Ensemble]) -> list[str]:
    if not ensembles:
        return []
    chosen = ensembles[0].chosen
    notes = ["ensembles add the networks' scores before any softmax, as CTR-GCN's does"]
    if chosen == ON_TEST:
        notes.insert(0, "WEIGHTS WERE FITTED ON THE TEST SET: these ensembles' numbers are too good, and are no result")
    if chosen.startswith("fitted"):
        notes.append("weights were fitted on the subjects that the epochs were chosen on, too")
    members = {title for ensemble in ensembles for title in ensemble.members}
    known = any(STARTED in ensemble.chosen for ensemble in ensembles)
    if known and (titles := [one.title for one in entries if one.title in members and one.started]):
        notes.append(f"the held-out clips may have been trained on in what they start from: {', '.join(titles)}")
    return notes


def _own_notes(entries: Sequence[Entry]) -> list[str]:
    """What is to be known of some entries: their leaks, what was taken for granted of a file's names."""
    said = dict[str, list[str]]()
    for entry in entries:
        for note in entry.notes:
            if entry.run is None or note.startswith(OWN):
                said.setdefault(note, []).append(entry.title)
    everyone = len(entries)
    return [note if len(titles) == everyone else f"{', '.join(titles)}: {note}" for note, titles in said.items()]
