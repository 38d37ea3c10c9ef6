"""NTU RGB+D 60 (Shahroudy et al., CVPR 2016) and 120 (Liu et al., TPAMI 2020), from their `.skeleton` files.

RAW/.../SsssCcccPpppRrrrAaaa.skeleton: setup, camera, performer, replication, action. Setups 1-17 are NTU 60 and act
A001-A060; setups 18-32 act A061-A120. A cache of ntu120 serves all four benchmarks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import ClassVar

from ...cache.skeletons import OUT
from ..preparation.dataset import Clip, Facts, Finding, RawClip, SplitRule, by_column
from ..preparation.layouts import KINECT_V2
from ..preparation.raw import RawFile, find_raw
from .ntu_bodies import NO_BODY, find_actors
from .ntu_classes import CLASSES, TWO_PERSON
from .ntu_file import parse_skeleton

FORM = "SsssCcccPpppRrrrAaaa.skeleton"
SETUPS_60, CLASSES_60 = 17, 60
CAMERAS = (1, 2, 3)
FEW = 20  # names are listed
LEFT_OUT = "left out"  # what a finding says was done
WHOLE = 0.99  # of all samples: a smaller share is somebody's choice

_TRAIN_60 = frozenset({1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38})
_TRAIN_120 = _TRAIN_60 | {
    *(45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89),
    *(91, 92, 93, 94, 95, 97, 98, 100, 103),
}
_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
_RANGES = {"setup": 32, "camera": 3, "subject": 106, "trial": 2, "action": 120}


@dataclass(frozen=True)
class Release:
    """One of the two data sets as published: its samples, and how many of them have no whole skeleton."""

    name: str
    samples: int
    without_skeleton: int
    setups: int
    classes: int


NTU60 = Release("NTU RGB+D 60", 56_880, 302, SETUPS_60, CLASSES_60)
NTU120 = Release("NTU RGB+D 120", 114_480, 535, 32, 120)


def of_ntu60(side: Callable[[Clip], int]) -> Callable[[Clip], int]:
    """A split of the clips that NTU 60 has, for a cache that holds more."""
    return lambda clip: side(clip) if clip.columns["setup"] <= SETUPS_60 else OUT


_XSUB_60 = by_column("subject", lambda subject: subject in _TRAIN_60, lambda subject: subject not in _TRAIN_60)
_XVIEW = by_column("camera", lambda camera: camera in (2, 3), lambda camera: camera == 1)
_XSUB_120 = by_column("subject", lambda subject: subject in _TRAIN_120, lambda subject: subject not in _TRAIN_120)
_XSET = by_column("setup", lambda setup: setup % 2 == 0, lambda setup: setup % 2 == 1)
SPLITS_60 = {"xsub": SplitRule(_XSUB_60, (40_091, 16_487)), "xview": SplitRule(_XVIEW, (37_646, 18_932))}
SPLITS_120 = {
    "xsub": SplitRule(_XSUB_120, (63_026, 50_919), "repeat"),
    "xset": SplitRule(_XSET, (54_468, 59_477), "repeat"),
    **{
        f"ntu60-{name}": SplitRule(of_ntu60(rule.side), rule.published, classes=tuple(range(CLASSES_60)))
        for name, rule in SPLITS_60.items()
    },
}


@dataclass(frozen=True)
class Sample:
    """What a sample's name says; all count from 1."""

    setup: int
    camera: int
    subject: int
    trial: int
    action: int

    @property
    def group(self) -> tuple[int, int, int]:
        """The session that it is of: one performer, who acts all of a setup's classes before all cameras."""
        return self.setup, self.subject, self.trial


def read_name(stem: str) -> Sample:
    """A sample's name taken apart; ValueError with the wanted form for any other."""
    matched = _NAME.fullmatch(stem)
    if not matched:
        raise ValueError(f"name is not of the form {FORM}")
    for number, (what, most) in zip(map(int, matched.groups()), _RANGES.items(), strict=True):
        if not 1 <= number <= most:
            raise ValueError(f"{what} {number} in its name, wanted 1..{most} ({FORM})")
    sample = Sample(*map(int, matched.groups()))
    if (sample.setup <= SETUPS_60) != (sample.action <= CLASSES_60):
        raise ValueError(
            f"setup {sample.setup} with action {sample.action} in its name; "
            f"setups 1-{SETUPS_60} act A001-A060, setups 18-32 A061-A120"
        )
    return sample


