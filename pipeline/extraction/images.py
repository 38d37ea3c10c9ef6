"""Videos to person images, and person images by name for whoever looks at them next."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from ...cache.index import TRIES, Place, open_index, read_source
from ...cache.mapped import map_table
from ...cache.recipe import Recipe
from ...cache.table import Column, Ragged, checksums
from ..stop import Stop
from ..videos.decoder import Decoders
from ..videos.find_videos import Videos
from ..videos.person import Boxes, Found, ImageLayout, Shot, SkeletonBoxes, WholeFrame, from_jpegs, to_jpegs
from ..videos.video import size_of
from .clock import Clock
from .extract import Columns, Input, Ready
from .ledger import Clips, Ledger

UNUSABLE = (ValueError, OSError, cv2.error)  # what a bad clip raises; TimeoutError is an OSError
FRAMES = 40  # a batch of clips holds about so many whole frames in memory
POLL = 0.5  # seconds between two looks whether the work was stopped
BYTES_A_PIXEL = 0.4  # of a JPEG file at our quality, seldom more


@dataclass(frozen=True)
class Footage:
    """What was read of one video: its shots by layout, and what tells it from another file of the same name."""

    shots: Mapping[str, Shot]
    size: int  # bytes
    total: int  # frames that are really there
    claimed: int  # frames that the header speaks of, 0 where it does not say


class VideoSource:
    """Reads each clip's video once, for all layouts; a clip that can't be read is a failure with its reason."""

    checksums = None

    def __init__(self, videos: Videos, layouts: Sequence[ImageLayout], decoders: Decoders, clock: Clock) -> None:
        self.videos = videos
        self._layouts, self._decoders, self._clock = layouts, decoders, clock
        self.decoded = 0
        self._images: list[PersonImages] = []
        self._lock = threading.Lock()

    def feeds(self, images: Sequence[PersonImages], units: Sequence[int]) -> None:
        """The person images that wait for these units, and are told of each that is written."""
        self._images = list(images)
        for one in images:
            one.await_units(units)

    def read(self, name: str, /) -> Input:
        if name not in self.videos.paths:
            return Input(None, f"missing: no video {self.videos.missing[name]}")
        path = self.videos.paths[name]
        try:
            with self._clock("decode"):
                clips = self._decoders.read(path, [layout.frames for layout in self._layouts])
            with self._lock:
                self.decoded += 1
            pairs = zip(self._layouts, clips, strict=True)
            shots = {layout.name: Shot(name, clip.frames, clip.index, clip.total) for layout, clip in pairs}
            return Input(Footage(shots, size_of(path), clips[0].total, clips[0].claimed))
        except UNUSABLE as error:
            return Input(None, _reason(error))

    def ready(self, unit: int, /) -> bool:
        return True

    def wait(self, unit: int, /) -> bool:
        return True

    def written(self, unit: int, parts: Sequence[Path], /) -> None:
        for part in parts:
            for images in self._images:
                images.add(part)
        for images in self._images:
            images.release(unit)


class ImageTarget:
    """The cache of person images of one layout: JPEG files, the boxes they were cut from, the video's account."""

    def __init__(self, layout: ImageLayout, boxes: Boxes, ledger: Ledger, clock: Clock) -> None:
        self.layout, self.ledger = layout, ledger
        self._boxes, self._clock = boxes, clock

    def try_out(self) -> int:
        """Load what finds the person; gives about the bytes of a row."""
        blank = self.layout.blank()
        shot = Shot(self.ledger.clips.names[0], blank.reshape(-1, *blank.shape[-3:]), np.zeros(1, int), 1)
        self._boxes.find([shot], self._boxes.prepare([shot]))
        return int(blank.size / 3 * BYTES_A_PIXEL)

    def prepare(self, inputs: list[Input], /) -> object:
        """What the network takes that looks for people; without one, the boxes."""
        shots = self._shots(inputs)
        prepared = self._boxes.prepare(shots)
        plain = isinstance(self._boxes, WholeFrame | SkeletonBoxes)
        return Ready(self._boxes.find(shots, prepared)) if plain else prepared

    def encode(self, prepared: object, inputs: list[Input], /) -> list[Found]:
        shots = self._shots(inputs)
        return self._boxes.find(shots, prepared) if shots else []

    def finish(self, encoded: list[Found], inputs: list[Input], /) -> Columns:
        found = iter(encoded)
        with self._clock("crop"):
            rows = [self._row(one, next(found) if one.content else None) for one in inputs]
            jpegs = [to_jpegs(image) for image, _ in rows]
        footage = [one.content or Footage({}, 0, 0, 0) for one in inputs]
        return {
            "jpeg": Ragged.of([data for data, _ in jpegs]),
            "jpeg_ends": np.stack([ends for _, ends in jpegs]),
            "box": np.array([found.boxes for _, found in rows], np.int32),
            "person_found": np.array([found.there for _, found in rows], bool),
            "video_bytes": np.array([one.size for one in footage], np.int64),
            "video_frames": np.array([one.total for one in footage], np.int64),
            "claimed_frames": np.array([one.claimed for one in footage], np.int64),
        }

    def close(self, names: list[str], columns: Columns, reasons: list[str], /) -> tuple[Columns, list[str]]:
        return columns, reasons

    def _shots(self, inputs: list[Input]) -> list[Shot]:
        return [one.content.shots[self.layout.name] for one in inputs if one.content]

    def _row(self, one: Input, found: Found | None) -> tuple[np.ndarray, Found]:
        count = self.layout.frames
        if found is None:
            return self.layout.blank(), Found(np.zeros((count, 4)), np.zeros(count, bool))
        return self.layout.compose(one.content.shots[self.layout.name].frames, found.boxes), found


