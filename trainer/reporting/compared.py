"""What the report of a comparison shows: plain data, every string of it untrusted until the page escapes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..testing.metrics import Pair
from .content import Headline, Link


class Versus(NamedTuple):
    """A difference of top-1 with its 95% interval, on how many clips only one of the two was right, and in words."""

    difference: float
    low: float
    high: float
    only_first: int
    only_second: int
    said: str


@dataclass(frozen=True)
class EntryLine:
    """A run, a score file or an ensemble: its numbers, and what they are beside the first's.

    `alarm` is set where something was chosen on the test set, or more than skeletons was seen; `detail` says how the
    epoch was chosen.
    """

    title: str
    detail: str
    alarm: bool
    headlines: tuple[Headline, ...]
    versus: Versus | None = None


class Member(NamedTuple):
    """One network of an ensemble, its weight, and its own top-1."""

    title: str
    weight: float
    top1: float


@dataclass(frozen=True)
class EnsembleLine:
    """An ensemble, how its weights were chosen, and its members; `alarm` where that was on the test set."""

    line: EntryLine
    chosen: str
    alarm: bool
    members: tuple[Member, ...]


class Seeds(NamedTuple):
    """Entries that differ in their seed alone: mean and deviation of each headline, in words."""

    name: str
    seeds: int
    numbers: tuple[str, ...]


class Change(NamedTuple):
    """A class's accuracy before and after, as shares."""

    before: float
    after: float

    @property
    def gain(self) -> float:
        return self.after - self.before


class GainLine(NamedTuple):
    """One class: what each entry after the first has gained on it."""

    name: str
    clips: int
    changes: tuple[Change, ...]


class PairsOf(NamedTuple):
    """The most confused pairs of an entry, and what there is to know of it."""

    title: str
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ComparisonContent:
    """The report of several runs or score files on the same clips.

    `span` are the ends of the axis of top-1 that all share, `widest` the largest gain of a class.
    """

    title: str
    subtitle: str
    warnings: tuple[str, ...]
    columns: tuple[str, ...]
    entries: tuple[EntryLine, ...]
    span: tuple[float, float]
    ensembles: tuple[EnsembleLine, ...]
    seeds: tuple[Seeds, ...]
    gain_titles: tuple[str, ...]
    gains: tuple[GainLine, ...]
    widest: float
    pairs: tuple[PairsOf, ...]
    notes: tuple[str, ...]
    links: tuple[Link, ...]
    made_by: str
