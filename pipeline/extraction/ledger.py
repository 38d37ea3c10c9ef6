"""One cache being filled: which rows are left to make, whether they fit those that are there, and writing them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...cache.index import open_index
from ...cache.recipe import Recipe
from ...cache.store import Made, cache_folder, create_cache, library_versions, write_part
from ...cache.table import Column
from .shard import WHOLE, Shard


@dataclass(frozen=True)
class Clips:
    """What a command goes over: a data set's folder and its sample names, this process's share of them.

    `retry` makes failed and damaged rows anew, `accept_versions` lets rows be added to those of other library versions.
    """

    data: Path
    dataset: str
    names: Sequence[str]
    shard: Shard = WHOLE
    retry: bool = False
    accept_versions: bool = False


class Ledger:
    """A cache's account. A feature's row is outdated where its person image was made anew since.

    `along(name)` says whether a row is made again where another of its unit is, as must be where rows depend on their
    batch in their last digits.
    """

    def __init__(
        self, clips: Clips, recipe: Recipe, batch: int, device: str, along: Callable[[str], bool] = lambda name: True
    ) -> None:
        self.clips, self.recipe, self.batch, self._along = clips, recipe, batch, along
        self.folder = cache_folder(clips.data, recipe)
        self.index = open_index(self.folder)
        self.fit = min(batch, self.index.fit or batch)
        self.made = set[str]()
        self.parameters: int | None = None  # of the encoder, where it tells
        self._seconds: float | None = None  # that the device worked since the last part; None where none was needed
        self._again = set(self.index.failures) | self.index.damaged() if clips.retry else set[str]()
        self._made_from = {name: int(crc) for name, crc in self.index.values("image_crc").items()}
        self._libraries = library_versions() | ({"device": device} if device else {})

    def pending(self, unit: Sequence[str], images: Mapping[str, int] | None = None) -> list[str]:
        """The names of a unit whose rows are to be made; `images` are the checksums of the person images now."""
        known = self.index.places
        redo = {name for name in unit if name in self._again or self._outdated(name, images)}
        return [n for n in unit if n not in known or n in redo or (redo and self._along(n))]

    def _outdated(self, name: str, images: Mapping[str, int] | None) -> bool:
        return images is not None and self._made_from.get(name, images.get(name, 0)) != images.get(name, 0)

    def check(self) -> None:
        """ValueError where rows made now would not fit those that are there."""
        if self.index.batch not in (0, self.batch):
            raise ValueError(
                f"{self.folder}: begun with --batch {self.index.batch}; its features depend on it, so go on with it"
            )
        other = [found for found in map(_gated, self.index.libraries) if found != self._libraries]
        if other and not self.clips.accept_versions:
            raise ValueError(
                f"{self.folder}: begun with {_differing(other[0], self._libraries)}; rows made now may differ from "
                "those in their last digits; go on with what it was begun with, or say --accept-versions"
            )

    def spent(self, seconds: float) -> None:
        """Note what the device worked for the rows that are written next."""
        self._seconds = (self._seconds or 0) + seconds

    def write(self, unit: int, names: Sequence[str], failures: Sequence[str], columns: Mapping[str, Column]) -> Path:
        """One unit's rows to a part file."""
        create_cache(self.clips.data, self.recipe)
        made = Made(self.batch, self.fit, self._generation(names), self._libraries, self.parameters, self._seconds)
        self._seconds = None
        self.made |= set(names)
        return write_part(
            self.folder, unit, names, failures, {**columns, "batch": np.full(len(names), self.fit, np.int32)}, made
        )

    def _generation(self, names: Sequence[str]) -> int:
        """A newer one only where rows are made anew, so that a resumed cache is an unbroken one's to the byte."""
        anew = any(name in self.index.places for name in names)
        return self.index.next_generation if anew else max(1, self.index.next_generation - 1)


def _gated(libraries: Mapping[str, str]) -> dict[str, str]:
    """Our own version is no gate: what changes our numbers is in the recipe."""
    return {name: number for name, number in libraries.items() if name != "mmcl"}


def _differing(found: Mapping[str, str], now: Mapping[str, str]) -> str:
    names = sorted(name for name in found.keys() | now.keys() if found.get(name) != now.get(name))
    return ", ".join(f"{name} {found.get(name, '(none)')}, here {now.get(name, '(none)')}" for name in names)
