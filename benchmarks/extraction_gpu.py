"""A pass over person images against the bare forward pass on images in memory: what the loop costs a GPU."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from mmcl.cache.recipe import read_recipe
from mmcl.cache.store import find_caches, open_cache
from mmcl.cache.table import Ragged
from mmcl.pipeline.encoders.encoder import ENCODERS, Encoder
from mmcl.pipeline.encoders.prompts import PROMPTS
from mmcl.pipeline.extraction.plan import Request
from mmcl.pipeline.extraction.stage import extract_features
from mmcl.pipeline.videos.person import from_jpegs

from .extraction_runs import alone, clip_names, extract, new_data, request

KINDS = {"rgb": "rgb", "llm": "text"}  # the command's option, and the cache that it makes
QUESTIONS = (PROMPTS["holding-object"],)


def gpu(videos: Path, work: Path, models: Mapping[str, str | None], rounds: int) -> None:
    """The networks that were named, on the GPU if there is one."""
    if not torch.cuda.is_available():
        print("not run: no GPU here")
        return
    for option, model in models.items():
        if model:
            against_forward(videos, work, option, model, rounds, "cuda")


def against_forward(videos: Path, work: Path, option: str, model: str, rounds: int, device: str) -> None:
    """The forward passes alone, as a share of the pass that reads, prepares, checks and writes beside them."""
    data, asked = new_data(work / "data", clip_names(videos)), {option: model, "device": device, "prompts": QUESTIONS}
    alone(extract, request(data, videos, **asked), {})  # makes the person images
    turns = [alone(_both, request(data, None, **asked), KINDS[option], model) for _ in range(rounds)]
    share = statistics.median(bare / whole for bare, whole in turns)
    each = ", ".join(f"{bare:.2f} of {whole:.2f} s" for bare, whole in turns)
    print(f"{model} on {device}: the forward alone takes {share:.2f} of the pass ({each}); wanted: at least 0.9")


def _both(asked: Request, kind: str, model: str) -> tuple[float, float]:
    """Seconds of the forward passes on batches in memory, and of the pass that does everything else beside them."""
    encoder = ENCODERS[kind](model, device=asked.device, prompts=asked.prompts)[0]
    bare = _forward(encoder, asked)
    shutil.rmtree(asked.data / kind)
    moments = list[float]()
    extract_features(asked, lambda title: lambda done, total: moments.append(time.perf_counter()))
    return bare, moments[-1] - moments[0]


def _forward(encoder: Encoder, asked: Request) -> float:
    folders = find_caches(asked.data, "person-images")
    rows = open_cache(next(one for one in folders if read_recipe(one).settings["layout"] == encoder.layout))
    jpegs, ends = rows.columns["jpeg"], rows.array("jpeg_ends")
    assert isinstance(jpegs, Ragged)
    images = [from_jpegs(jpegs[row], ends[row]) for row in range(len(rows.names))]
    starts = range(0, len(images), asked.batch)
    prepared = [encoder.prepare(images[start : start + asked.batch]) for start in starts]
    encoder.encode(prepared[0])  # loads the weights
    started = time.perf_counter()
    for batch in prepared:
        encoder.encode(batch)
    return time.perf_counter() - started
