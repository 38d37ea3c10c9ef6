"""What a report shows: plain data, every string of it untrusted until the page escapes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..testing.metrics import ClassLine, Pair


class Headline(NamedTuple):
    """A share in [0, 1] with its 95% interval."""

    name: str
    value: float
    low: float
    high: float


class Fact(NamedTuple):
    """A line of a table of facts."""

    name: str
    value: str


class Link(NamedTuple):
    """A file beside the report: its address from there, and what it holds."""

    path: str
    about: str


class Command(NamedTuple):
    """A line to type, and what it does or what is not known of it."""

    line: str
    about: str


class Facts(NamedTuple):
    """A titled table of facts; `mark` is a short word beside the title."""

    title: str
    facts: tuple[Fact, ...]
    mark: str = ""


class Mark(NamedTuple):
    """A line or a label of a chart: where it is in the drawing, and what it says."""

    at: float
    text: str


class Line(NamedTuple):
    """One line of a chart as an SVG path; `kind` is its colour."""

    name: str
    kind: str
    path: str


class Chart(NamedTuple):
    """Lines over epochs, in the drawing's units; `falls` are where the learning rate falls, `said` is all in words."""

    title: str
    lines: tuple[Line, ...]
    across: tuple[Mark, ...]
    up: tuple[Mark, ...]
    falls: tuple[Mark, ...]
    kept: float | None
    said: str


class Cell(NamedTuple):
    """One number of a confusion matrix: column and row, its shade (1 to 8), whether it was called right."""

    column: int
    row: int
    shade: int
    right: bool
    clips: int


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: `cells` are those that are not zero, `orders` are ways to sort its classes, by name."""

    classes: tuple[str, ...]
    clips: tuple[int, ...]
    cells: tuple[Cell, ...]
    orders: Mapping[str, tuple[int, ...]]
    size: int  # pixels of a cell

    @property
    def numbered(self) -> bool:
        """Whether there is room for a count in a cell."""
        return self.size >= 24


class Picture(NamedTuple):
    """A JPEG as a data: address."""

    address: str
    width: int
    height: int


class Candidate(NamedTuple):
    word: str
    share: float


@dataclass(frozen=True)
class Answer:
    """What a language model said of a clip; `failure` instead of it where there is none."""

    model: str
    prompt: str
    question: str
    text: str = ""
    candidates: tuple[Candidate, ...] = ()
    taught: bool = False
    failure: str = ""


@dataclass(frozen=True)
class Seen:
    """What the teachers saw and said of a clip; `missing` says what is not there, and why."""

    pictures: tuple[Picture, ...] = ()
    caption: str = ""
    answers: tuple[Answer, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pose:
    """A clip's skeleton from the front, in a field of 1000 x 1000 with y down.

    `frames` hold x and y of every joint of every body, -1 where it is not there; `still` is the frame to show at first.
    """

    bodies: int
    joints: int
    frames: tuple[tuple[int, ...], ...]
    still: int
    seconds: float
    length: int


@dataclass(frozen=True)
class Bones:
    """Pairs of joints in the middle, at the left and at the right, and the joints that are heads."""

    middle: tuple[tuple[int, int], ...]
    left: tuple[tuple[int, int], ...]
    right: tuple[tuple[int, int], ...]
    heads: tuple[int, ...]


@dataclass(frozen=True)
class Mistake:
    """A clip that was called another class than its own, with the probabilities of both."""

    name: str
    true: str
    called: str
    probability: float
    true_probability: float
    pose: Pose
    seen: Seen


@dataclass(frozen=True)
class Mistakes:
    """The most confident ones, of `wrong` in all."""

    bones: Bones
    clips: tuple[Mistake, ...]
    wrong: int


@dataclass(frozen=True)
class RunContent:
    """A run's report. `warnings` are what makes its numbers other than they look."""

    title: str
    subtitle: str
    inputs: str
    skeletons_only: bool
    warnings: tuple[str, ...]
    headlines: tuple[Headline, ...]
    chance: float
    clips: int
    matrix: Matrix
    pairs: tuple[Pair, ...]
    bars: tuple[ClassLine, ...]
    charts: tuple[Chart, ...]
    mistakes: Mistakes
    teacher_gaps: tuple[str, ...]
    about: tuple[Facts, ...]
    cost: tuple[Facts, ...]
    limits: tuple[str, ...]
    notes: tuple[str, ...]
    recipes: tuple[Facts, ...]
    commands: tuple[Command, ...]
    links: tuple[Link, ...]
    made_by: str
