"""Joints of one layout made of another's."""

from __future__ import annotations

import numpy as np

from .layout import JointMap


def convert(joints: np.ndarray, joint_map: JointMap) -> np.ndarray:
    """Joints [..., V, 3] of one layout as those of another, float32 [..., V', 3].

    A joint that is made of one that is not there (all zero) is not there either.
    """
    made = np.zeros((*joints.shape[:-2], len(joint_map), joints.shape[-1]), np.float32)
    there = np.any(joints != 0, axis=-1)
    for target, parts in enumerate(joint_map):
        index = [joint for joint, _ in parts]
        weights = np.array([weight for _, weight in parts], np.float32)
        summed = np.einsum("...vc,v->...c", joints[..., index, :], weights)
        made[..., target, :] = summed * there[..., index].all(-1, keepdims=True)
    return made
