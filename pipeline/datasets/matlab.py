"""Skeletons in MATLAB files."""

from __future__ import annotations

import io

import numpy as np

from ..preparation.raw import RawFile

JOINTS = 20  # of the first Kinect


def read_joints(file: RawFile, variable: str) -> np.ndarray:
    """One body's joints from the array [20, 3, T] of that name, float32 [1, T, 20, 3]; ValueError if it is not so."""
    found = _read_mat(file.read(), variable)
    if variable not in found:
        raise ValueError(f"no array {variable} in it")
    joints = found[variable]
    if joints.shape == (JOINTS, 3):  # MATLAB drops the last axis of a single frame
        joints = joints[..., None]
    if joints.ndim != 3 or joints.shape[:2] != (JOINTS, 3):
        raise ValueError(f"{variable} of shape {list(joints.shape)}, wanted [{JOINTS}, 3, frames]")
    return joints.astype(np.float32).transpose(2, 0, 1)[None]


def _read_mat(content: bytes, variable: str) -> dict[str, np.ndarray]:
    from scipy.io import loadmat  # a fifth of a second that only these data sets need

    try:
        return loadmat(io.BytesIO(content), variable_names=[variable])
    except (
        Exception
    ) as error:  # loadmat raises whatever a damaged file makes of it, zlib.error and TypeError among them
        raise ValueError(f"not a readable MATLAB file ({error})") from error
