"""Opening a table's file: its columns as views into one memory map, and nothing that leads out of that file.

Every file may be a stranger's. Only numbers and fixed text that lie contiguous in it, directly linked, are taken; links
to elsewhere, virtual or external storage, and types that are pointers in memory are refused before a value is read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import h5py
import numpy as np

# h5py's low level has no stubs; its high level takes twice the time to open a table.
h5a, h5d, h5f, h5g, h5i, h5l, h5o, h5p, h5t = (
    getattr(h5py, name) for name in ("h5a", "h5d", "h5f", "h5g", "h5i", "h5l", "h5o", "h5p", "h5t")
)


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths: row i is values[offsets[i]:offsets[i + 1]].

    Offsets are checked where they are used, so that opening a long column reads nothing of it: a row that does not lie
    inside the values is a ValueError when it is asked for.
    """

    values: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        if self.offsets.ndim != 1 or self.offsets.dtype.kind not in "iu" or not len(self.offsets):
            found = f"{self.offsets.dtype} {list(self.offsets.shape)}"
            raise ValueError(f"offsets of a ragged column are {found}, wanted integers [rows + 1]")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        start, end = int(self.offsets[row]), int(self.offsets[row + 1])
        if not 0 <= start <= end <= len(self.values):
            raise ValueError(f"row {row} of a ragged column runs from {start} to {end} of {len(self.values)} values")
        return self.values[start:end]

    @property
    def lengths(self) -> np.ndarray:
        """The length of each row, int64 [rows]; ValueError where offsets do not rise from 0 to the number of values."""
        offsets, size = self.offsets.astype(np.int64), len(self.values)
        lengths = np.diff(offsets)
        if offsets[0] != 0 or offsets[-1] != size or (lengths < 0).any():
            raise ValueError(f"offsets of a ragged column do not rise from 0 to {size}, the number of its values")
        return lengths

    @staticmethod
    def of(rows: Sequence[np.ndarray]) -> Ragged:
        """Rows laid end to end; they agree in dtype and in every axis but the first."""
        lengths = [len(row) for row in rows]
        return Ragged(np.concatenate(list(rows)), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


Column = np.ndarray | Ragged
Columns = Mapping[str, Column]
Attributes = Mapping[str, str | int]


def map_table(
    path: Path, *, skip: Collection[str] = (), only: Sequence[str] | None = None
) -> tuple[dict[str, Column], dict[str, str | int]]:
    """The columns of the file at `path` but those to `skip`, mapped, and its attributes, or `only` those named.

    Raises OSError where it is no such file.
    """
    try:
        file = h5f.open(os.fsencode(path), h5f.ACC_RDONLY, _READING)
        try:
            disk = mmap(file.get_vfd_handle(), 0, access=ACCESS_READ)  # the file that HDF5 opened, and no later one
            columns = {name: _column(found, disk) for name, found in _members(file, skip).items()}
            attributes = _attributes(file, only)
        finally:
            file.close()
        if len(rows := {len(column) for column in columns.values()}) > 1:
            raise OSError(f"its columns have {sorted(rows)} rows")
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:  # whatever HDF5 makes of damaged bytes
        if isinstance(error, OSError) and error.errno is not None:  # the system's word, not the file's
            raise
        raise OSError(f"{path}: not a readable HDF5 file ({error}); delete it and make it again") from error
    return columns, attributes


def _reading() -> Any:
    """How files are opened: without locks, and closed with everything in them."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_file_locking(False, True)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    return access


_READING = _reading()


def _members(group: Any, skip: Collection[str] = ()) -> dict[str, Any]:
    """What a group holds, opened; OSError where a name leads elsewhere."""
    links: list[tuple[bytes, int]] = []
    group.links.iterate(lambda name, link: links.append((name, link.type)), info=True)
    for name, kind in links:
        if kind != h5l.TYPE_HARD:
            raise OSError(f"{name.decode()} is a link to elsewhere, which is not followed")
    return {label: h5o.open(group, name) for name, _ in links if (label := name.decode()) not in skip}


def _column(found: Any, disk: mmap) -> Column:
    if not isinstance(found, h5g.GroupID):
        return _values(found, disk)
    parts = _members(found)
    if set(parts) != {"values", "offsets"}:
        raise OSError(f"group {_name(found)} holds {', '.join(sorted(parts))}, wanted values and offsets")
    return Ragged(_values(parts["values"], disk), _values(parts["offsets"], disk))


def _values(found: Any, disk: mmap) -> np.ndarray:
    """A data set as a view. Its place comes first: asked for its shape, HDF5 would open the files of a virtual one."""
    if not isinstance(found, h5d.DatasetID):
        raise OSError(f"{_name(found)} is a {type(found).__name__}, wanted a data set")
    dtype, start = _dtype(found.get_type().encode()), found.get_offset()
    if dtype.kind not in "biufS":  # anything else would make pointers of a stranger's bytes
        raise OSError(f"column {_name(found)} is of type {dtype}, not numbers or fixed text")
    if start is None:
        _check_empty(found)
    shape = found.shape
    if not shape or (start or 0) + math.prod(shape) * dtype.itemsize > len(disk):
        raise OSError(f"column {_name(found)}, {dtype} {list(shape)}, has no rows or goes beyond the end of the file")
    return np.ndarray(shape, dtype, disk, start or 0)


@lru_cache(256)
def _dtype(encoded: bytes) -> np.dtype:
    """An HDF5 type as numpy's; no type (V) where numpy has its numbers in another size only."""
    kind = h5t.decode(encoded)
    odd = kind.dtype.kind in "biufS" and kind.dtype.itemsize != kind.get_size()
    return np.dtype("V") if odd else kind.dtype


def _check_empty(found: Any) -> None:
    """OSError unless a data set without a place in the file has no values at all."""
    made = found.get_create_plist()
    if made.get_layout() == h5d.VIRTUAL or made.get_external_count():
        raise OSError(f"column {_name(found)} lies in another file, which is not followed")
    if made.get_layout() != h5d.CONTIGUOUS or math.prod(found.shape):
        raise OSError(f"column {_name(found)} is not contiguous, or was never written")


def _name(found: Any) -> str:
    return (h5i.get_name(found) or b"without a name").decode()


def _attributes(file: Any, only: Sequence[str] | None) -> dict[str, str | int]:
    names: list[bytes] = []
    if only is None:
        h5a.iterate(file, names.append)
    else:
        names += [name.encode() for name in only if h5a.exists(file, name.encode())]
    return {name.decode(): _attribute(h5a.open(file, name)) for name in names}


def _attribute(found: Any) -> str | int:
    """One number or text; OSError for anything else."""
    name, kind = found.name.decode(), found.get_type()
    dtype = _dtype(kind.encode())
    if dtype.kind not in "biuS":  # one damaged byte of a text of variable length, and HDF5 2.0 reads it for ever
        raise OSError(f"attribute {name} is of type {dtype}, not a number or text of fixed length; mmcl 0.1 wrote so")
    if found.get_storage_size() != dtype.itemsize:
        raise OSError(f"attribute {name} has more values than one")
    value = np.empty((), dtype)
    found.read(value, kind)
    content = value.item()
    return content.decode() if isinstance(content, bytes) else content
