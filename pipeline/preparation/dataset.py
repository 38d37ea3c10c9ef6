"""What a raw data set says of itself and of its clips: the interface between `mmcl prepare` and pipeline/datasets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from ...cache.skeletons import OUT, TEST, TRAIN, Layout, Transfer
from .raw import RawFile


@dataclass(frozen=True)
class RawClip:
    """One clip as a file tells it: joints float32 [bodies, frames, V, 3] and a label that counts from 0.

    `image_points` [bodies, frames, V, 2] are the joints' places in the colour video as shares of its width and height.
    `notes` say what was odd and kept all the same; `counts` are summed over all clips and shown.
    """

    name: str
    label: int
    joints: np.ndarray
    columns: Mapping[str, int] = field(default_factory=dict)
    image_points: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


LEFT_OUT, NOT_READ = "left out", "could not be read"  # what is done about a file that is no clip


@dataclass(frozen=True)
class Finding:
    """A file that is not as it should be, and what was done about it."""

    file: str
    found: str
    done: str


class Clip(NamedTuple):
    """What a split goes by."""

    name: str
    label: int
    columns: Mapping[str, int]


@dataclass(frozen=True)
class SplitRule:
    """A named split: which clips train and test, how many the publication counts, what stands for absent bodies.

    `classes` are the labels that compete in it; none given, all do.
    """

    side: Callable[[Clip], int]
    published: tuple[int, int] | None = None
    body_rule: str = "zero"
    classes: tuple[int, ...] = ()

    def sides(self, clips: Sequence[Clip]) -> list[int]:
        """The side of each of the clips that could be used, which are all known by now."""
        return [self.side(clip) for clip in clips]


def by_column(column: str, train: Callable[[int], bool], test: Callable[[int], bool]) -> Callable[[Clip], int]:
    """A split by subject, view or the like."""

    def side(clip: Clip) -> int:
        value = clip.columns.get(column)
        if value is None:
            return OUT
        return TRAIN if train(value) else TEST if test(value) else OUT

    return side


@dataclass(frozen=True)
class Facts:
    """What all clips of a data set share; `decided` is whatever its rows depend on beside the files themselves."""

    classes: Sequence[str]
    layout: Layout
    splits: Mapping[str, SplitRule]
    coordinates: str = "metres"
    transfers: tuple[Transfer, ...] = ()
    warnings: tuple[str, ...] = ()
    decided: str = ""


class RawDataset(Protocol):
    """A data set as it lies on disk. `reader` is a plain function: it goes to other processes.

    Two more members may be there: `in_memory = True` where it must not go there, and `remarks(names, findings)`, lines
    for the report when all is read.
    """

    @property
    def facts(self) -> Facts: ...

    @property
    def reader(self) -> Callable[[RawFile], RawClip]: ...

    def files(self) -> list[RawFile]:
        """The raw files in the order in which their clips are to lie in the cache."""
        ...
