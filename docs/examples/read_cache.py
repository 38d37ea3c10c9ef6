"""A reader of mmcl's caches that knows nothing of mmcl: python read_cache.py FOLDER/cache.h5"""

import hashlib
import json
import sys
import zlib
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np


def read_rows(path):
    """The rows of a table as dicts of arrays, and its attributes; ValueError where a row is not as it was written."""
    with h5py.File(path, "r") as file:
        said = {name: v.decode() if isinstance(v, bytes) else v for name, v in file.attrs.items()}
        columns = {name: cut(file[name]) for name in sorted(file) if name != "crc"}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        for number, (row, crc) in enumerate(zip(rows, file["crc"][:], strict=True)):
            if zlib.crc32(b"".join(value.tobytes() for value in row.values())) != crc:
                raise ValueError(f"{path}: row {number} is damaged")
    return rows, said


def cut(column):
    """A column's values row by row: of a fixed one as they lie, of a ragged one between its offsets."""
    if isinstance(column, h5py.Dataset):
        return column[:]
    values, offsets = column["values"][:], column["offsets"][:]
    return [values[start:end] for start, end in pairwise(offsets)]


def key_of(recipe):
    """The name of a cache's folder, and its attribute `key`, from what is in recipe.json."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


if __name__ == "__main__":
    rows, said = read_rows(sys.argv[1])
    recipe = Path(sys.argv[1]).with_name("recipe.json")
    if recipe.exists() and key_of(json.loads(recipe.read_text())) != said["key"]:
        sys.exit(f"{recipe}: of another cache than {said['key']}")
    for row in rows:
        sizes = {name: np.shape(value) for name, value in row.items() if name not in ("name", "failure")}
        print(row["name"].decode(), row["failure"].decode() if row.get("failure") else sizes)
