"""A skeleton file of one's own, by what its name ends in. Nothing in a file is executed: pickles are not opened."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import PurePosixPath
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy

from ....cache.skeletons import Layout
from ...preparation.raw import LIMIT, TORN_ZIP, RawFile
from .pose import Pose, points_of
from .pose_json import KEYS, SCORES, pose_of, read_json
from .pose_text import read_text

# how files begin that people call .npy
STARTS = ((b"PK", "but a zip; is it a .npz?"), (b"\x80", "but a pickle, which is not opened"))


def read_skeleton(file: RawFile, layout: Layout | None) -> Pose:
    """The pose in a .npy, .npz, .json, .csv or .txt file; ValueError or OSError with what is wrong with it.

    Without a layout, as while its joints are counted, joints that have names come in the file's order.
    """
    suffix = PurePosixPath(file.name).suffix.lower()
    if suffix not in READERS:
        raise ValueError(f"a {suffix or 'file without suffix'}; skeletons are {', '.join(READERS)}")
    if not (content := file.read()):
        raise ValueError("an empty file")
    return READERS[suffix](content, layout)


def _read_npy(content: bytes, layout: Layout | None) -> Pose:
    return Pose(points_of(_array(content), layout))


def _read_npz(content: bytes, layout: Layout | None) -> Pose:
    """The one array of an archive, or the one that is called as poses are; scores may lie beside it."""
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            key = names[0] if len(names) == 1 else next((key for key in KEYS if key in names), None)
            if key is None:
                raise ValueError(f"arrays {', '.join(names[:6]) or 'none'}; wanted one, or one of {', '.join(KEYS)}")
            score = next((name for name in SCORES if name in names), None)
            return pose_of(_member(archive, key), _member(archive, score) if score else None, layout)
    except TORN_ZIP as error:
        raise ValueError(f"not a readable .npz file ({error})") from error


def _member(archive: ZipFile, name: str) -> np.ndarray:
    info = archive.getinfo(f"{name}.npy")
    if info.file_size > LIMIT:
        raise ValueError(f"array {name} of {info.file_size:,} bytes; no clip is that large")
    try:
        return _array(archive.read(info))
    except ValueError as error:
        raise ValueError(f"array {name}: {error}") from error


def _array(content: bytes) -> np.ndarray:
    """The numbers of a .npy file; ValueError with what it is instead."""
    if not content.startswith(npy.MAGIC_PREFIX):
        raise ValueError(f"not a .npy file{_known(content)}")
    stream = io.BytesIO(content)
    shape, dtype = _header(stream)
    if dtype.hasobject:
        raise ValueError("holds objects (a pickle), which are not opened; save an array of numbers")
    claimed, there = math.prod(shape) * dtype.itemsize, len(content) - stream.tell()
    if claimed > LIMIT:
        raise ValueError(f"a header that claims {claimed:,} bytes of numbers; the file holds {there:,}")
    if claimed > there:
        raise ValueError(f"cut short: {there:,} of {claimed:,} bytes of numbers")
    return npy.read_array(io.BytesIO(content), allow_pickle=False)


def _known(content: bytes) -> str:
    """What other programs' first bytes tell."""
    return next((f", {what}" for start, what in STARTS if content.startswith(start)), "")


def _header(stream: io.BytesIO) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type; `stream` is at the numbers then."""
    try:
        read = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(stream)
    except Exception as error:  # numpy raises whatever a damaged head makes of it, TokenError among them
        broken = "a damaged header" if stream.read(1) else "cut short: the header breaks off"
        raise ValueError(f"{broken}; not a .npy file that can be read") from error
    if min(shape, default=0) < 0:
        raise ValueError(f"a damaged header: shape {list(shape)}")
    return shape, dtype


READERS: dict[str, Callable[[bytes, Layout | None], Pose]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".json": read_json,
    ".csv": read_text,
    ".txt": read_text,
}
