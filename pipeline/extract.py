"""The loop of stage one: pending units -> inputs by threads -> an encoder -> part files. A failure is a row."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..cache.recipe import Recipe
from ..cache.store import (
    Rows,
    batch_of,
    cache_folder,
    create_cache,
    done_names,
    failed_names,
    is_merged,
    merge,
    next_generation,
    open_cache,
    values_by_name,
    write_part,
)
from ..cache.table import Column, Columns, Ragged
from .encoder import Encoder
from .person import FRAMES, STRIP, Boxes, blank_image, from_jpeg, person_image, to_jpeg
from .video import Videos, read_clip

UNIT = 64  # clips a part file: what a kill can lose
DECODERS = max(4, os.cpu_count() or 0)  # threads that decode; OpenCV's own are switched off
OUR_COLUMNS = ("name", "failure", "crc", "image_crc")
UNUSABLE = (ValueError, OSError, cv2.error)  # what a bad clip raises; TimeoutError is an OSError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Input:
    """What one clip gives the encoder: a picture, or frames; blank, with the reason, where it failed.

    `size` is that of the video's file in bytes, 0 where none was read.
    """

    picture: np.ndarray
    failure: str = ""
    size: int = 0


@dataclass(frozen=True)
class Stage:
    """One pass over the clips: `read` runs in threads, at most `ahead` clips before `encode`, which takes a unit.

    `images` holds the checksum of the person image of each clip: a row made from another one is made anew.
    """

    recipe: Recipe
    read: Callable[[str], Input]
    encode: Callable[[Iterable[Input]], Columns]
    ahead: int
    batch: int = 1
    images: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Filled:
    """A cache after the loop: its rows, how many of them this call made, and the clips that were asked for."""

    rows: Rows
    made: int
    names: Sequence[str]

    @property
    def failures(self) -> dict[str, str]:
        """Why a clip that was asked for has no row to use."""
        return {name: self.rows.failures[name] for name in self.names if name in self.rows.failures}


@dataclass(frozen=True)
class Clips:
    """What the loop goes over: a data set's folder and its sample names; `retry` makes failed rows anew."""

    data: Path
    dataset: str
    names: Sequence[str]
    retry: bool = False


def fill_person_images(clips: Clips, videos: Videos, boxes: Boxes, progress: Progress) -> Filled:
    """Videos to the cache of person images: a JPEG and the boxes it was cut from, per sample.

    Raises ValueError where the cache was made from other videos of the same names.
    """

    def read(name: str) -> Input:
        if name not in videos.paths:
            return Input(_no_frames(), f"missing: no video {videos.pattern.format(name=name)}")
        try:
            size = videos.paths[name].stat().st_size
            return Input(read_clip(videos.paths[name], FRAMES).frames, size=size)
        except UNUSABLE as error:
            return Input(_no_frames(), str(error))

    recipe = person_recipe(clips.dataset, videos.pattern, boxes)
    _refuse_other_videos(cache_folder(clips.data, recipe), videos)
    stage = Stage(recipe, read, lambda inputs: _person_columns(inputs, boxes), ahead=3 * DECODERS)
    return _fill(clips, stage, progress)


def _refuse_other_videos(folder: Path, videos: Videos) -> None:
    there = {name: size for name, size in values_by_name(folder, "video_bytes").items() if name in videos.paths}
    other = [name for name, size in there.items() if size and videos.paths[name].stat().st_size != size]
    if other:
        raise ValueError(
            f"{folder}: made from other videos; {len(other)} of {len(there)} differ in size, such as "
            f"{videos.paths[other[0]]}; move that folder out of the data to make it anew from these"
        )


def fill_features(clips: Clips, kind: str, images: Rows, encoder: Encoder, *, batch: int, progress: Progress) -> Filled:
    """Person images to the cache of one encoder's features; no video is opened.

    Raises ValueError where the encoder wants another layout of person images or breaks its promise, or where the
    cache was begun with another batch.
    """
    layout = images.recipe.settings["layout"]
    if encoder.layout != layout:
        raise ValueError(
            f"{encoder.settings['model']}: wants person images laid out as {encoder.layout!r}, these are {layout!r}"
        )

    def read(name: str) -> Input:
        return _cached_picture(images, name)

    def encode(inputs: Iterable[Input]) -> Columns:
        pictures = (one.picture for one in inputs)
        return _joined([_encoded(encoder, chunk) for chunk in iter(lambda: list(islice(pictures, batch)), [])])

    recipe = feature_recipe(kind, images, encoder)
    ahead = 2 * max(batch, DECODERS)
    return _fill(clips, Stage(recipe, read, encode, ahead, batch, images.checksums), progress)


def person_recipe(dataset: str, pattern: str, boxes: Boxes) -> Recipe:
    return Recipe("person-images", dataset, {**STRIP, "videos": pattern, **boxes.settings})


def feature_recipe(kind: str, images: Rows, encoder: Encoder) -> Recipe:
    """The encoder's settings and the person images it saw."""
    settings: Mapping[str, Any] = {**encoder.settings, "person_images": images.recipe.key}
    return Recipe(kind, images.recipe.dataset, settings)


