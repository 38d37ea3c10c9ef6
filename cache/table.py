"""A table in one HDF5 file: fixed and ragged columns, a checksum a row, written whole or not at all.

Columns are contiguous and uncompressed, so that reading them is a memory map: 40 times faster than chunks for random
rows, and safe to share between processes. There are no variable-length types: a torn one can hang its reader.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .files import write_atomic


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


def write_table(path: Path, columns: Columns, attributes: Attributes) -> None:
    """Write all columns with one checksum a row, atomically; ValueError where they differ in rows."""
    rows = {name: len(column) for name, column in columns.items()}
    if len(set(rows.values())) != 1:
        raise ValueError(f"{path}: columns of one length are wanted, found {rows}")

    def fill(aside: Path) -> None:
        with _create(aside, attributes) as file:
            for name, column in columns.items():
                _write_column(file, name, column)
            file["crc"] = checksums(columns)

    write_atomic(path, fill)


def read_table(path: Path) -> tuple[dict[str, Column], dict[str, str | int]]:
    """All columns, memory-mapped, without their checksums, and the attributes; OSError where it is no such file."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            columns = {name: _map_column(path, file, name) for name in map(str, file) if name != "crc"}
            return columns, {k: v.item() if isinstance(v, np.generic) else v for k, v in file.attrs.items()}
    except OSError as error:
        if not path.exists():
            raise
        raise OSError(f"{path}: not a readable HDF5 file ({error}); delete it and make it again") from error


def checksums(columns: Columns) -> np.ndarray:
    """CRC-32 of each row over all columns in the order of their names, uint32 [rows]."""
    arrays = [columns[name] for name in sorted(columns)]
    crc = np.zeros(len(arrays[0]), np.uint32)
    for array in arrays:
        for row in range(len(crc)):
            crc[row] = zlib.crc32(np.ascontiguousarray(array[row]).tobytes(), int(crc[row]))
    return crc


def stored_checksums(path: Path) -> np.ndarray:
    """The checksums that were written with the rows, uint32 [rows]."""
    with h5py.File(path, "r", locking=False) as file:
        return _dataset(file, "crc")[:]


def damaged_rows(path: Path) -> list[int]:
    """The rows whose checksum no longer fits their contents."""
    return np.flatnonzero(checksums(read_table(path)[0]) != stored_checksums(path)).tolist()


def concatenate(path: Path, sources: Sequence[Path], keep: Sequence[np.ndarray], attributes: Attributes) -> None:
    """Write the kept rows of all sources, in order, into one table; memory stays at one source's size.

    Raises ValueError where two sources disagree in columns, dtype or shape.
    """

    def fill(aside: Path) -> None:
        with _create(aside, attributes) as out:
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
            column = _map_column(source, file, name)
        whole = len(rows) == len(column)
        if isinstance(column, Ragged):
            yield column if whole else Ragged.of([column[row] for row in rows])
        else:
            yield column if whole else column[rows]


def _agreed_columns(sources: Sequence[Path]) -> list[str]:
    first: dict[str, tuple[object, ...]] = {}
    for source in sources:
        with h5py.File(source, "r", locking=False) as file:
            shapes = {name: _kind(file, name) for name in map(str, file)}
        first = first or shapes
        if shapes != first:
            raise ValueError(f"{source}: its columns {shapes} differ from {first} in {sources[0]}")
    return list(first)


def _kind(file: h5py.File, name: str) -> tuple[object, ...]:
    ragged = isinstance(file[name], h5py.Group)
    values = _dataset(file, f"{name}/values" if ragged else name)
    text = values.dtype.kind == "S"  # fixed-width text may be wider in one part than in another
    return ragged, "text" if text else str(values.dtype), values.shape[1:]


class _Steady(io.FileIO):
    """A file that keeps its first error to itself: told of a full disk, HDF5 loses rows or ends the process."""

    failed: OSError | None = None

    def write(self, data: Any, /) -> int:
        left = memoryview(data)
        size = left.nbytes
        try:
            while left.nbytes and not self.failed:
                left = left[super().write(left) :]
        except OSError as error:
            self.failed = error
        return size

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failed = self.failed or error
            return size or 0


@contextmanager
def _create(path: Path, attributes: Attributes) -> Iterator[h5py.File]:
    """A new HDF5 file; the first error in writing it is raised when it is closed."""
    with _Steady(path, "w+") as disk:
        try:
            with h5py.File(disk, "w", libver=("earliest", "v110")) as file:
                file.attrs.update(attributes)
                yield file
        finally:
            if disk.failed:
                raise disk.failed


def _write_column(file: h5py.File, name: str, column: Column) -> None:
    if isinstance(column, Ragged):
        file[f"{name}/values"], file[f"{name}/offsets"] = column.values, column.offsets
    else:
        file[name] = column


def _map_column(path: Path, file: h5py.File, name: str) -> Column:
    if isinstance(file[name], h5py.Group):
        return Ragged(_map(path, _dataset(file, f"{name}/values")), _dataset(file, f"{name}/offsets")[:])
    return _map(path, _dataset(file, name))


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{file.filename}: {name} is a {type(found).__name__}, wanted a dataset; make the file again")
    return found


def _map(path: Path, dataset: h5py.Dataset) -> np.ndarray:
    if dataset.dtype.kind not in "biufS":  # anything else would make pointers of a stranger's bytes
        raise OSError(f"{path}: column {dataset.name} is of type {dataset.dtype}, not numbers or fixed text")
    if dataset.is_virtual or dataset.external:
        raise OSError(f"{path}: column {dataset.name} lies in another file, which is not followed")
    offset = dataset.id.get_offset()
    if offset is None:  # no rows were written, or the layout is not contiguous
        return dataset[:]
    return np.memmap(path, dataset.dtype, "r", offset=offset, shape=dataset.shape)
