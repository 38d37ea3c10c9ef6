"""What a cache holds so far, finished or not: its files read once, its rows by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .mapped import map_table
from .store import decoded
from .table import Columns, damaged_rows

NOTED = ("failure", "image_crc", "mass", "video_bytes")  # columns that are asked for of an unfinished cache too
TRIES = 5  # a part that was merged away between listing and reading is looked for again


@dataclass(frozen=True)
class Source:
    """One file of a cache: its rows' names, checksums, noted columns and kinds of columns, and how they were made."""

    path: Path
    names: list[str]
    crc: np.ndarray
    noted: Mapping[str, np.ndarray]
    kinds: Mapping[str, str]
    said: Mapping[str, str | int]

    @property
    def generation(self) -> int:
        return int(self.said["generation"])

    @property
    def fit(self) -> int:
        return int(self.said.get("fit", self.said["batch"]))

    @property
    def libraries(self) -> list[str]:
        """The versions it was made with, as JSON objects; several where it was merged from such."""
        text = str(self.said["libraries"])
        return json.loads(text).get("mixed", [text])

    @property
    def parameters(self) -> int | None:
        return _number(self.said.get("parameters"))

    @property
    def seconds(self) -> float | None:
        spent = _number(self.said.get("device_ms"))
        return None if spent is None else spent / 1000


@dataclass(frozen=True)
class Place:
    """Where a row that counts lies."""

    source: Source
    row: int

    def noted(self, column: str) -> Any:
        """A noted column's value; None where the file has no such column."""
        values = self.source.noted.get(column)
        return None if values is None else values[self.row]


@dataclass(frozen=True)
class Index:
    """The rows that count, by name: of several rows of one name the newest."""

    folder: Path
    sources: tuple[Source, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)

    def values(self, column: str) -> dict[str, Any]:
        """A noted column by name; without the rows of files that lack it."""
        found = {name: place.noted(column) for name, place in self.places.items()}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def checksums(self) -> dict[str, int]:
        return {name: int(place.source.crc[place.row]) for name, place in self.places.items()}

    @property
    def failures(self) -> dict[str, str]:
        """Why a clip has no features, by name."""
        return {name: text.decode("utf-8", "replace") for name, text in self.values("failure").items() if text}

    def damaged(self) -> set[str]:
        """The names whose row is no longer what was written; reads every row."""
        found = {source.path: set(damaged_rows(source.path)) for source in self.sources}
        return {name for name, place in self.places.items() if place.row in found[place.source.path]}

    @property
    def batch(self) -> int:
        """The batch that the cache was begun with; 0 where there is no row yet."""
        return max((int(source.said["batch"]) for source in self.sources), default=0)

    @property
    def fit(self) -> int:
        """The largest batch that has always fitted the device's memory; 0 where there is no row yet."""
        return min((source.fit for source in self.sources), default=0)

    @property
    def libraries(self) -> list[dict[str, str]]:
        """Each combination of versions that rows were made with."""
        return [json.loads(text) for text in sorted({text for source in self.sources for text in source.libraries})]

    @property
    def parameters(self) -> int | None:
        """The encoder's; None where no file says how many."""
        return next((found for source in self.sources if (found := source.parameters) is not None), None)

    @property
    def seconds(self) -> float | None:
        """What the device worked for all rows; None where any file does not say it."""
        found = [spent for source in self.sources if (spent := source.seconds) is not None]
        return sum(found) if found and len(found) == len(self.sources) else None

    @property
    def next_generation(self) -> int:
        """One more than that of any row there is."""
        return 1 + max((source.generation for source in self.sources), default=0)


def open_index(folder: Path) -> Index:
    """What lies in a cache's folder, which need not exist; another process may write and merge meanwhile."""
    for _ in range(TRIES):
        try:
            sources = tuple(read_source(path, folder.name) for path in source_files(folder))
        except FileNotFoundError:
            continue
        return Index(folder, sources, _places(sources))
    raise RuntimeError(f"{folder}: its files change faster than they can be read; try again")


def source_files(folder: Path) -> list[Path]:
    """The merged file and the parts, which are listed first: those that are merged meanwhile are not missed."""
    parts, merged = sorted((folder / "parts").glob("*.h5")), folder / "cache.h5"
    return ([merged] if merged.exists() else []) + parts


def read_source(path: Path, key: str) -> Source:
    """One file's account; ValueError where it belongs to another recipe than that of `key`."""
    columns, said = map_table(path)
    if said.get("key") != key:
        raise ValueError(f"{path}: belongs to recipe {said.get('key')}, this cache is {key}; move it away")
    noted = {name: np.array(column) for name, column in columns.items() if name in NOTED}
    names, crc = decoded(_fixed(columns, "name")), np.array(_fixed(columns, "crc"))
    del columns["crc"]
    return Source(path, names, crc, noted, kinds_of(columns), said)


def kinds_of(columns: Columns) -> dict[str, str]:
    """What the files of a cache must agree in: of each fixed column the type, and the shape of a row."""
    fixed = {name: column for name, column in columns.items() if isinstance(column, np.ndarray)}
    types = {name: "text" if column.dtype.kind == "S" else str(column.dtype) for name, column in fixed.items()}
    return {name: f"{types[name]} {list(column.shape[1:])}" for name, column in fixed.items()}


def _number(said: str | int | None) -> int | None:
    return said if isinstance(said, int) else None


def _fixed(columns: Columns, name: str) -> np.ndarray:
    found = columns.get(name)
    if not isinstance(found, np.ndarray):
        raise ValueError(f"wanted a column {name!r} with a value a row; there are {', '.join(sorted(columns))}")
    return found


def _places(sources: tuple[Source, ...]) -> dict[str, Place]:
    """Each name's newest row; of equals the merged file's, which comes first."""
    places: dict[str, Place] = {}
    for source in sorted(sources, key=lambda source: source.generation, reverse=True):
        for row, name in enumerate(source.names):
            places.setdefault(name, Place(source, row))
    return places
