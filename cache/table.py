"""A table in one HDF5 file: fixed and ragged columns, a checksum a row, written whole or not at all.

Columns are contiguous and uncompressed, so that reading them is a memory map: 40 times faster than chunks for random
rows, and safe to share between processes. There are no variable-length types: a torn one can hang its reader.
"""

from __future__ import annotations

import errno
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths: row i is values[offsets[i]:offsets[i + 1]]."""

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @staticmethod
    def of(rows: Sequence[np.ndarray]) -> Ragged:
        """Rows laid end to end; they agree in dtype and in every axis but the first."""
        lengths = [len(row) for row in rows]
        return Ragged(np.concatenate(list(rows)), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


Column = np.ndarray | Ragged
Columns = Mapping[str, Column]
Attributes = Mapping[str, str | int]


def write_atomic(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a file aside, then fsync and rename it: a reader sees the whole file or the old one.

    Raises OSError; one that says so where the disk is full.
    """
    aside = path.with_name(f"{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    try:
        fill(aside)
        _fsync(aside)
        aside.replace(path)
        _fsync(path.parent)
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOSPC):
            raise
        if getattr(error, "errno", None) == errno.ENOSPC or shutil.disk_usage(path.parent).free < 1 << 20:
            raise OSError(
                errno.ENOSPC, "the disk is full; free some space and run the same command again", str(path)
            ) from error
        raise
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()


def write_table(path: Path, columns: Columns, attributes: Attributes) -> None:
    """Write all columns with one checksum a row, atomically."""

    def fill(aside: Path) -> None:
        with h5py.File(aside, "w", libver=("earliest", "v110"), locking=False) as file:
            file.attrs.update(attributes)
            for name, column in columns.items():
                _write_column(file, name, column)
            file["crc"] = checksums(columns)

    write_atomic(path, fill)


def read_table(path: Path) -> tuple[dict[str, Column], dict[str, str | int]]:
    """All columns, memory-mapped, without their checksums, and the attributes; OSError where it is no such file."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            columns = {name: _map_column(path, file[name]) for name in file if name != "crc"}
            return columns, {k: v.item() if isinstance(v, np.generic) else v for k, v in file.attrs.items()}
    except OSError as error:
        if not path.exists():
            raise
        raise OSError(f"{path}: not a readable HDF5 file ({error}); make it again") from error


def checksums(columns: Columns) -> np.ndarray:
    """CRC-32 of each row over all columns in the order of their names, uint32 [rows]."""
    arrays = [columns[name] for name in sorted(columns)]
    crc = np.zeros(len(arrays[0]), np.uint32)
    for array in arrays:
        for row in range(len(crc)):
            crc[row] = zlib.crc32(np.ascontiguousarray(array[row]).tobytes(), int(crc[row]))
    return crc


def damaged_rows(path: Path) -> list[int]:
    """The rows whose checksum no longer fits their contents."""
    columns, _ = read_table(path)
    with h5py.File(path, "r", locking=False) as file:
        wanted = file["crc"][:]
    return np.flatnonzero(checksums(columns) != wanted).tolist()


def concatenate(path: Path, sources: Sequence[Path], keep: Sequence[np.ndarray], attributes: Attributes) -> None:
    """Write the kept rows of all sources, in order, into one table; memory stays at one source's size.

    Raises ValueError where two sources disagree in columns, dtype or shape.
    """

    def fill(aside: Path) -> None:
        with h5py.File(aside, "w", libver=("earliest", "v110"), locking=False) as out:
            out.attrs.update(attributes)
            for name in _agreed_columns(sources):
                _concatenate_column(out, name, partial(_kept, sources, keep, name))

    write_atomic(path, fill)


def _concatenate_column(out: h5py.File, name: str, pieces: Callable[[], Iterator[Column]]) -> None:
    """Two passes over the sources: one to know the sizes, one to copy; one source is open at a time."""
    if not isinstance(next(pieces()), Ragged):
        _write_pieces(out, name, lambda: (np.asarray(piece) for piece in pieces()))
        return
    lengths = np.concatenate([np.diff(piece.offsets) for piece in pieces() if isinstance(piece, Ragged)])
    _write_pieces(out, f"{name}/values", lambda: (piece.values for piece in pieces() if isinstance(piece, Ragged)))
    out[f"{name}/offsets"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _write_pieces(out: h5py.File, name: str, pieces: Callable[[], Iterator[np.ndarray]]) -> None:
    dtype = np.result_type(*{piece.dtype for piece in pieces()})
    shape = (sum(len(piece) for piece in pieces()), *next(pieces()).shape[1:])
    target = out.create_dataset(name, shape, dtype)
    start = 0
    for piece in pieces():
        target[start : start + len(piece)] = piece
        start += len(piece)


def _kept(sources: Sequence[Path], keep: Sequence[np.ndarray], name: str) -> Iterator[Column]:
    for source, rows in zip(sources, keep, strict=True):
        with h5py.File(source, "r", locking=False) as file:
            column = _map_column(source, file[name])
        whole = len(rows) == len(column)
        if isinstance(column, Ragged):
            yield column if whole else Ragged.of([column[row] for row in rows])
        else:
            yield column if whole else column[rows]


def _agreed_columns(sources: Sequence[Path]) -> list[str]:
    first: dict[str, tuple[object, ...]] = {}
    for source in sources:
        with h5py.File(source, "r", locking=False) as file:
            shapes = {name: _kind(file[name]) for name in file}
        first = first or shapes
        if shapes != first:
            raise ValueError(f"{source}: its columns {shapes} differ from {first} in {sources[0]}")
    return list(first)


def _kind(node: h5py.Dataset | h5py.Group) -> tuple[object, ...]:
    values = node["values"] if isinstance(node, h5py.Group) else node
    text = values.dtype.kind == "S"  # fixed-width text may be wider in one part than in another
    return isinstance(node, h5py.Group), "text" if text else str(values.dtype), values.shape[1:]


def _write_column(file: h5py.File, name: str, column: Column) -> None:
    if isinstance(column, Ragged):
        file[f"{name}/values"], file[f"{name}/offsets"] = column.values, column.offsets
    else:
        file[name] = column


def _map_column(path: Path, node: h5py.Dataset | h5py.Group) -> Column:
    if isinstance(node, h5py.Group):
        return Ragged(_map(path, node["values"]), node["offsets"][:])
    return _map(path, node)


def _map(path: Path, dataset: h5py.Dataset) -> np.ndarray:
    offset = dataset.id.get_offset()
    if offset is None:  # no rows were written, or the layout is not contiguous
        return dataset[:]
    return np.memmap(path, dataset.dtype, "r", offset=offset, shape=dataset.shape)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
