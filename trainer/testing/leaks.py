"""Test clips that were trained on under another name."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ...cache.skeletons import Skeletons


def leaked(skeletons: Skeletons, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Which of the rows `test` have the very joints of a row of `train`, bool [test].

    A result on such a clip is memory: NW-UCLA as it is distributed for CTR-GCN has 95 of them.
    """
    joints, seen = skeletons.joints, defaultdict[tuple[bytes, ...], list[int]](list)
    starts, lengths = joints.offsets[:-1], np.diff(joints.offsets)
    looked_at = joints.values[starts], joints.values[starts + lengths // 2]  # where these agree, all of a clip is

    def key(row: int) -> tuple[bytes, ...]:
        return lengths[row].tobytes(), *(frames[row].tobytes() for frames in looked_at)

    for row in train.tolist():
        seen[key(row)].append(row)
    return np.array([any(np.array_equal(joints[row], joints[twin]) for twin in seen.get(key(row), ())) for row in test])
