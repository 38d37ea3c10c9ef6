"""A feature cache: a folder per recipe, one part file per work unit, merged into one file when all units are there.

    FOLDER/recipe.json        what it was made with
    FOLDER/parts/00000012-9f3a1c07.h5   one finished unit; a killed run loses at most the unit in flight
    FOLDER/cache.h5           all parts as one table, contiguous, read by memory map

Rows are found by sample name; a clip that failed has a row too, with the reason in `failure`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .files import write_bytes
from .recipe import FORMAT, KINDS, Recipe, differences, read_recipe
from .table import Column, Columns, concatenate, damaged_rows, read_table, stored_checksums, write_table

LIBRARIES = ("mmcl", "numpy", "opencv-python", "pillow", "torch", "transformers")


@dataclass(frozen=True)
class Rows:
    """An opened cache: its recipe and its columns, row by row, found by name."""

    folder: Path
    recipe: Recipe
    columns: Mapping[str, Column]

    @cached_property
    def names(self) -> list[str]:
        return np.char.decode(self.array("name"), "utf-8", "replace").tolist()

    @cached_property
    def row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def failures(self) -> dict[str, str]:
        """Why a clip has no features, by name; empty where all went well."""
        reasons = np.char.decode(self.array("failure"), "utf-8", "replace").tolist()
        return {name: reason for name, reason in zip(self.names, reasons, strict=True) if reason}

    @cached_property
    def checksums(self) -> dict[str, int]:
        """The checksum of each row, by name."""
        return dict(zip(self.names, stored_checksums(self.folder / "cache.h5").tolist(), strict=True))

    def array(self, column: str) -> np.ndarray:
        """A fixed column; ValueError where the cache has none of that name."""
        found = self.columns.get(column)
        if not isinstance(found, np.ndarray):
            raise ValueError(f"{self.folder}: no column {column!r}; it has {', '.join(sorted(self.columns))}")
        return found


def cache_folder(root: Path, recipe: Recipe) -> Path:
    """Where the cache of this recipe lies under `root`, or will lie."""
    return root / recipe.kind / recipe.key


def create_cache(root: Path, recipe: Recipe) -> Path:
    """The folder of this recipe under `root`, made if need be; ValueError where another recipe lies in it."""
    folder = cache_folder(root, recipe)
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.json"
    if not path.exists():
        text = json.dumps(recipe.as_dict(), indent=1, sort_keys=True)
        write_bytes(path, text.encode())
    found = read_recipe(folder)
    if found.key != recipe.key:
        raise ValueError(f"{folder}: made with another recipe, and nothing is mixed\n{differences(found, recipe)}")
    return folder


def find_caches(root: Path, kind: str) -> list[Path]:
    """The folders of all caches of a kind under a data set's folder."""
    return sorted(path.parent for path in (root / kind).glob("*/recipe.json"))


def cache_folders(root: Path) -> list[Path]:
    """The folders of all caches of a data set; FileNotFoundError where there is no such data set."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; make it with `mmcl prepare`")
    return [folder for kind in KINDS for folder in find_caches(root, kind)]


def move_caches(source: Path, target: Path) -> None:
    """Move all feature caches of a data set's folder into another folder; those that are there."""
    for kind in KINDS:
        if (source / kind).exists():
            target.mkdir(parents=True, exist_ok=True)
            (source / kind).rename(target / kind)


def done_names(folder: Path) -> set[str]:
    """The names that have a row already, in the merged file or in a part."""
    return {name for source in _sources(folder) for name in _names(source)}


def values_by_name(folder: Path, column: str) -> dict[str, Any]:
    """A column's value of each name that has a row; without the rows of sources that lack the column."""
    found: dict[str, Any] = {}
    for source, rows in _valid_rows(folder).items():
        columns = read_table(source)[0]
        if column in columns:
            names, values = _names(source), columns[column]
            found |= {names[row]: values[row] for row in rows}
    return found


def failed_names(folder: Path) -> set[str]:
    """The names whose row is a failed one."""
    return {name for name, reason in values_by_name(folder, "failure").items() if reason}


def batch_of(folder: Path) -> int:
    """The batch that a cache was begun with; 0 where there is no row yet."""
    return max((int(read_table(source)[1]["batch"]) for source in _sources(folder)), default=0)


