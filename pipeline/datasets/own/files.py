"""A skeleton file of one's own, by what its name ends in. Nothing in a file is executed: pickles are not opened."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import PurePosixPath
from zipfile import BadZipFile, ZipFile

import numpy as np

from ....cache.skeletons import Layout
from ...preparation.raw import LIMIT, RawFile
from .pose import Pose, points_of
from .pose_json import KEYS, SCORES, pose_of, read_json
from .pose_text import read_text


def read_skeleton(file: RawFile, layout: Layout | None) -> Pose:
    """The pose in a .npy, .npz, .json, .csv or .txt file; ValueError or OSError with what is wrong with it.

    Without a layout, as while its joints are counted, joints that have names come in the file's order.
    """
    suffix = PurePosixPath(file.name).suffix.lower()
    if suffix not in READERS:
        raise ValueError(f"a {suffix or 'file without suffix'}; skeletons are {', '.join(READERS)}")
    return READERS[suffix](file.read(), layout)


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
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"not a readable .npz file ({error})") from error


def _member(archive: ZipFile, name: str) -> np.ndarray:
    info = archive.getinfo(f"{name}.npy")
    if info.file_size > LIMIT:
        raise ValueError(f"array {name} of {info.file_size:,} bytes; no clip is that large")
    return _array(archive.read(info))


def _array(content: bytes) -> np.ndarray:
    try:
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # numpy raises whatever a damaged head makes of it, TokenError among them
        raise ValueError("not a .npy file of numbers (pickles and archives are not opened)") from error


READERS: dict[str, Callable[[bytes, Layout | None], Pose]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".json": read_json,
    ".csv": read_text,
    ".txt": read_text,
}
