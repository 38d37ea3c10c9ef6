"""The loop of stage one: pending units -> inputs by threads -> an encoder -> part files. A failure is a row."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..cache.recipe import Recipe
from ..cache.store import Rows, create_cache, done_names, is_merged, merge, open_cache, write_part
from ..cache.table import Columns, Ragged
from .encoder import Encoder
from .person import FRAMES, STRIP, Boxes, blank_image, from_jpeg, person_image, to_jpeg
from .video import Videos, read_clip

UNIT = 64  # clips a part file: what a kill can lose
DECODERS = 4  # threads that decode; OpenCV's own are switched off
OUR_COLUMNS = ("name", "failure", "crc")
UNUSABLE = (ValueError, OSError)  # what a bad clip raises; TimeoutError is an OSError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Input:
    """What one clip gives the encoder: a picture, or frames; blank, with the reason, where it failed."""

    picture: np.ndarray
    failure: str = ""


@dataclass(frozen=True)
class Stage:
    """One pass over the clips: `read` runs in threads, at most `ahead` clips before `encode`, which takes a unit."""

    read: Callable[[str], Input]
    encode: Callable[[Iterable[Input]], Columns]
    ahead: int


@dataclass(frozen=True)
class Filled:
    """A cache after the loop: its rows, and how many of them this call made."""

    rows: Rows
    made: int

    @property
    def failures(self) -> dict[str, str]:
        return self.rows.failures


def fill_person_images(
    data: Path, dataset: str, names: Sequence[str], videos: Videos, boxes: Boxes, progress: Progress
) -> Filled:
    """Videos to the cache of person images: a JPEG and the boxes it was cut from, per sample."""

    def read(name: str) -> Input:
        if name not in videos.paths:
            return Input(_no_frames(), f"missing: no video {videos.pattern.format(name=name)}")
        try:
            return Input(read_clip(videos.paths[name], FRAMES).frames)
        except UNUSABLE as error:
            return Input(_no_frames(), str(error))

    stage = Stage(read, lambda inputs: _person_columns(inputs, boxes), ahead=3 * DECODERS)
    return _fill(create_cache(data, person_recipe(dataset, videos.pattern, boxes)), names, stage, progress)


def fill_features(
    data: Path, kind: str, images: Rows, names: Sequence[str], encoder: Encoder, *, batch: int, progress: Progress
) -> Filled:
    """Person images to the cache of one encoder's features; no video is opened.

    Raises ValueError where the encoder wants another layout of person images, or breaks its promise.
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

    folder = create_cache(data, feature_recipe(kind, images, encoder))
    return _fill(folder, names, Stage(read, encode, ahead=2 * max(batch, DECODERS)), progress)


def person_recipe(dataset: str, pattern: str, boxes: Boxes) -> Recipe:
    return Recipe("person-images", dataset, {**STRIP, "videos": pattern, **boxes.settings})


def feature_recipe(kind: str, images: Rows, encoder: Encoder) -> Recipe:
    """The encoder's settings and the person images it saw."""
    settings: Mapping[str, Any] = {**encoder.settings, "person_images": images.recipe.key}
    return Recipe(kind, images.recipe.dataset, settings)


def pending_units(names: Sequence[str], done: set[str]) -> list[tuple[int, list[str]]]:
    """The units that are not whole yet: (number, names without a row). Units are fixed parts of the sample list."""
    units = [(start // UNIT, names[start : start + UNIT]) for start in range(0, len(names), UNIT)]
    left = [(number, [name for name in unit if name not in done]) for number, unit in units]
    return [(number, unit) for number, unit in left if unit]


def _fill(folder: Path, names: Sequence[str], stage: Stage, progress: Progress) -> Filled:
    """Make the rows that are missing, unit by unit, and merge; a killed call resumes where its last part ended."""
    todo = pending_units(names, done_names(folder))
    if not todo and is_merged(folder):
        return Filled(open_cache(folder), 0)
    total = sum(len(unit) for _, unit in todo)
    finished = 0
    progress(finished, total)
    with closing(_read_ahead([name for _, unit in todo for name in unit], stage)) as inputs:
        for number, unit in todo:
            failures: list[str] = []
            columns = stage.encode(_noted(islice(inputs, len(unit)), failures))
            failures = _failures(failures, columns)
            write_part(folder, number, unit, failures, _blanked(columns, failures))
            finished += len(unit)
            progress(finished, total)
    return Filled(merge(folder), total)


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
    pictures, places, found = [], [], []
    for one in inputs:
        place, there = (np.zeros((FRAMES, 4)), np.zeros(FRAMES, bool)) if one.failure else boxes.find(one.picture)
        pictures.append(to_jpeg(blank_image() if one.failure else person_image(one.picture, place)))
        places.append(place)
        found.append(there)
    return {"jpeg": Ragged.of(pictures), "box": np.array(places, np.int32), "person_found": np.array(found)}


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


def _blanked(columns: Columns, failures: Sequence[str]) -> Columns:
    """Numbers of failed rows as zeros, so that nobody takes a blank picture's features for a clip's."""
    failed = np.array([bool(reason) for reason in failures])

    def blank(column: np.ndarray) -> np.ndarray:
        return np.where(failed.reshape(-1, *[1] * (column.ndim - 1)), np.zeros((), column.dtype), column)

    return {name: blank(column) if isinstance(column, np.ndarray) else column for name, column in columns.items()}


def _no_frames() -> np.ndarray:
    return np.zeros((FRAMES, 1, 1, 3), np.uint8)