class PersonImages:
    """The person images of one layout, in whichever file they lie by now: a source for encoders.

    Those of a unit that is being made are waited for.
    """

    def __init__(self, clips: Clips, recipe: Recipe, clock: Clock, stop: Stop) -> None:
        self.recipe, self._clips, self._clock, self._stop = recipe, clips, clock, stop
        self.folder = clips.data / recipe.kind / recipe.key
        index = open_index(self.folder)
        self._places: dict[str, Place] = dict(index.places)
        self.checksums: dict[str, int] = index.checksums
        self._failures = index.failures
        self._opened = lru_cache(maxsize=4)(_open)
        self._awaited = set[int]()
        self._news = threading.Condition()

    def await_units(self, units: Sequence[int]) -> None:
        """These units are about to be made."""
        self._awaited = set(units)

    def add(self, part: Path) -> None:
        """A part that was just written, if it is one of these images."""
        if part.parent.parent != self.folder:
            return
        source = read_source(part, self.folder.name)
        with self._news:
            for row, name in enumerate(source.names):
                place = Place(source, row)
                self._places[name], self.checksums[name] = place, int(source.crc[row])
                self._failures.pop(name, None)
                if text := place.noted("failure"):
                    self._failures[name] = text.decode("utf-8", "replace")

    def release(self, unit: int) -> None:
        with self._news:
            self._awaited.discard(unit)
            self._news.notify_all()

    def ready(self, unit: int, /) -> bool:
        return unit not in self._awaited

    def wait(self, unit: int, /) -> bool:
        with self._news:
            while unit in self._awaited and not self._stop():
                self._news.wait(POLL)
            return unit not in self._awaited

    def written(self, unit: int, parts: Sequence[Path], /) -> None:
        """Features were made of them: nobody waits for those."""

    def missing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in self._places]

    def read(self, name: str, /) -> Input:
        """The image by name; the reason where its clip failed, with a blank in its place."""
        if name not in self._places:
            return Input(None, "missing: no person image")
        if name in self._failures:
            return Input(None, self._failures[name])
        with self._clock("read"):
            columns, row = self._find(name)
            try:
                return Input(_image(columns, row))
            except UNUSABLE as error:
                return Input(None, str(error))

    def _find(self, name: str) -> tuple[dict[str, Column], int]:
        """The file that holds an image, and its row there; another process may be merging the files meanwhile."""
        for _ in range(TRIES):
            place = self._places[name]
            with suppress(FileNotFoundError):
                columns = self._opened(place.source.path, place.source.generation)
                known = columns["name"]
                if place.row < len(known) and np.asarray(known[place.row]).item() == name.encode():
                    return columns, place.row
            with self._news:
                self._opened.cache_clear()
                self._places.update(open_index(self.folder).places)
        raise RuntimeError(f"{self.folder}: its files change faster than they can be read; try again")


def _open(path: Path, generation: int) -> dict[str, Column]:
    """The columns of a file of person images; a part's in memory, since another process may merge and remove it."""
    columns, _ = map_table(path, only=())
    return columns if path.name == "cache.h5" else {name: _in_memory(column) for name, column in columns.items()}


def _in_memory(column: Column) -> Column:
    return Ragged(np.array(column.values), np.array(column.offsets)) if isinstance(column, Ragged) else np.array(column)


def _image(columns: Columns, row: int) -> np.ndarray:
    """The picture or pictures of a row; ValueError where its bytes are no longer those that were written."""
    values = {name: np.asarray(column[row])[None] for name, column in columns.items()}
    if checksums({name: value for name, value in values.items() if name != "crc"})[0] != values["crc"][0]:
        raise ValueError("damaged: its person image is no longer what was written; `mmcl cache verify` names all such")
    return from_jpegs(values["jpeg"][0], values["jpeg_ends"][0])


def _reason(error: Exception) -> str:
    """What a failed clip's row says; of the system's errors its own words, without the path."""
    if isinstance(error, OSError) and error.strerror:
        return f"unreadable: {error.strerror}"
    return str(error)


def image_recipe(dataset: str, pattern: str, layout: ImageLayout, boxes: Boxes) -> Recipe:
    return Recipe("person-images", dataset, {**layout.settings, "videos": pattern, **boxes.settings})


def clips_a_batch(layouts: Sequence[ImageLayout]) -> int:
    """So that a batch's whole frames fit in memory, however many frames a layout takes."""
    return max(1, FRAMES // max(layout.frames for layout in layouts))


def refuse_other_videos(ledger: Ledger, videos: Videos) -> None:
    """ValueError where rows were made from other files of the same names."""
    there = {name: size for name, size in ledger.index.values("video_bytes").items() if name in videos.paths}
    other = [name for name, size in there.items() if size and _size_now(videos.paths[name]) not in (0, size)]
    if other:
        raise ValueError(
            f"{ledger.folder}: made from other videos; {len(other)} of {len(there)} differ in size, such as "
            f"{videos.paths[other[0]]}; move that folder out of the data to make it anew from these"
        )


def _size_now(video: Path) -> int:
    """In bytes; 0 where it can't be read any more, which changes nothing about rows that are there."""
    with suppress(ValueError, OSError):
        return size_of(video)
    return 0
