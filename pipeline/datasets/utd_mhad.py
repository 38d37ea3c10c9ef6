"""UTD-MHAD (Chen et al., ICIP 2015): 27 actions, 8 subjects, 4 trials, one Kinect v1.

RAW/.../aA_sS_tT_skeleton.mat with `d_skel` [20, 3, T] in metres. Odd subjects train, even subjects test.
Videos are aA_sS_tT_color.avi; aA_sS_tT_depth.mp4 where only depth is there.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from ..layouts import KINECT_V1_UTD
from ..prepare import RawClip, SplitRule, by_column, files_of

SPLITS = {"xsub": SplitRule(by_column("subject", lambda s: s % 2 == 1, lambda s: s % 2 == 0), (431, 430))}
_NAME = re.compile(r"(a(\d+)_s(\d+)_t(\d+))_skeleton")


class UtdMhad:
    classes = (
        *("swipe left", "swipe right", "wave", "clap", "throw", "arm cross", "basketball shoot", "draw x"),
        *("draw circle clockwise", "draw circle counter clockwise", "draw triangle", "bowling", "boxing"),
        *("baseball swing", "tennis swing", "arm curl", "tennis serve", "push", "knock", "catch", "pickup and throw"),
        *("jog", "walk", "sit to stand", "stand to sit", "lunge", "squat"),
    )
    layout = KINECT_V1_UTD

    def __init__(self, raw: Path) -> None:
        self._raw = raw
        self.splits = SPLITS

    def files(self) -> list[Path]:
        return files_of(self._raw, "a*_s*_t*_skeleton.mat", "UTD-MHAD skeletons (aA_sS_tT_skeleton.mat)")

    def read(self, path: Path) -> RawClip:
        matched = _NAME.fullmatch(path.stem)
        if not matched:
            raise ValueError("name is not of the form aA_sS_tT_skeleton.mat")
        action, subject, trial = map(int, matched.groups()[1:])
        joints = np.asarray(_read_mat(path)["d_skel"], np.float32).transpose(2, 0, 1)[None]
        return RawClip(matched[1], action - 1, joints, {"subject": subject, "trial": trial})


def _read_mat(path: Path) -> dict[str, np.ndarray]:
    try:
        return loadmat(str(path), variable_names=["d_skel"])
    except (
        Exception
    ) as error:  # loadmat raises whatever a damaged file makes of it, zlib.error and TypeError among them
        raise ValueError(f"not a readable MATLAB file ({error})") from error