def pending_units(names: Sequence[str], done: set[str], again: set[str], *, whole: bool) -> list[tuple[int, list[str]]]:
    """The units with rows to be made: (number, names). Units are fixed parts of the sample list.

    Made are the names without a row and those to be made `again`; where rows depend on their batch (`whole`), with
    the rest of the unit, so that its batches are what they were.
    """
    units = [(start // UNIT, names[start : start + UNIT]) for start in range(0, len(names), UNIT)]
    todo = [(k, unit, again.intersection(unit)) for k, unit in units]
    left = [(k, [n for n in unit if n not in done or n in redo or (whole and redo)]) for k, unit, redo in todo]
    return [(number, list(unit)) for number, unit in left if unit]


def _fill(clips: Clips, stage: Stage, progress: Progress) -> Filled:
    """Make the rows that are missing, unit by unit, and merge; a killed call resumes where its last part ended."""
    folder = cache_folder(clips.data, stage.recipe)
    again = _outdated(folder, stage) | (failed_names(folder) if clips.retry else set())
    todo = pending_units(clips.names, done_names(folder), again, whole=stage.images is not None)
    if not todo and is_merged(folder):
        return Filled(open_cache(folder), 0, clips.names)
    if todo and (begun := batch_of(folder)) not in (0, stage.batch):
        raise ValueError(f"{folder}: begun with --batch {begun}; its features depend on it, so go on with it")
    total, generation = sum(len(unit) for _, unit in todo), next_generation(folder)
    finished = 0
    progress(finished, total)
    with closing(_read_ahead([name for _, unit in todo for name in unit], stage)) as inputs:
        for number, unit in todo:
            failures: list[str] = []
            columns = stage.encode(_noted(islice(inputs, len(unit)), failures))
            failures = _failures(failures, columns)
            columns = _blanked(columns, failures)
            if stage.images is not None:
                columns["image_crc"] = np.array([stage.images.get(name, 0) for name in unit], np.uint32)
            create_cache(clips.data, stage.recipe)
            write_part(folder, number, unit, failures, columns, batch=stage.batch, generation=generation)
            finished += len(unit)
            progress(finished, total)
    return Filled(merge(folder), total, clips.names)


def _outdated(folder: Path, stage: Stage) -> set[str]:
    """The names whose row was made from another person image than there is now."""
    if stage.images is None:
        return set()
    made_from = values_by_name(folder, "image_crc")
    return {name for name, crc in made_from.items() if crc != stage.images.get(name, 0)}


def _read_ahead(names: Sequence[str], stage: Stage) -> Generator[Input, None, None]:
    """The inputs in order, the next ones being read by threads meanwhile; memory holds `stage.ahead` of them."""
    pool = ThreadPoolExecutor(DECODERS)
    waiting: deque[Future[Input]] = deque()
    try:
        for name in names:
            waiting.append(pool.submit(stage.read, name))
            if len(waiting) > stage.ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _noted(inputs: Iterable[Input], failures: list[str]) -> Iterator[Input]:
    for one in inputs:
        failures.append(one.failure)
        yield one


def _person_columns(inputs: Iterable[Input], boxes: Boxes) -> Columns:
    pictures, places, found, sizes = [], [], [], []
    for one in inputs:
        place, there = (np.zeros((FRAMES, 4)), np.zeros(FRAMES, bool)) if one.failure else boxes.find(one.picture)
        pictures.append(to_jpeg(blank_image() if one.failure else person_image(one.picture, place)))
        places.append(place)
        found.append(there)
        sizes.append(one.size)
    return {
        "jpeg": Ragged.of(pictures),
        "box": np.array(places, np.int32),
        "person_found": np.array(found),
        "video_bytes": np.array(sizes, np.int64),
    }


def _cached_picture(images: Rows, name: str) -> Input:
    if name not in images.row_of:
        return Input(blank_image(), "missing: no person image")
    jpegs = images.columns["jpeg"]
    try:
        return Input(from_jpeg(jpegs[images.row_of[name]]), images.failures.get(name, ""))
    except UNUSABLE as error:
        return Input(blank_image(), str(error))


def _encoded(encoder: Encoder, pictures: list[np.ndarray]) -> dict[str, np.ndarray]:
    """One batch, checked: a row a picture in every column, of numbers or bytes."""
    columns = {name: np.asarray(column) for name, column in encoder.encode(pictures).items()}
    wrong = [
        f"{name} {column.dtype} {list(column.shape)}"
        for name, column in columns.items()
        if column.shape[:1] != (len(pictures),) or column.dtype.kind not in "biufS" or name in OUR_COLUMNS
    ]
    if wrong or not columns:
        raise ValueError(
            f"{encoder.settings['model']}: {len(pictures)} pictures gave {'; '.join(wrong) or 'no columns'}; "
            f"wanted a row a picture, of numbers or bytes, in columns not called {' or '.join(OUR_COLUMNS)}"
        )
    return columns


def _joined(batches: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if len({frozenset(columns) for columns in batches}) > 1:
        raise ValueError(f"an encoder gave columns {sorted(batches[0])} for one batch, others for another")
    return {name: np.concatenate([columns[name] for columns in batches]) for name in batches[0]}


def _failures(reasons: list[str], columns: Columns) -> list[str]:
    """Why each row is not to be used: its clip failed, or the encoder gave a number that is none."""
    for name, column in columns.items():
        if isinstance(column, np.ndarray) and column.dtype.kind == "f":
            finite = [bool(np.isfinite(row).all()) for row in column]
            reasons = [old or ("" if ok else f"not finite: {name}") for old, ok in zip(reasons, finite, strict=True)]
    return reasons


def _blanked(columns: Columns, failures: Sequence[str]) -> dict[str, Column]:
    """Numbers of failed rows as zeros, so that nobody takes a blank picture's features for a clip's."""
    failed = np.array([bool(reason) for reason in failures])

    def blank(column: np.ndarray) -> np.ndarray:
        return np.where(failed.reshape(-1, *[1] * (column.ndim - 1)), np.zeros((), column.dtype), column)

    return {name: blank(column) if isinstance(column, np.ndarray) else column for name, column in columns.items()}


def _no_frames() -> np.ndarray:
    return np.zeros((FRAMES, 1, 1, 3), np.uint8)