def write_part(
    folder: Path,
    unit: int,
    names: Sequence[str],
    failures: Sequence[str],
    columns: Columns,
    *,
    batch: int = 1,
    generation: int = 1,
) -> None:
    """Write one finished unit; `failures` holds a reason a row, empty where it went well.

    Of two rows of one name that of the higher generation counts: a retry writes the `next_generation`.
    """
    text = [name.encode() for name in names]
    reasons = np.array([reason.encode()[:400] for reason in failures], "S400")
    path = folder / "parts" / f"{unit:08d}-{zlib.crc32(b'/'.join(text)):08x}.h5"
    attributes = _attributes(folder, json.dumps(library_versions()), batch, generation)
    write_table(path, {**columns, "name": np.array(text), "failure": reasons}, attributes)


def merge(folder: Path) -> Rows:
    """One table out of all parts; the parts go once it is safely there.

    Of two rows of one name, as a retry makes them, the newer counts.
    """
    merged, valid = folder / "cache.h5", _valid_rows(folder)
    parts = [source for source in valid if source != merged]
    if any(len(valid[part]) for part in parts):  # a kill may have left parts that were merged already
        kept = {source: rows for source, rows in sorted(valid.items()) if len(rows)}
        attributes = _attributes(folder, _merged_libraries(list(kept)), batch_of(folder), next_generation(folder) - 1)
        concatenate(merged, list(kept), list(kept.values()), attributes)
    for part in parts:
        part.unlink()
    return open_cache(folder)


def open_cache(folder: Path) -> Rows:
    """A merged cache, checked against its recipe's key; ValueError where it is unfinished or another's."""
    recipe, path = read_recipe(folder), folder / "cache.h5"
    if not path.exists():
        raise ValueError(f"{folder}: not finished; run the same `mmcl extract-features` again, it resumes")
    columns, attributes = read_table(path)
    if attributes.get("key") != recipe.key:
        raise ValueError(f"{path}: belongs to recipe {attributes.get('key')}, recipe.json beside it is {recipe.key}")
    return Rows(folder, recipe, columns)


def is_merged(folder: Path) -> bool:
    return (folder / "cache.h5").exists() and not any((folder / "parts").glob("*.h5"))


def verify(folder: Path) -> list[str]:
    """The names of rows whose contents no longer fit their checksum."""
    names = open_cache(folder).names
    return [names[row] for row in damaged_rows(folder / "cache.h5")]


def library_versions() -> dict[str, str]:
    """The versions of the libraries that can change a feature's last digits."""
    return {name: version(name) for name in LIBRARIES}


def next_generation(folder: Path) -> int:
    """One more than that of any row there is."""
    return 1 + max(map(_generation, _sources(folder)), default=0)


def _generation(source: Path) -> int:
    return int(read_table(source)[1]["generation"])


def _attributes(folder: Path, libraries: str, batch: int, generation: int) -> dict[str, str | int]:
    key = read_recipe(folder).key
    return {"key": key, "format": FORMAT, "libraries": libraries, "batch": batch, "generation": generation}


def _valid_rows(folder: Path) -> dict[Path, np.ndarray]:
    """The rows of each source that count: those whose names no newer source has; of equals the merged file."""
    seen, rows = set[str](), dict[Path, np.ndarray]()
    for source in sorted(_sources(folder), key=_generation, reverse=True):
        names = _names(source)
        rows[source] = np.array([row for row, name in enumerate(names) if name not in seen], int)
        seen.update(names)
    return rows


def _merged_libraries(sources: Sequence[Path]) -> str:
    found = {versions for source in sources for versions in _libraries(source)}
    return found.pop() if len(found) == 1 else json.dumps({"mixed": sorted(found)})


def _libraries(source: Path) -> list[str]:
    versions = str(read_table(source)[1]["libraries"])
    return json.loads(versions).get("mixed", [versions])


def _sources(folder: Path) -> list[Path]:
    """The merged file and the parts, each checked to be of this cache's recipe."""
    merged = folder / "cache.h5"
    sources = ([merged] if merged.exists() else []) + sorted((folder / "parts").glob("*.h5"))
    for source in sources:
        if (key := read_table(source)[1].get("key")) != folder.name:
            raise ValueError(f"{source}: belongs to recipe {key}, this cache is {folder.name}; move it away")
    return sources


def _names(source: Path) -> list[str]:
    return np.char.decode(np.asarray(read_table(source)[0]["name"]), "utf-8").tolist()
