"""Arrays of numbers in an npz file, some rows at a time: it may be much larger than memory, and a stranger's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
from numpy.lib import format as npy

from .raw import TORN_ZIP

DAMAGED = "damaged in the npz file"
SHOWN = 200  # characters of what is in a file


class NpzArray:
    """The array `key` of an open npz file; ValueError where it is no array of numbers, row after row, all there."""

    def __init__(self, archive: ZipFile, key: str) -> None:
        self._archive, self._member = archive, f"{key}.npy"
        self._stream: IO[bytes] | None = None
        info = archive.getinfo(self._member)
        with _explained(f"{archive.filename}: {key} can't be read"):
            if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
                raise ValueError("compressed in a way that numpy does not know")
            with archive.open(info) as file:
                if npy.read_magic(file) != (1, 0):
                    raise ValueError("a header that is no plain array's")
                self.shape, by_columns, self.dtype = npy.read_array_header_1_0(file)
                self._start = file.tell()
        if self.dtype.kind not in "fiub" or by_columns or not self.shape or min(self.shape) < 0:
            raise ValueError(f"{archive.filename}: {key} is {self.dtype} {list(self.shape)}, no rows of numbers")
        if info.file_size != self._start + self.shape[0] * self.row_bytes:
            raise ValueError(f"{archive.filename}: {key} {list(self.shape)} is not all there; get the file anew")

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def rows(self, start: int, count: int) -> np.ndarray:
        """[count, ...] from row `start` on; rows in their order cost no seeking. ValueError where they are damaged.

        That a checksum does not fit is known, and said, when the last row is read.
        """
        with _explained(DAMAGED):
            self._stream = self._stream or self._archive.open(self._member)
            self._stream.seek(self._start + start * self.row_bytes)
            content = self._stream.read(count * self.row_bytes)
            return np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])


def open_npz(path: Path, keys: Sequence[str]) -> dict[str, NpzArray]:
    """These arrays of an npz file; ValueError with what is there where one is absent or can't be read."""
    with _explained(f"{path}: not a readable npz file"):
        archive = ZipFile(path)
    found = {name.removesuffix(".npy") for name in archive.namelist()}
    if missing := [key for key in keys if key not in found]:
        there = ", ".join(sorted(found)) or "nothing"
        raise ValueError(f"{path}: no {', '.join(missing)} in it; it holds {there:.{SHOWN}}")
    return {key: NpzArray(archive, key) for key in keys}


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """A ValueError of whatever a damaged zip raises."""
    try:
        yield
    except (*TORN_ZIP, ValueError) as error:
        raise ValueError(f"{what} ({error})") from error
