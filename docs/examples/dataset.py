"""GREETINGS, a data set that is made up: waves and bows, one Kinect v2, a text file a clip.

RAW/.../P03_wave_2.txt: performer 3's second wave. A line a frame, 25 joints of x, y, z in metres. Odd performers train.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from mmcl.pipeline.preparation.dataset import Facts, RawClip, SplitRule, by_column
from mmcl.pipeline.preparation.layouts import KINECT_V2
from mmcl.pipeline.preparation.raw import RawFile, find_raw

CLASSES = ("bow", "wave")
SPLITS = {"xsub": SplitRule(by_column("subject", lambda s: s % 2 == 1, lambda s: s % 2 == 0))}
_NAME = re.compile(r"P(\d\d)_(bow|wave)_(\d)")


class Greetings:
    facts = Facts(CLASSES, KINECT_V2, SPLITS)

    def __init__(self, raw: Path) -> None:
        self._raw = raw
        self.reader = read_clip  # a plain function: it goes to other processes

    def files(self) -> list[RawFile]:
        return find_raw(self._raw, "P*_*_*.txt", "Greetings skeletons (PNN_CLASS_N.txt)")


def read_clip(file: RawFile) -> RawClip:
    """One clip; ValueError where name or content are no such thing, which makes the file a finding, never the end."""
    matched = _NAME.fullmatch(file.stem)
    if not matched:
        raise ValueError("name is not of the form PNN_CLASS_N.txt")
    subject, label, trial = int(matched[1]), CLASSES.index(matched[2]), int(matched[3])
    frames = np.array([line.split() for line in file.read().decode().splitlines()], np.float32)
    if frames.ndim != 2 or frames.shape[1] != 75:
        raise ValueError(f"lines of {frames.shape[-1]} numbers, wanted 75: 25 joints of x, y, z")
    joints = frames.reshape(1, -1, 25, 3)  # bodies, frames, joints, axes
    return RawClip(file.stem, label, joints, {"subject": subject, "trial": trial})
