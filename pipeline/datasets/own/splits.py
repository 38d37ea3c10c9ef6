"""Splits of one's own data: given, by subject, by any column, or at random; and its columns as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from re import fullmatch

import numpy as np

from ....cache.skeletons import OUT, TEST, TRAIN
from ....cache.words import did_you_mean
from ...preparation.dataset import Clip, SplitRule, by_column
from .table import SIDES, Entry

NO_COLUMNS = ("name", "label", "skeleton", "video", "split", "width", "height")  # they have a meaning of their own
WHOLE = r"[0-9]{1,18}(\.0+)?"  # pandas writes 3 as 3.0 beside a gap
NUMBER = r"[+-]?[0-9]+([.,][0-9]+)?([eE][+-]?[0-9]+)?"
TEST_SHARE = 0.3  # of a random split that nobody asked for

Codes = Mapping[str, Mapping[str, int]]  # of each column, the number that stands for a cell's text


@dataclass(frozen=True)
class Asked:
    """How a command wants the clips split, beside what the table says."""

    split_by: str | None = None
    test: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.test is not None and not 0 < self.test < 1:
            raise ValueError(f"--test {self.test}: wanted a share of the clips between 0 and 1")


def number_columns(entries: Sequence[Entry]) -> tuple[Codes, list[str]]:
    """The columns that the cache can hold, and lines on what stands for their texts.

    Whole numbers from 0 on stand for themselves; where there are others too, cells are numbered from 1 by sorted value.
    """
    codes: dict[str, Mapping[str, int]] = {}
    said = []
    for column in entries[0].cells:
        values = sorted({entry.cells[column] for entry in entries} - {""})
        if not values or column in NO_COLUMNS:
            continue
        if why := _not_kept(column):
            said.append(f"column {column}: not kept, {why}")
        elif all(fullmatch(WHOLE, value) for value in values):
            codes[column] = {value: int(value.split(".")[0]) for value in values}
        else:
            if numeric := all(fullmatch(NUMBER, value) for value in values):
                values.sort(key=_number)
            codes[column] = _numbered(values) if numeric else {value: place for place, value in enumerate(values, 1)}
            what = "not of whole numbers from 0 on, numbered by sorted value" if numeric else "text, kept as numbers"
            said.append(f"column {column} is {what}: {_listed(codes[column])}")
    return codes, said


def _numbered(values: Sequence[str]) -> dict[str, int]:
    """Each text's place among the numbers that are written so: 1 and 1.0 are one."""
    known = sorted(set(map(_number, values)))
    return {value: known.index(_number(value)) + 1 for value in values}


def _number(text: str) -> float:
    return float(text.replace(",", "."))


def _not_kept(column: str) -> str:
    """Why the cache cannot hold a column of this name, or nothing."""
    return next((f"for the {what} in its name" for sign, what in (("/", "/"), ("\0", "NUL")) if sign in column), "")


def _listed(codes: Mapping[str, int], most: int = 5) -> str:
    """`most` values with their numbers: the first ones and the last."""
    shown = [f"{number} {value}" for value, number in codes.items()]
    return ", ".join(shown if len(shown) <= most else [*shown[: most - 1], "...", shown[-1]])


def split_rules(
    entries: Sequence[Entry], classes: Sequence[str], codes: Codes, asked: Asked
) -> tuple[dict[str, SplitRule], list[str]]:
    """The splits by name, those asked for first, and what is said of them. ValueError for a column that can't split."""
    splits: dict[str, SplitRule] = {}
    if asked.split_by is not None:
        column = _column(asked.split_by.strip().lower(), entries, codes)
        splits[f"by-{column}"] = _every_second(column, codes)
    if asked.test is not None:
        splits["random"] = AtRandom(names=classes, share=asked.test, seed=asked.seed)
    given = {entry.name: SIDES[entry.cells.get("split", "").lower()] for entry in entries}
    if any(side != OUT for side in given.values()):
        splits["given"] = SplitRule(_Named(given))
    if len(set(codes.get("subject", {}).values())) > 1:
        splits["xsub"] = _every_second("subject", codes)
    if splits:
        return splits, []
    known = "one subject only" if codes.get("subject") else "no subjects known"
    said = (
        f"split random, {TEST_SHARE:.0%} of each class test, seed {asked.seed}: {known}; "
        "the same person may be in train and test, and numbers will be optimistic"
    )
    return {"random": AtRandom(names=classes, seed=asked.seed)}, [said]


@dataclass(frozen=True)
class _Named:
    """A split that knows each clip by name."""

    sides: Mapping[str, int]

    def __call__(self, clip: Clip) -> int:
        return self.sides[clip.name]


def _every_second(column: str, codes: Codes) -> SplitRule:
    """Every second value in sorted order tests; a clip without a value is on neither side."""
    testing = set(sorted(set(codes[column].values()))[1::2])
    return SplitRule(by_column(column, lambda value: value not in testing, lambda value: value in testing))


def _column(name: str, entries: Sequence[Entry], codes: Codes) -> str:
    found = f"found {', '.join(codes) or 'none to split by'}"
    if name in entries[0].cells and name not in codes:
        why = _not_kept(name) or ("it has a meaning of its own" if name in NO_COLUMNS else "it is empty")
        raise ValueError(f"--split-by {name}: the column is not kept, {why}; {found}")
    if name not in codes:
        hint = did_you_mean(name, codes)
        raise ValueError(f"--split-by {name}: no such column; {hint}{found}")
    if len(set(codes[name].values())) < 2:
        raise ValueError(f"--split-by {name}: only one value, {next(iter(codes[name]))}; two at least are wanted")
    return name


@dataclass(frozen=True)
class AtRandom(SplitRule):
    """About `share` of each class tests, and of two clips or more at least one a side; `names` are the classes'.

    Of the clips that could be used, it goes by names and seed alone: neither the files' order nor another class's clips
    change it.
    """

    side: Callable[[Clip], int] = lambda clip: OUT  # of a clip alone nothing can be said
    names: Sequence[str] = ()
    share: float = TEST_SHARE
    seed: int = 0

    def sides(self, clips: Sequence[Clip]) -> list[int]:
        sides = [TRAIN] * len(clips)
        for label in {clip.label for clip in clips}:
            rows = [row for row, clip in enumerate(clips) if clip.label == label]
            rows.sort(key=lambda row: clips[row].name)
            testing = min(max(round(self.share * len(rows)), 1), len(rows) - 1)
            drawn = np.random.default_rng([self.seed, *self.names[label].encode()]).permutation(len(rows))
            for place in drawn[:testing]:
                sides[rows[place]] = TEST
        return sides
