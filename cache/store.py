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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from .files import write_bytes
from .recipe import FORMAT, KINDS, Recipe, differences, read_recipe
from .table import Column, Columns, damaged_rows, read_table, stored_checksums, write_table

LIBRARIES = ("numpy", "opencv-python", "pillow", "timm", "torch", "torchvision", "transformers")
FAILURE_BYTES = 400


@dataclass(frozen=True)
class Rows:
    """An opened cache: its recipe and its columns, row by row, found by name."""

    folder: Path
    recipe: Recipe
    columns: Mapping[str, Column]

    @cached_property
    def names(self) -> list[str]:
        return decoded(self.array("name"))

    @cached_property
    def row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def failures(self) -> dict[str, str]:
        """Why a clip has no features, by name; empty where all went well."""
        reasons = decoded(self.array("failure"))
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


@dataclass(frozen=True)
class Made:
    """How a part's rows were made; of two rows of one name that of the higher `generation` counts.

    `batch` is the batch that was asked for, `fit` the one that the device's memory held. `libraries` are versions and
    the device: what else can change a number's last digits. `parameters` are the encoder's, `seconds` what the device
    worked for these rows; None where that is not known.
    """

    batch: int = 1
    fit: int = 1
    generation: int = 1
    libraries: Mapping[str, str] | None = None
    parameters: int | None = None
    seconds: float | None = None


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
    folders = [folder for kind in KINDS for folder in find_caches(root, kind)]
    if not folders and not (root / "skeletons.h5").exists():
        raise FileNotFoundError(f"{root}: no data set lies here (no skeletons.h5); give a folder of `mmcl prepare`")
    return folders


def move_caches(source: Path, target: Path) -> None:
    """Move all feature caches of a data set's folder into another folder; those that are there."""
    for kind in KINDS:
        if (source / kind).exists():
            target.mkdir(parents=True, exist_ok=True)
            (source / kind).rename(target / kind)


def write_part(
    folder: Path,
    unit: int,
    names: Sequence[str],
    failures: Sequence[str],
    columns: Columns,
    made: Made | None = None,
) -> Path:
    """Write one finished unit and give its file; `failures` holds a reason a row, empty where it went well."""
    made, text = made or Made(), [name.encode() for name in names]
    reasons = np.array([reason.encode()[:FAILURE_BYTES] for reason in failures], f"S{FAILURE_BYTES}")
    digest = zlib.crc32(b"/".join(text), made.generation)  # rows made anew take nobody's file, who may be merging it
    path = folder / "parts" / f"{unit:08d}-{digest:08x}.h5"
    versions = json.dumps(made.libraries if made.libraries is not None else library_versions(), sort_keys=True)
    write_table(path, {**columns, "name": np.array(text), "failure": reasons}, attributes(folder, made, versions))
    return path


def sweep(folder: Path, index: int, count: int) -> None:
    """Remove half-written parts of every `count`-th unit from `index` on; for the process that alone makes these."""
    for aside in (folder / "parts").glob("*-*.h5.*.tmp"):
        if int(aside.name.partition("-")[0]) % count == index:
            aside.unlink()


def attributes(folder: Path, made: Made, libraries: str) -> dict[str, str | int]:
    """What a part, or the table of all parts, says of itself."""
    spent = None if made.seconds is None else round(1000 * made.seconds)
    cost = {"parameters": made.parameters, "device_ms": spent}
    return {
        "key": read_recipe(folder).key,
        "format": FORMAT,
        "libraries": libraries,
        "batch": made.batch,
        "fit": made.fit,
        "generation": made.generation,
        **{name: number for name, number in cost.items() if number is not None},
    }


def open_cache(folder: Path) -> Rows:
    """A merged cache, checked against its recipe's key; ValueError where it is unfinished or another's."""
    recipe, path = read_recipe(folder), folder / "cache.h5"
    if not path.exists():
        raise ValueError(f"{folder}: not finished; run the same `mmcl extract-features` again, it resumes")
    columns, said = read_table(path, only=("key",))  # each attribute read costs as much as half a column
    if said.get("key") != recipe.key:
        raise ValueError(f"{path}: belongs to recipe {said.get('key')}, recipe.json beside it is {recipe.key}")
    return Rows(folder, recipe, columns)


def is_merged(folder: Path) -> bool:
    return (folder / "cache.h5").exists() and not any((folder / "parts").glob("*.h5"))


def verify(folder: Path) -> list[str]:
    """The names of rows whose contents no longer fit their checksum."""
    names = open_cache(folder).names
    return [names[row] for row in damaged_rows(folder / "cache.h5")]


def library_versions() -> dict[str, str]:
    """The versions of the libraries that can change a feature's last digits; of those that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def decoded(column: np.ndarray) -> list[str]:
    """Text of a fixed-width column of UTF-8 bytes."""
    return np.char.decode(np.asarray(column), "utf-8", "replace").tolist()
