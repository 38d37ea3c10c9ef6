"""How long an epoch of NTU RGB+D 120 takes: the data path over all clips, and the step for all batches."""

from __future__ import annotations

import time

import numpy as np
import torch

from mmcl.trainer.config import Config
from mmcl.trainer.data.skeleton import batch, body_of, draw, pack

from .training_clips import clips
from .training_networks import TWO, Case, batch_of, ours, plain, scores_of, training
from .training_rows import Row, alternating

CLIPS = 63_026  # the training clips of its split X-Sub
BATCH = 64


def epoch(rounds: int, count: int = CLIPS, case: Case = TWO) -> list[Row]:
    skeletons = clips(count, "repeat")
    size = skeletons.joints.values.nbytes / 1e9
    started = time.perf_counter()
    packed, body, config = pack(skeletons), body_of(skeletons.layout, 2, "repeat"), Config()
    opened = time.perf_counter() - started
    generator = torch.Generator().manual_seed(0)
    started = time.perf_counter()
    for rows in torch.randperm(count, generator=generator).split(BATCH):
        batch(packed, rows, body, config, draw(generator, len(rows), config.window))
    seconds = time.perf_counter() - started
    network = ours(case, plain(case))
    step = training(network, scores_of(network, case), *batch_of(case), fused=True)
    a_step = float(np.median(alternating([step], rounds)))
    hours = (seconds + a_step * count / case.clips) / 3600
    return [
        Row(f"packing {count:,} clips, {size:.1f} GB: seconds", opened),
        Row(f"the data path alone, batches of {BATCH}, training: seconds an epoch", seconds),
        Row(
            f"with the training step on top, {1000 * a_step:,.0f} ms for {case.clips}: hours an epoch, extrapolated",
            hours,
        ),
    ]
