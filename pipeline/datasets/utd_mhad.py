"""UTD-MHAD (Chen et al., ICIP 2015): 27 actions, 8 subjects, 4 trials, one Kinect v1.

RAW/.../aA_sS_tT_skeleton.mat with `d_skel` [20, 3, T] in metres. Odd subjects train, even subjects test.
Videos are aA_sS_tT_color.avi; aA_sS_tT_depth.mp4 where only depth is there.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..preparation.dataset import Facts, RawClip, SplitRule, by_column
from ..preparation.layouts import KINECT_V1_UTD
from ..preparation.raw import RawFile, find_raw
from .matlab import read_joints
from .transfers import from_ntu120

CLASSES = (
    *("swipe left", "swipe right", "wave", "clap", "throw", "arm cross", "basketball shoot", "draw x"),
    *("draw circle clockwise", "draw circle counter clockwise", "draw triangle", "bowling", "boxing"),
    *("baseball swing", "tennis swing", "arm curl", "tennis serve", "push", "knock", "catch", "pickup and throw"),
    *("jog", "walk", "sit to stand", "stand to sit", "lunge", "squat"),
)
# the six classes of the MMCL paper, 191 clips: own class, its A number in NTU RGB+D 120
NTU120_ACTIONS = {
    "wave": 23,
    "arm cross": 96,
    "basketball shoot": 63,
    "sit to stand": 9,
    "stand to sit": 8,
    "squat": 80,
}
FACTS = Facts(
    CLASSES,
    KINECT_V1_UTD,
    {"xsub": SplitRule(by_column("subject", lambda s: s % 2 == 1, lambda s: s % 2 == 0), (431, 430))},
    transfers=(from_ntu120(KINECT_V1_UTD, NTU120_ACTIONS, "the paper"),),
)
_NAME = re.compile(r"(a(\d+)_s(\d+)_t(\d+))_skeleton")


class UtdMhad:
    facts = FACTS

    def __init__(self, raw: Path) -> None:
        self._raw = raw
        self.reader = read_clip

    def files(self) -> list[RawFile]:
        return find_raw(self._raw, "a*_s*_t*_skeleton.mat", "UTD-MHAD skeletons (aA_sS_tT_skeleton.mat)")


def read_clip(file: RawFile) -> RawClip:
    """One clip of a file named aA_sS_tT_skeleton.mat; ValueError where name or content are no such thing."""
    matched = _NAME.fullmatch(file.stem)
    if not matched:
        raise ValueError("name is not of the form aA_sS_tT_skeleton.mat")
    action, subject, trial = map(int, matched.groups()[1:])
    return RawClip(matched[1], action - 1, read_joints(file, "d_skel"), {"subject": subject, "trial": trial})
