"""Skeletons in MATLAB files, of strangers too: what a file unpacks to is bounded before anything of it is loaded."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from ..preparation.raw import RawFile

JOINTS = 20  # of the first Kinect
MOST_FRAMES = 50_000  # half an hour at 30 a second
NUMBERS = ("double", "single", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
UNPACKED = 1 << 26  # bytes of all arrays of a file: MOST_FRAMES of doubles take a third of it
MOST_ARRAYS = 1000  # in a file: there is one
HEADER, TAG = 128, 8  # bytes
VERSION_5 = 1  # of MATLAB's file format: MATLAB 5 to 7.2, and what -v7 saves
MATRIX, COMPRESSED = 14, 15  # kinds of what follows the header


def read_joints(file: RawFile, variable: str) -> np.ndarray:
    """One body's joints from the array [20, 3, T] of that name, float32 [1, T, 20, 3]; ValueError if it is not so."""
    return read_first(file, (variable,))[1]


def read_first(file: RawFile, variables: Sequence[str]) -> tuple[str, np.ndarray]:
    """The first of these arrays that a file has: its name, and its joints as `read_joints` gives them."""
    from scipy.io import loadmat, whosmat  # a fifth of a second that only these data sets need

    content = file.read(UNPACKED)
    with _explained():
        content = unpacked(content)
        listed = whosmat(io.BytesIO(content))
    variable = next((name for name in variables if name in [found for found, *_ in listed]), " or ".join(variables))
    _check(variable, [(shape, kind) for name, shape, kind in listed if name == variable])
    with _explained():
        joints = np.asarray(loadmat(io.BytesIO(content), variable_names=[variable])[variable])
    if joints.dtype.kind not in "fiu":
        raise ValueError(f"{variable} is {joints.dtype}, wanted real numbers")
    if joints.ndim == 2:  # MATLAB drops the last axis of a single frame
        joints = joints[..., None]
    return variable, joints.astype(np.float32).transpose(2, 0, 1)[None]


def unpacked(content: bytes) -> bytes:
    """The same MATLAB file with no part compressed; ValueError where it is none of MATLAB 5 to 7, or unpacks to more.

    Source: MAT-File Format, The MathWorks, version 5: a header, then parts that begin with their kind and size.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[HEADER - 2 : HEADER])
    if order is None or struct.unpack_from(f"{order}H", content, HEADER - 4)[0] >> 8 != VERSION_5:
        raise ValueError("not of the format that MATLAB 5 to 7 write; save it anew with -v7")
    parts, at, room = [content[:HEADER]], HEADER, UNPACKED
    while at < len(content) and len(parts) <= MOST_ARRAYS:
        kind, size = struct.unpack_from(f"{order}II", content, at)
        part, at = content[at : at + TAG + size], at + TAG + size
        if kind == COMPRESSED:
            part = zlib.decompressobj().decompress(part[TAG:], room + 1)
        room -= len(part)
        if room < 0:
            raise ValueError(f"it unpacks to more than {UNPACKED:,} bytes; no skeleton is that large")
        parts.append(_matrix(part, order))
    if at < len(content):
        raise ValueError(f"more than {MOST_ARRAYS} arrays in it")
    return b"".join(parts)


def _matrix(part: bytes, order: str) -> bytes:
    """The one array that a part is, without what comes after it."""
    kind, size = struct.unpack_from(f"{order}II", part)
    if kind != MATRIX or len(part) < TAG + size:
        raise ValueError("an array is damaged, or cut short")
    return part[: TAG + size]


def _check(variable: str, there: list[tuple[tuple[int, ...], str]]) -> None:
    """ValueError where an array of the name is not 20 joints of 3 numbers, or there is none."""
    if not there:
        raise ValueError(f"no array {variable} in it")
    for shape, kind in there:
        frames = shape[2] if len(shape) == 3 else 1
        if shape[:2] != (JOINTS, 3) or len(shape) > 3:
            raise ValueError(f"{variable} of shape {list(shape)}, wanted [{JOINTS}, 3, frames]")
        if not 0 <= frames <= MOST_FRAMES:
            raise ValueError(f"{variable} of {frames:,} frames, wanted up to {MOST_FRAMES:,}")
        if kind not in NUMBERS:
            raise ValueError(f"{variable} is an array of {kind}, wanted numbers")


@contextmanager
def _explained() -> Iterator[None]:
    """A ValueError of whatever scipy makes of a damaged file, zlib.error and TypeError among them."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"not a readable MATLAB file ({error})") from error
