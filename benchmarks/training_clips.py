"""Clips as NTU RGB+D has them, made of noise: packed for our data path, padded to 300 frames for a feeder's."""

from __future__ import annotations

import numpy as np

from mmcl.cache.skeletons import TRAIN, Skeletons, Split
from mmcl.cache.table import Ragged
from mmcl.pipeline.preparation.layouts import KINECT_V2

LONGEST, USUAL, SPREAD = 300, 85, 35  # frames of a clip
SHARE_OF_TWO = 0.25  # of the clips have two bodies
ROWS = 1 << 16  # different frames; a larger set repeats them
WHERE = (0.0, 0.0, 3.0)  # metres from the camera


def clips(count: int, rule: str, seed: int = 0) -> Skeletons:
    """A data set of so many clips; as their body rule the split `xsub` has `rule`."""
    rng = np.random.default_rng(seed)
    frames = rng.normal(USUAL, SPREAD, count).clip(20, LONGEST).astype(np.int64)
    bodies = np.where(rng.random(count) < SHARE_OF_TWO, 2, 1)
    offsets = np.concatenate([[0], (frames * bodies).cumsum()])
    noise = (rng.normal(0, 0.4, (ROWS, len(KINECT_V2.joints), 3)) + WHERE).astype(np.float32)
    values = np.resize(noise, (int(offsets[-1]), *noise.shape[1:]))
    names, split = tuple(map(str, range(count))), Split(np.full(count, TRAIN, np.int8), rule)
    labels = np.zeros(count, np.int64)
    return Skeletons("noise", ("noise",), KINECT_V2, names, labels, bodies, Ragged(values, offsets), {"xsub": split})


def padded(skeletons: Skeletons, rule: str) -> np.ndarray:
    """The same as the published files hold them, float32 [clips, 300, 2 * V * C]: centred, absent bodies filled in."""
    joints, centre = len(skeletons.layout.joints), skeletons.layout.centre
    out = np.zeros((len(skeletons.names), LONGEST, 2, joints, 3), np.float32)
    for row, count in enumerate(skeletons.bodies.tolist()):
        clip = skeletons.joints[row].reshape(count, -1, joints, 3)
        clip = clip - clip[0, 0, centre]
        both = [clip[0], clip[-1]] if count == 2 or rule == "repeat" else [clip[0]]
        for slot, body in enumerate(both):
            out[row, : len(body), slot] = body
    return out.reshape(len(out), LONGEST, -1)
