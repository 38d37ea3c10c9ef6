"""A table in one HDF5 file: fixed and ragged columns, a checksum a row, written whole or not at all.

Columns are contiguous and uncompressed, so that reading them is a memory map: 40 times faster than chunks for random
rows, and safe to share between processes. There are no variable-length types: a torn one can hang its reader.
"""

from __future__ import annotations

import io
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np

from .files import write_atomic
from .mapped import Attributes, Column, Columns, Ragged, map_table

BLOCK = 512  # rows copied at a time
ALIGNED = 8  # bytes between places where a column may begin: mapped, its numbers can be computed with where they lie


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


def read_table(path: Path, only: Sequence[str] | None = None) -> tuple[dict[str, Column], dict[str, str | int]]:
    """All columns, memory-mapped, without their checksums, and the attributes, or `only` those; OSError if unreadable.

    Reading an attribute takes as long as mapping half a column.
    """
    return map_table(path, skip=("crc",), only=only)


def checksums(columns: Columns) -> np.ndarray:
    """CRC-32 of each row over all columns in the order of their names, uint32 [rows]."""
    arrays = [columns[name] for name in sorted(columns)]
    return np.array([_checksum(arrays, row) for row in range(len(arrays[0]))], np.uint32)


def _checksum(arrays: Sequence[Column], row: int) -> int:
    crc = 0
    for array in arrays:
        crc = zlib.crc32(array[row].tobytes(), crc)
    return crc


def stored_checksums(path: Path) -> np.ndarray:
    """The checksums that were written with the rows, uint32 [rows]."""
    return _crc(path, map_table(path, only=())[0])


def damaged_rows(path: Path) -> list[int]:
    """The rows whose checksum no longer fits their contents."""
    columns, _ = map_table(path, only=())
    arrays = [columns[name] for name in sorted(columns) if name != "crc"]
    return [row for row, crc in enumerate(_crc(path, columns).tolist()) if not _is_whole(arrays, row, crc)]


def _is_whole(arrays: Sequence[Column], row: int, crc: int) -> bool:
    try:
        return _checksum(arrays, row) == crc
    except ValueError:  # its offsets lead out of the values
        return False


def _crc(path: Path, columns: Columns) -> np.ndarray:
    crc = columns.get("crc")
    if not isinstance(crc, np.ndarray) or crc.dtype != np.uint32 or crc.ndim != 1:
        raise OSError(f"{path}: no checksum a row; delete it and make it again")
    return crc


def concatenate(
    path: Path,
    sources: Sequence[Path],
    keep: Sequence[np.ndarray],
    attributes: Attributes,
    more: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> None:
    """Write the kept rows of all sources, in order, into one table; memory stays at one source's size.

    `more` are further columns, a value a row of the new table. Raises ValueError where two sources disagree in columns,
    dtype or shape.
    """
    skip = ("crc",) if more else ()

    def fill(aside: Path) -> None:
        with _create(aside, attributes) as file:
            targets, filled = _targets(file, sources, keep, skip), Counter[str]()
            for source, rows in zip(sources, keep, strict=True):
                for name, column in map_table(source, skip=skip, only=())[0].items():
                    for block in _blocks(column, rows):
                        targets[name][filled[name] : filled[name] + len(block)] = block
                        filled[name] += len(block)
            if more:
                _write_more(file, sources, keep, more)

    write_atomic(path, fill)


def _write_more(
    file: h5py.File, sources: Sequence[Path], keep: Sequence[np.ndarray], more: Mapping[str, np.ndarray]
) -> None:
    """Columns that no source has, and checksums of whole rows, which the sources' are not any more."""
    crc, start = list[np.ndarray](), 0
    for source, rows in zip(sources, keep, strict=True):
        columns = map_table(source, skip=("crc",), only=())[0]
        length = len(next(iter(columns.values())))
        beside = {name: np.zeros(length, values.dtype) for name, values in more.items()}
        for name, values in beside.items():
            values[rows] = more[name][start : start + len(rows)]
        crc.append(checksums(columns | beside)[rows])
        start += len(rows)
    for name, values in more.items():
        file[name] = values
    file["crc"] = np.concatenate(crc)


def _targets(
    file: h5py.File, sources: Sequence[Path], keep: Sequence[np.ndarray], skip: Collection[str]
) -> dict[str, h5py.Dataset]:
    """The data set that each column's values go to, of its final size; the offsets of ragged ones are written."""
    wanted: dict[str, Column] = {}
    dtypes, lengths = dict[str, np.dtype](), defaultdict[str, list[np.ndarray]](list)
    for source, rows in zip(sources, keep, strict=True):
        columns = map_table(source, skip=skip, only=())[0]
        wanted = wanted or columns
        if (found := _kinds(columns)) != _kinds(wanted):
            raise ValueError(f"{source}: its columns {found} differ from {_kinds(wanted)} in {sources[0]}")
        for name, column in columns.items():
            dtypes[name] = np.promote_types(dtypes.get(name, _array(column).dtype), _array(column).dtype)
            lengths[name].append(column.lengths[rows] if isinstance(column, Ragged) else np.ones_like(rows))
    targets = dict[str, h5py.Dataset]()
    for name, column in wanted.items():
        each, ragged = np.concatenate(lengths[name]), isinstance(column, Ragged)
        if ragged:
            file[f"{name}/offsets"] = _offsets(each)
        shape = (int(each.sum()), *_array(column).shape[1:])
        targets[name] = file.create_dataset(f"{name}/values" if ragged else name, shape, dtypes[name])
    return targets


def _array(column: Column) -> np.ndarray:
    return column.values if isinstance(column, Ragged) else column


def _kinds(columns: Columns) -> dict[str, tuple[object, ...]]:
    """What two tables must agree in; fixed-width text may be wider in one than in another."""
    kinds = {name: (isinstance(column, Ragged), _array(column)) for name, column in columns.items()}
    return {
        name: (ragged, "text" if array.dtype.kind == "S" else str(array.dtype), array.shape[1:])
        for name, (ragged, array) in kinds.items()
    }


def _blocks(column: Column, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The values of some rows, a few hundred rows at a time."""
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        yield np.concatenate([column[row] for row in block]) if isinstance(column, Ragged) else column[block]


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
            form = ("v110", "v110")
            with h5py.File(disk, "w", libver=form, alignment_threshold=1, alignment_interval=ALIGNED) as file:
                for name, value in attributes.items():
                    _write_attribute(file, name, value)
                yield file
        finally:
            if disk.failed:
                raise disk.failed


def _write_attribute(file: h5py.File, name: str, value: str | int) -> None:
    """A number, or text of fixed length; h5py's own choice would be of variable length."""
    if isinstance(value, str):
        text = value.encode()
        file.attrs.create(name, text, dtype=h5py.string_dtype("utf-8", max(len(text), 1)))
    else:
        file.attrs[name] = value


def _write_column(file: h5py.File, name: str, column: Column) -> None:
    if isinstance(column, Ragged):
        file[f"{name}/values"], file[f"{name}/offsets"] = column.values, _offsets(column.lengths)
    else:
        file[name] = column


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
