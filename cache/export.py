"""A merged cache as one .npz file that numpy alone reads, without pickle."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from .files import write_atomic
from .mapped import Column, Ragged
from .store import open_cache, verify

BYTES = 1 << 24  # of a column in memory at once


def export(folder: Path, out: Path) -> Path:
    """Write the cache in `folder` to `out` and give its path: `numpy.load(out)` has every column by its name.

    Text, as `name`, `failure` and `answer_text`, is unicode of fixed width; a ragged column is NAME/values and
    NAME/offsets; `recipe` is what it was made with, as JSON. Memory stays small however large the cache is.
    Raises ValueError where the cache is not finished, or `out` is not called .npz; OSError where rows are damaged.
    """
    rows = open_cache(folder)
    if out.suffix != ".npz":
        raise ValueError(f"{out}: an export is an .npz file; call it {out.with_suffix('.npz').name}")
    if "recipe" in rows.columns:
        raise ValueError(f"{folder}: has a column 'recipe', which an export keeps for itself")
    if damaged := verify(folder):
        raise OSError(f"{folder}: {len(damaged)} rows are damaged, such as {damaged[0]}; `mmcl cache verify` names all")
    recipe = np.array([json.dumps(rows.recipe.as_dict(), sort_keys=True)])

    def fill(aside: Path) -> None:
        with ZipFile(aside, "w", ZIP_STORED) as file:
            for name, column in sorted(rows.columns.items()):
                for label, array in _arrays(name, column):
                    _write(file, label, array)
            _write(file, "recipe", recipe)

    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, fill)
    return out


def _arrays(name: str, column: Column) -> list[tuple[str, np.ndarray]]:
    if isinstance(column, Ragged):
        return [(f"{name}/values", column.values), (f"{name}/offsets", column.offsets)]
    return [(name, column)]


def _write(file: ZipFile, name: str, array: np.ndarray) -> None:
    """One array as a member of the file, block by block; the date is always the same, so that bytes are too."""
    blocks, dtype = _blocks(array)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": array.shape}
    with file.open(ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for block in blocks():
            member.write(block.astype(dtype).tobytes())


def _blocks(array: np.ndarray) -> tuple[Callable[[], Iterator[np.ndarray]], np.dtype]:
    """The array in pieces and the type to write; bytes of text become unicode as wide as the longest."""
    step = max(1, BYTES // max(array[:1].nbytes, 1))

    def pieces() -> Iterator[np.ndarray]:
        for start in range(0, len(array), step):
            yield array[start : start + step]

    def texts() -> Iterator[np.ndarray]:
        for piece in pieces():
            yield np.char.decode(piece, "utf-8", "replace")

    if array.dtype.kind == "S":
        return texts, np.result_type("U1", *{text.dtype for text in texts()})
    return pieces, array.dtype
