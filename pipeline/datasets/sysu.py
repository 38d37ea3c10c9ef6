"""SYSU 3D Human-Object Interaction (Hu et al., CVPR 2015): 12 actions, 40 subjects, one Kinect v1.

RAW/.../PERSON/videoA/sklWorld.mat with `SW` [20, 3, T] in metres; A is the action, PERSON a name. Subjects are
numbered by sorted PERSON; odd ones train, even ones test. That split is ours: papers take the mean over 30 random
halves of the subjects, which they do not list. The colour frames are the pictures in PERSON/videoA/rgb.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath, PurePosixPath

from ..preparation.dataset import Facts, Finding, RawClip, SplitRule, by_column
from ..preparation.layouts import KINECT_V1
from ..preparation.raw import RawFile, find_raw
from .matlab import read_joints
from .transfers import from_ntu120

SUBJECTS = 40
CLASSES = (
    *("drinking", "pouring", "calling phone", "playing phone", "wearing backpack", "packing backpack"),
    *("sitting chair", "moving chair", "taking out wallet", "taking from wallet", "mopping", "sweeping"),
)
# own class, its A number in NTU RGB+D 120
NTU120_ACTIONS = {"drinking": 1, "calling phone": 28, "playing phone": 29, "sitting chair": 8}
CHOSEN_BY = "ours: the paper's choice is unpublished (its n is 120, so three classes)"
FACTS = Facts(
    CLASSES,
    KINECT_V1,
    {"xsub": SplitRule(by_column("subject", lambda s: s % 2 == 1, lambda s: s % 2 == 0), (240, 240))},
    transfers=(from_ntu120(KINECT_V1, NTU120_ACTIONS, CHOSEN_BY),),
)
_ACTION = re.compile(r"video(\d+)")


class Sysu:
    """SYSU below RAW; ValueError where there is no skeleton file in it."""

    def __init__(self, raw: Path) -> None:
        found = find_raw(raw, "sklWorld.mat", "SYSU skeletons (PERSON/videoA/sklWorld.mat)")
        self._files = sorted(found, key=lambda file: (*_folders(file), file.place))
        people = sorted({person for person, action in map(_folders, found) if _ACTION.fullmatch(action)})
        self._subjects = {person: number for number, person in enumerate(people, 1)}
        self.facts = replace(FACTS, decided=repr(people))
        self.reader = partial(read_clip, subjects=self._subjects)

    def files(self) -> list[RawFile]:
        return self._files

    def remarks(self, names: Sequence[str], findings: Sequence[Finding]) -> list[str]:
        """That subjects have other numbers where not all are there."""
        if (there := len(self._subjects)) == SUBJECTS:
            return []
        return [f"{there} of {SUBJECTS} people: subjects are numbered by sorted name, so split xsub is another one"]


def read_clip(file: RawFile, subjects: Mapping[str, int]) -> RawClip:
    """The clip PERSON_videoA of a file PERSON/videoA/sklWorld.mat; ValueError where it is no such thing."""
    person, action = _folders(file)
    matched = _ACTION.fullmatch(action)
    if not matched:
        raise ValueError("does not lie in a folder PERSON/videoA")
    joints = read_joints(file, "SW")
    return RawClip(f"{person}_{action}", int(matched[1]) - 1, joints, {"subject": subjects[person]})


def _folders(file: RawFile) -> tuple[str, str]:
    """PERSON and videoA, the two folders that a file lies in."""
    path: PurePath = PurePosixPath(file.member) if file.member else file.path
    return path.parent.parent.name, path.parent.name
