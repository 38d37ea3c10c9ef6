"""Whether clips hold what they should: numbers, bodies, motion, a length like others', and each its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...cache.skeletons import OUT, TEST, TRAIN
from ...cache.table import damaged_rows
from .finding import ERROR, NOTE, WARNING, Finding, Inspected

SHORT = 5  # frames; fewer are hardly a motion. Seen at the least: 41 in UTD-MHAD; in NW-UCLA 6, and 1 in two clips
LONG = 10  # times the median. Seen at the most: 1.9 in UTD-MHAD, 6.5 in NW-UCLA
GAPS = 0.5  # of a clip's frames without a body. Seen: none at all in both


def damaged(data: Inspected) -> list[Finding]:
    """Clips that are no longer what was written."""
    rows = np.array(damaged_rows(data.folder / "skeletons.h5"))
    return data.of_clips("damaged", ERROR, rows, "not as they were written")


def not_finite(data: Inspected) -> list[Finding]:
    """Clips with coordinates that are no numbers."""
    bodies = data.measures.bodies
    return data.of_clips("not finite", ERROR, bodies.clip[~bodies.finite], "with NaN or infinite coordinates")


def nobody(data: Inspected) -> list[Finding]:
    """Clips without anybody, and bodies that are never there in clips with somebody."""
    bodies, empty = data.measures.bodies, data.measures.filled == 0
    absent = bodies.clip[(bodies.there == 0) & ~empty[bodies.clip]]
    return [
        *data.of_clips("nobody", ERROR, np.flatnonzero(empty), "without a body in any frame"),
        *data.of_clips("zero bodies", WARNING, absent, "with a body that is all zeros"),
    ]


def motionless(data: Inspected) -> list[Finding]:
    """Clips with a body of which no joint ever moves."""
    bodies = data.measures.bodies
    still = bodies.finite & ~bodies.moves & (bodies.there > 1)
    return data.of_clips("motionless", WARNING, bodies.clip[still], "with a body that never moves")


def gaps(data: Inspected) -> list[Finding]:
    """Clips that are mostly frames without a body."""
    filled, frames = data.measures.filled, data.skeletons.frames
    rows = np.flatnonzero((filled > 0) & (filled < (1 - GAPS) * frames))
    return data.of_clips("gaps", WARNING, rows, f"without a body in over {GAPS:.0%} of their frames")


def lengths(data: Inspected) -> list[Finding]:
    """Clips of one frame, of a few, and of very many."""
    frames, usual = data.skeletons.frames, float(np.median(data.skeletons.frames))
    one, long = np.flatnonzero(frames == 1), np.flatnonzero(frames > LONG * usual)
    short = np.flatnonzero((frames > 1) & (frames < SHORT))
    return [
        *data.of_clips("one frame", WARNING, one, "of one frame"),
        *data.of_clips("short clips", NOTE, short, f"of fewer than {SHORT} frames"),
        *data.of_clips("long clips", NOTE, long, f"over {LONG} times as long as the median of {usual:.0f} frames"),
    ]


def identical(data: Inspected) -> list[Finding]:
    """Clips with the very same joints: across a split's sides, under two labels, or twice."""
    groups, labels, names = _groups(data), data.skeletons.labels, data.skeletons.names
    found, told = list[Finding](), set[int]()
    for name, split in data.skeletons.splits.items():
        leaking = [group for group in groups if {TRAIN, TEST} <= set(split.sides[group].tolist())]
        inside_first = [sorted(group, key=(split.sides == OUT).__getitem__) for group in leaking]
        twins = _twins(inside_first, split.sides)
        tests = [row for row in sorted(twins) if split.sides[row] == TEST]
        pairs = tuple(f"{names[row]} = {names[twins[row]]}" for row in tests)
        count = (split.sides == TEST).sum()
        what = f"train and test split {name} under two names: {len(pairs):,} of its {count:,} tests"
        found += [replace(one, examples=pairs) for one in _same(data, "leaks", ERROR, twins, what)]
        told |= twins.keys()
    torn = _twins([group for group in groups if len(set(labels[group].tolist())) > 1], labels)
    told |= torn.keys()
    twice = {row: twin for row, twin in _twins(groups, labels).items() if row not in told}
    return [
        *found,
        *_same(data, "two labels", ERROR, torn, "the same under different labels"),
        *_same(data, "twice", WARNING, twice, "the same under another name"),
    ]


def _same(data: Inspected, check: str, level: str, twins: Mapping[int, int], what: str) -> list[Finding]:
    """The finding of these rows, each with its twin's name."""
    names = tuple(data.skeletons.names[twins[row]] for row in sorted(twins))
    return [replace(one, twins=names) for one in data.of_clips(check, level, np.array(sorted(twins)), what)]


def _twins(groups: Sequence[Sequence[int]], marks: np.ndarray) -> dict[int, int]:
    """For each row of groups of equal clips another one: the first with another mark, if there is one."""
    found = dict[int, int]()
    for group in groups:
        for row in group:
            others = [one for one in group if one != row]
            found[row] = next((one for one in others if marks[one] != marks[row]), others[0])
    return found


def _groups(data: Inspected) -> list[list[int]]:
    """Rows of clips with equal joints; clips without anybody are all alike and not meant."""
    rows = defaultdict[bytes, list[int]](list)
    for row, (digest, filled) in enumerate(zip(data.measures.digests, data.measures.filled.tolist(), strict=True)):
        if filled:
            rows[digest].append(row)
    return [group for group in rows.values() if len(group) > 1]
