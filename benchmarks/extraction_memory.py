"""The memory that filling a cache takes, however many rows it gets."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np

from mmcl.cache.skeletons import read_skeletons
from mmcl.cache.store import create_cache, write_part
from mmcl.cache.table import Ragged
from mmcl.pipeline.extraction.images import image_recipe
from mmcl.pipeline.extraction.shard import WHOLE
from mmcl.pipeline.videos.person import WholeFrame, image_layout, to_jpegs

from .extraction_runs import MODELS, alone, extract, new_data, request

FEW, MANY = 100, 100_000  # rows


def memory(work: Path) -> None:
    """The peak of an extraction from person images, with an encoder that costs nothing and sees nothing."""
    peaks = []
    for count in (FEW, MANY):
        data = new_data(work / "many", [f"clip_{number:06d}" for number in range(count)])
        size = _same_picture(data, count)
        run = alone(extract, request(data, None, rgb=f"{MODELS}:Numbers"), {})
        peaks.append(run.cost)
        print(
            f"{count:7,} rows: peak {run.cost.private:,.0f} MB, {run.cost.peak:,.0f} MB with mapped files; "
            f"{size / 1e6:,.0f} MB of pictures; {1000 * run.cost.cpu / count:.1f} ms of CPU a row"
        )
    few, many = peaks
    print(f"ratio {many.private / few.private:.2f}, with mapped files {many.peak / few.peak:.2f}")
    shutil.rmtree(work / "many")


def _same_picture(data: Path, count: int) -> int:
    """Person images as an extraction leaves them before merging, all of them one picture; gives their bytes."""
    layout = image_layout("strip")
    folder = create_cache(data, image_recipe("benchmark", "{name}", layout, WholeFrame()))
    shades = cv2.resize(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3, (layout.size, layout.size))
    jpeg, ends = to_jpegs(np.repeat(shades[..., None], 3, axis=2))
    for unit, names in WHOLE.units(read_skeletons(data / "skeletons.h5").names):
        pictures = {"jpeg": Ragged.of([jpeg] * len(names)), "jpeg_ends": np.tile(ends, (len(names), 1))}
        write_part(folder, unit, names, [""] * len(names), {**pictures, "video_bytes": np.ones(len(names), np.int64)})
    return count * len(jpeg)