def read_clip(file: RawFile, release: Release) -> RawClip:
    """One sample: its one or two actors, metres from the camera; ValueError for what is damaged or of another set."""
    sample = read_name(file.stem)
    if sample.setup > release.setups:
        raise ValueError("of NTU120; prepare ntu120")
    actors = find_actors(parse_skeleton(file.read()))
    label, notes = sample.action - 1, actors.notes
    if label in TWO_PERSON and len(actors.joints) == 1:
        notes = (*notes, f"one actor, in a class of two: {CLASSES[label]}")
    columns = {name: getattr(sample, name) for name in ("setup", "camera", "subject", "trial")}
    return RawClip(file.stem, label, actors.joints, columns, actors.image_points, notes, actors.counts)


class _Ntu:
    release: ClassVar[Release]
    facts: ClassVar[Facts]

    def __init__(self, raw: Path) -> None:
        self._raw = raw
        self.reader = partial(read_clip, release=self.release)

    def files(self) -> list[RawFile]:
        return find_raw(self._raw, "*.skeleton", f"NTU RGB+D skeletons ({FORM})")

    def remarks(self, names: Sequence[str], findings: Sequence[Finding]) -> list[str]:
        """How many samples of the whole are here, and whether those without a skeleton are as many as published."""
        return list(_remarks(self.release, set(names), _left_out(findings)))


class Ntu60(_Ntu):
    release = NTU60
    facts = Facts(CLASSES[:CLASSES_60], KINECT_V2, SPLITS_60)


class Ntu120(_Ntu):
    release = NTU120
    facts = Facts(CLASSES, KINECT_V2, SPLITS_120)


def grid(names: Iterable[str]) -> set[str]:
    """The samples that every (setup, performer, replication) among `names` has: 3 cameras, 60 classes."""
    found = set[str]()
    for setup, subject, trial in {read_name(name).group for name in names}:
        first = 1 if setup <= SETUPS_60 else CLASSES_60 + 1
        found |= {
            f"S{setup:03}C{camera:03}P{subject:03}R{trial:03}A{action:03}"
            for camera, action in product(CAMERAS, range(first, first + CLASSES_60))
        }
    return found


def _left_out(findings: Sequence[Finding]) -> dict[str, str]:
    """What was found of each sample that is on disk and could not be used."""
    found = {Path(finding.file).stem: finding.found for finding in findings if finding.done == LEFT_OUT}
    return {stem: what for stem, what in found.items() if _is_name(stem)}


def _is_name(stem: str) -> bool:
    try:
        read_name(stem)
    except ValueError:
        return False
    return True


def _remarks(release: Release, here: set[str], left_out: dict[str, str]) -> Iterator[str]:
    unusable = {name for name in left_out if name not in here and read_name(name).setup <= release.setups}
    empty = sum(left_out[name] == NO_BODY for name in unusable)
    there = here | unusable
    if len(there) < WHOLE * release.samples:
        yield f"a subset: {len(there):,} of {release.name}'s {release.samples:,} samples; {empty} have {NO_BODY}"
    else:
        yield _beside_published(release, release.samples - len(there), empty, len(unusable) - empty)
    absent = sorted(grid(there) - there)
    if 0 < len(absent) <= FEW:
        yield f"absent of the sessions that are here: {', '.join(absent)}"


def _beside_published(release: Release, absent: int, empty: int, damaged: int) -> str:
    published, without = release.without_skeleton, absent + empty
    verdict = "as published" if without == published else f"published are {published} missing or incomplete ones"
    said = [f"{release.name}: {absent} samples absent, {empty} with {NO_BODY}: {without} in all, {verdict}"]
    if damaged:
        said.append(f"{damaged} more could not be used")
    if (beyond := published - without - damaged) > 0:
        said.append(f"samples here beyond the published ones: {beyond}; published numbers leave them out, by name")
    return "; ".join(said)
