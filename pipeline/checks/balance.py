"""What can be told of a data set by its table alone: classes, splits, people, names."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ...cache.skeletons import OUT, TEST, TRAIN
from ...cache.words import few
from .finding import ERROR, NOTE, WARNING, Finding, Inspected, many

FEW = 4  # clips of a class. Seen at the least: 31 in UTD-MHAD, 141 in NW-UCLA
UNEVEN = 10  # the largest class to the smallest. Seen: 1.03 in UTD-MHAD, 1.23 in NW-UCLA
LISTED = 5  # names of classes in a line


def one_class(data: Inspected) -> list[Finding]:
    """A data set, or splits, of one class."""
    if len(np.unique(data.skeletons.labels)) < 2:
        named = data.skeletons.classes[data.skeletons.labels[0]]
        return [Finding("one class", ERROR, f"all clips are of one class, {named}: there is nothing to tell apart")]
    return [
        Finding("one class", ERROR, f"split {name}: all its clips are of one class: there is nothing to tell apart")
        for name, split in data.skeletons.splits.items()
        if len(np.unique(data.skeletons.labels[split.sides != OUT])) == 1
    ]


def absent_classes(data: Inspected) -> list[Finding]:
    """Classes without a clip."""
    absent = [data.skeletons.classes[label] for label in np.flatnonzero(_counts(data) == 0)]
    what = f"{many(len(absent), 'class')} without a clip: {few(absent, LISTED)}"
    return [Finding("absent classes", WARNING, what)] if absent else []


def small_classes(data: Inspected) -> list[Finding]:
    """Classes of which there are too few clips to learn from."""
    counts = _counts(data)
    small = np.flatnonzero((counts > 0) & (counts < FEW))
    named = few([f"{data.skeletons.classes[label]} ({counts[label]})" for label in small], LISTED)
    rows = np.flatnonzero(np.isin(data.skeletons.labels, small))
    return data.of_clips("small classes", WARNING, rows, f"of classes with fewer than {FEW} clips: {named}")


def uneven_classes(data: Inspected) -> list[Finding]:
    """A largest class that outweighs the smallest."""
    counts, classes = _counts(data), data.skeletons.classes
    most, least = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max()).argmin())
    share = counts[most] / counts.sum()
    what = f"{counts[most]:,} clips of {classes[most]}, {share:.0%} of all, but {counts[least]:,} of {classes[least]}"
    return [Finding("uneven classes", WARNING, what)] if counts[most] >= UNEVEN * counts[least] else []


def empty_sides(data: Inspected) -> list[Finding]:
    """Splits without a clip to train or to test on."""
    return [
        Finding("empty sides", ERROR, f"split {split}: no clip to {verb} on")
        for split in data.skeletons.splits
        for verb, part in (("train", TRAIN), ("test", TEST))
        if not len(data.skeletons.rows(split, part))
    ]


def one_sided_classes(data: Inspected) -> list[Finding]:
    """Classes of a split that are tested and never trained, or trained and never tested."""
    found, labels = list[Finding](), data.skeletons.labels
    for split in data.skeletons.splits:
        train, test = (data.skeletons.rows(split, part) for part in (TRAIN, TEST))
        if not len(train) or not len(test):
            continue
        for check, level, here, there in (
            ("classes never trained", ERROR, test, train),
            ("classes never tested", WARNING, train, test),
        ):
            only = np.setdiff1d(labels[here], labels[there])
            named = few([data.skeletons.classes[label] for label in only], LISTED)
            rows = here[np.isin(labels[here], only)]
            found += data.of_clips(check, level, rows, f"of {check} by split {split}: {named}")
    return found


def unused_clips(data: Inspected) -> list[Finding]:
    """Clips that no split trains or tests."""
    used = np.zeros(len(data.skeletons.names), bool)
    for split in data.skeletons.splits.values():
        used |= split.sides != OUT
    return data.of_clips("unused clips", NOTE, np.flatnonzero(~used), "in no split")


def shared_people(data: Inspected) -> list[Finding]:
    """People on both sides of a split: an error where the split is said to be by subject."""
    if (people := data.skeletons.columns.get("subject")) is None:
        return []
    found, known = list[Finding](), np.unique(people[people >= 0])
    for split, sides in data.skeletons.splits.items():
        train, test = (people[data.skeletons.rows(split, part)] for part in (TRAIN, TEST))
        both = np.intersect1d(train, test)
        both = both[both >= 0]
        what = f"split {split} trains and tests on {len(both):,} of {many(len(known), 'subject')}"
        if len(both) and "sub" not in split:
            found.append(Finding("shared people", NOTE, what, advice="nothing, where it is a split by something else"))
        elif len(both):
            rows = np.flatnonzero(np.isin(people, both) & (sides.sides != OUT))
            named = few([str(one) for one in both], LISTED)
            found += data.of_clips("shared people", ERROR, rows, f"of people on both sides: {what}, {named}")
    return found


def alike_names(data: Inspected) -> list[Finding]:
    """Names that differ in upper case, in leading zeros or in how Unicode writes an accent alone."""
    groups = _alike([re.sub(r"(?<!\d)0+(?=\d)", "", _folded(name)) for name in data.skeletons.names])
    rows = np.array([row for group in groups for row in group])
    what = "of names that differ in case, leading zeros or Unicode form alone"
    return data.of_clips("alike names", WARNING, rows, what)


def alike_classes(data: Inspected) -> list[Finding]:
    """Classes whose names differ in upper case, spaces or how Unicode writes an accent alone."""
    classes = data.skeletons.classes
    found = list[Finding]()
    for group in _alike(["".join(_folded(name).split()) for name in classes]):
        named = few([repr(classes[label]) for label in group], LISTED)
        rows = np.flatnonzero(np.isin(data.skeletons.labels, group))
        what = f"of {len(group)} classes whose names differ in case, spaces or Unicode form alone: {named}"
        found += data.of_clips("alike classes", WARNING, rows, what)
    return found


def _folded(name: str) -> str:
    """The name in small letters, accents apart from their letters (Unicode's canonical caseless match)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def _alike(keys: Sequence[str]) -> list[list[int]]:
    """The places of equal keys, for each key that is there more than once."""
    places = defaultdict[str, list[int]](list)
    for place, key in enumerate(keys):
        places[key].append(place)
    return [group for group in places.values() if len(group) > 1]


def _counts(data: Inspected) -> np.ndarray:
    return np.bincount(data.skeletons.labels, minlength=len(data.skeletons.classes))
