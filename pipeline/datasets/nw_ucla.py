"""Northwestern-UCLA Multiview Action 3D (Wang et al., CVPR 2014), as CTR-GCN distributes its skeletons.

RAW/.../aAA_sSS_eEE_vVV.json with `skeletons` [T][20][3] and `label` 1..10. The label stands in the file: the action
number in the name skips 7 and 10. Cross-view: views 1 and 2 train, view 3 tests. In these files 95 clips of view 3 are
copies of clips of view 2: `mmcl data check` names them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from ..preparation.layouts import KINECT_V1
from ..preparation.prepare import Facts, RawClip, SplitRule, by_column
from ..preparation.raw import RawFile, find_raw

CLASSES = (
    *("pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down", "stand up"),
    *("donning", "doffing", "throw", "carry"),
)
SPLITS = {"xview": SplitRule(by_column("view", lambda view: view in (1, 2), lambda view: view == 3), (1020, 464))}
NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)")


class NwUcla:
    facts = Facts(CLASSES, KINECT_V1, SPLITS)

    def __init__(self, raw: Path) -> None:
        self._raw = raw
        self.reader = read_json

    def files(self) -> list[RawFile]:
        return find_raw(self._raw, "a??_s??_e??_v??.json", "NW-UCLA skeletons (aAA_sSS_eEE_vVV.json)")


def read_json(file: RawFile) -> RawClip:
    matched = NAME.fullmatch(file.stem)
    if not matched:
        raise ValueError("name is not of the form aAA_sSS_eEE_vVV.json")
    _, subject, trial, view = map(int, matched.groups())
    found = json.loads(file.read())
    joints = np.asarray(found["skeletons"], np.float32)[None]
    return RawClip(file.stem, int(found["label"]) - 1, joints, {"subject": subject, "view": view, "trial": trial})
