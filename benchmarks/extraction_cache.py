"""The caches of stage one: opening them, reading a batch of rows, and what writing them costs."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe, read_recipe
from mmcl.cache.store import Made, cache_folders, create_cache, library_versions, open_cache, verify, write_part
from mmcl.cache.table import Column, Ragged
from mmcl.pipeline.extraction.shard import UNIT

from .extraction_runs import CORES, alone, clip_names, extract, new_data, quiet, request

ROWS, BATCH, WIDTH = 100_000, 256, 512
TRIES, TURNS = 60, 5  # of what takes milliseconds, and of what takes longer; medians count
Fixed = dict[str, np.ndarray]


def opening(work: Path) -> None:
    """Opening caches of 100,000 rows against opening an empty HDF5 file, and a batch against a bare memory map."""
    shutil.rmtree(work / "big", ignore_errors=True)
    empty = work / "empty.h5"
    h5py.File(empty, "w").close()
    for kind, columns in (("rgb", rgb_like()), ("text", text_like())):
        folder = _big_cache(work / "big", kind, columns)
        opened = _against(lambda: open_cache(folder), lambda: h5py.File(empty, "r").close())  # noqa: B023
        print(f"{kind}: opening {ROWS:,} rows takes {opened} an empty HDF5 file's time; at most 5")
        names = [name for name in columns if columns[name].dtype.kind == "f"]
        print(f"{kind}: {BATCH} rows of {', '.join(names)} take {_batch(folder, names)} np.memmap's time; at most 3")
        shutil.rmtree(folder)


def rgb_like() -> Fixed:
    """What an RGB network makes of 100,000 clips."""
    return {"feature": _random(WIDTH), **_noted()}


def text_like() -> Fixed:
    """What an LLM makes of 100,000 clips and one prompt."""
    random = np.random.default_rng(0)
    return {
        "prompt_feature": _random(WIDTH),
        "answer_feature": _random(WIDTH),
        "answer_ids": random.integers(0, 30_000, (ROWS, 16), dtype=np.int32),
        "answer_text": np.full(ROWS, b"yes, the person is holding a cup", "S64"),
        "probabilities": _random(2),
        "mass": np.ones(ROWS, np.float32),
        **_noted(),
    }


def _random(width: int) -> np.ndarray:
    return np.random.default_rng(width).random((ROWS, width), np.float32)


def _noted() -> Fixed:
    return {"image_crc": np.zeros(ROWS, np.uint32), "batch": np.full(ROWS, 16, np.int32)}


def _big_cache(root: Path, kind: str, columns: Fixed) -> Path:
    folder = create_cache(root, Recipe(kind, "benchmark", {"model": "none"}))
    write_part(folder, 0, _names(ROWS), [""] * ROWS, columns)
    merge(folder)
    return folder


def _names(count: int) -> list[str]:
    return [f"clip_{number:06d}" for number in range(count)]


def _batch(folder: Path, names: list[str]) -> str:
    """Random rows through the cache against the same rows through bare memory maps; both lie in memory already."""
    rows, file = open_cache(folder), h5py.File(folder / "cache.h5", "r")
    ours = [rows.array(name) for name in names]
    bare = [_memmap(file, name) for name in names]
    for column in (*ours, *bare):
        column.sum()
    batches = np.random.default_rng(0).integers(0, ROWS, (TRIES, BATCH))
    other = np.roll(batches, TRIES // 2, axis=0)  # so that no row lies in the processor's cache for the second side
    ratio = _against(_taking(ours, batches), _taking(bare, other))
    file.close()
    return ratio


def _taking(columns: Sequence[np.ndarray], batches: np.ndarray) -> Callable[[], object]:
    """Reads the next batch's rows of all columns; both sides go through the same batches."""
    turn = cycle(batches)

    def take() -> list[np.ndarray]:
        rows = next(turn)
        return [column[rows] for column in columns]

    return take


def _memmap(file: h5py.File, name: str) -> np.ndarray:
    found: Any = file[name]
    return np.memmap(file.filename, found.dtype, "r", found.id.get_offset(), found.shape)


def _against(one: Callable[[], object], other: Callable[[], object]) -> str:
    """How many times the other's time one takes: medians of turns, and the quarter and three-quarter points."""
    for work in (one, other):
        work()
    ratios = [_seconds(one) / _seconds(other) for _ in range(TRIES)]
    low, middle, high = statistics.quantiles(ratios)
    return f"{middle:.2f} ({low:.2f} to {high:.2f}) times"


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def parts(videos: Path, work: Path, rgb: str) -> None:
    """Writing, merging and checking all rows against an extraction that were to use every core all the time."""
    names, data = clip_names(videos), work / "data"
    run = quiet(lambda: alone(extract, request(new_data(data, names), videos, rgb=rgb), {}))
    least, seconds = run.cost.cpu / CORES, {"write": 0.0, "merge": 0.0, "verify": 0.0}
    for folder in cache_folders(data):
        turns = [rewritten(folder, work / "again") for _ in range(TURNS)]
        for step in seconds:
            seconds[step] += statistics.median(turn[step] for turn in turns)
    each = ", ".join(f"{step} {spent / least:.2%}" for step, spent in seconds.items())
    print(
        f"of an extraction of {len(names)} clips with {rgb}, {least:.1f} s of all cores (wall {run.cost.wall:.1f} s):"
    )
    print(f"{each}; together {sum(seconds.values()) / least:.2%}, wanted: under 3%")


def rewritten(folder: Path, root: Path) -> dict[str, float]:
    """Seconds that the rows of a cache take again: as part files, merged, and checked."""
    shutil.rmtree(root, ignore_errors=True)
    rows, again, made = open_cache(folder), create_cache(root, read_recipe(folder)), Made(libraries=library_versions())
    columns = {name: column for name, column in rows.columns.items() if name not in ("name", "failure")}

    def write() -> None:
        for start in range(0, len(rows.names), UNIT):
            names = rows.names[start : start + UNIT]
            cut = {name: _cut(column, start, start + len(names)) for name, column in columns.items()}
            write_part(again, start // UNIT, names, [""] * len(names), cut, made)

    return {
        "write": _seconds(write),
        "merge": _seconds(lambda: merge(again)),
        "verify": _seconds(lambda: verify(again)),
    }


def _cut(column: Column, start: int, end: int) -> Column:
    return Ragged.of([column[row] for row in range(start, end)]) if isinstance(column, Ragged) else column[start:end]
