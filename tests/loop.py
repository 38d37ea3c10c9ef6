"""Stage one in this process: `mmcl extract-features` as one function, with encoders of the tests' own."""

from __future__ import annotations

import atexit
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from mmcl.cache.skeletons import Layout, Skeletons, Split, write_skeletons
from mmcl.cache.store import Rows, find_caches, open_cache
from mmcl.cache.table import Ragged
from mmcl.pipeline.encoders.encoder import ENCODERS
from mmcl.pipeline.encoders.prompts import PROMPTS
from mmcl.pipeline.extraction.plan import Bars, Request
from mmcl.pipeline.extraction.shard import WHOLE, Shard
from mmcl.pipeline.extraction.stage import Extraction, extract_features
from mmcl.pipeline.stop import Stop
from mmcl.pipeline.videos.decoder import Decoders

Answer = Callable[[np.ndarray], Any]


def mean_of(images: np.ndarray) -> dict[str, np.ndarray]:
    """The least that an encoder can say: the mean of each image."""
    return {"feature": images.mean(tuple(range(1, images.ndim)), dtype=np.float32)[:, None]}


def said_of(images: np.ndarray) -> dict[str, np.ndarray]:
    return {"prompt_feature": mean_of(images)["feature"]}


class Eye:
    """An encoder that remembers the sizes of its batches; `answer` makes columns of images uint8 [n, ...]."""

    def __init__(self, answer: Answer = mean_of, *, layout: str = "strip", **settings: Any) -> None:
        self.settings: Mapping[str, Any] = {"model": "eye"} | settings
        self.layout = layout
        self._answer = answer
        self.batches: list[int] = []  # how many images at each call, without the blank one of the trial

    def prepare(self, images: Sequence[np.ndarray], /) -> np.ndarray:
        return np.stack(images)

    def encode(self, prepared: np.ndarray, /) -> Any:
        if not is_blank(prepared):
            self.batches.append(len(prepared))
        return self._answer(prepared)

    @property
    def rows(self) -> int:
        return sum(self.batches)


class Voice(Eye):
    """The same for one prompt put to an LLM."""

    def __init__(self, prompt: str, answer: Answer = said_of, **settings: Any) -> None:
        super().__init__(answer, prompt=prompt, **settings)


def is_blank(images: np.ndarray) -> bool:
    """Whether it is the one grey image that every encoder is tried out with."""
    return len(images) == 1 and bool((images == 127).all())


def quiet(title: str) -> Callable[[int, int], None]:
    return lambda done, total: None


def extract(
    data: Path,
    videos: Path | None = None,
    *,
    rgb: Eye | Any = None,
    texts: Sequence[Voice | Any] = (),
    person: str | None = "frame",
    batch: int = 5,
    shard: Shard = WHOLE,
    retry: bool = False,
    accept: bool = False,
    bars: Bars = quiet,
    stop: Stop | None = None,
) -> Extraction:
    """One run: an RGB encoder, and one of an LLM for each of several prompts."""
    request = Request(
        data, videos, person, rgb and "eye", "eye" if texts else None, list(PROMPTS.values()), batch, "cpu", shard,
        retry, accept,
    )  # fmt: skip
    encoders = {"rgb": lambda *_, **__: [rgb], "text": lambda *_, **__: list(texts)}
    shared = patch("mmcl.pipeline.extraction.stage.Decoders", lambda count: nullcontext(decoders()))
    with patch.dict(ENCODERS, encoders), shared:
        return extract_features(request, bars, stop)


@lru_cache
def decoders() -> Decoders:
    """The same two decoder processes for all tests: starting them takes longer than most tests."""
    started = Decoders(2)
    atexit.register(started.close)
    return started


def write_names(data: Path, names: Sequence[str]) -> Path:
    """A data set of these clips: each has one joint in one frame, which stage one does not look at."""
    count, split = len(names), np.ones(len(names), np.int8)
    joints = Ragged.of([np.zeros((1, 1, 3), np.float32)] * count)
    people, labels = np.ones(count, np.int64), np.zeros(count, np.int64)
    known = Skeletons(
        "acted", ("one",), Layout("point", ("it",), (), 0), tuple(names), labels, people, joints,
        {"given": Split(split)},
    )  # fmt: skip
    data.mkdir(exist_ok=True)
    write_skeletons(data / "skeletons.h5", known)
    return data


def only_cache(data: Path, kind: str) -> Rows:
    """The one cache of a kind."""
    (folder,) = find_caches(data, kind)
    return open_cache(folder)


def columns_of(rows: Rows) -> dict[str, list[bytes]]:
    """Every column's rows as bytes, in the order of the rows."""
    return {
        name: [np.asarray(column[row]).tobytes() for row in range(len(column))] for name, column in rows.columns.items()
    }


def files(folder: Path) -> dict[str, tuple[str, int]]:
    """Contents and time of every file but locks."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {
        str(f.relative_to(folder)): (hashlib.sha256(f.read_bytes()).hexdigest(), f.stat().st_mtime_ns) for f in found
    }
