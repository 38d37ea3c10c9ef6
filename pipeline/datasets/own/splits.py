"""Splits of one's own data: given, by subject, by any column, or at random; and its columns as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from re import fullmatch

import numpy as np

from ....cache.skeletons import OUT, TEST, TRAIN
from ...preparation.dataset import Clip, SplitRule, by_column
from .table import SIDES, Entry

NO_COLUMNS = ("name", "label", "skeleton", "video", "split", "width", "height")  # they have a meaning of their own
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

    Whole numbers stand for themselves; where there are others too, cells are numbered from 1 by sorted value.
    """
    codes: dict[str, Mapping[str, int]] = {}
    said = []
    for column in entries[0].cells:
        values = sorted({entry.cells[column] for entry in entries} - {""})
        if not values or column in NO_COLUMNS:
            continue
        if "/" in column or "\0" in column:
            said.append(f"column {column}: not kept, for the / in its name")
        elif all(fullmatch(r"[0-9]{1,18}(\.0+)?", value) for value in values):  # pandas writes 3 as 3.0 beside a gap
            codes[column] = {value: int(value.split(".")[0]) for value in values}
        else:
            codes[column] = {value: number for number, value in enumerate(values, start=1)}
            said.append(f"column {column} is text, kept as numbers: {_listed(values)}")
    return codes, said


def _listed(values: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(f"{number} {value}" for number, value in enumerate(values[:most], start=1))
    return f"{shown} ... {len(values)} {values[-1]}" if len(values) > most else shown


def split_rules(entries: Sequence[Entry], codes: Codes, asked: Asked) -> tuple[dict[str, SplitRule], list[str]]:
    """The splits by name, those asked for first, and what is said of them. ValueError for a column that can't split."""
    splits: dict[str, SplitRule] = {}
    if asked.split_by is not None:
        column = _column(asked.split_by.strip().lower(), codes)
        splits[f"by-{column}"] = _every_second(column, codes)
    if asked.test is not None:
        splits["random"] = SplitRule(_Named(at_random(entries, asked.test, asked.seed)))
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
    return {"random": SplitRule(_Named(at_random(entries, TEST_SHARE, asked.seed)))}, [said]


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


def _column(name: str, codes: Codes) -> str:
    if name not in codes:
        near = get_close_matches(name, codes, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"--split-by {name}: no such column; {hint}found {', '.join(codes) or 'none to split by'}")
    if len(set(codes[name].values())) < 2:
        raise ValueError(f"--split-by {name}: only one value, {next(iter(codes[name]))}; two at least are wanted")
    return name


def at_random(entries: Sequence[Entry], share: float, seed: int) -> dict[str, int]:
    """The side of each clip by name: about `share` of each class tests, and of two clips or more at least one a side.

    It goes by names and seed alone: neither the files' order nor another class's clips change it.
    """
    sides: dict[str, int] = {}
    for label in sorted({entry.label for entry in entries}):
        names = sorted(entry.name for entry in entries if entry.label == label)
        testing = min(max(round(share * len(names)), 1), len(names) - 1)
        order = np.random.default_rng([seed, *label.encode()]).permutation(len(names))
        sides |= {names[place]: TEST if rank < testing else TRAIN for rank, place in enumerate(order)}
    return sides
