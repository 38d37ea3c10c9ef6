"""The data path, clips a second and core, and its values, against a feeder that takes one padded clip at a time."""

from __future__ import annotations

import time
from math import degrees
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmcl.cache.skeletons import Skeletons
from mmcl.trainer.config import STREAMS, Config
from mmcl.trainer.data.skeleton import batch, body_of, draw, pack

from .training_clips import LONGEST, clips, padded
from .training_feeders import TURN, Feeder, draws_of, feeder
from .training_rows import Row, alternating, measured

CLIPS, BATCH = 512, 64
ROTATION = (degrees(TURN), degrees(TURN), degrees(TURN))  # the feeder's
TIMES = {"joint": 15.0, "bone": 12.0, "joint-motion": 12.0, "bone-motion": 12.0}
CLOSE = {"joint": 1e-6, "bone": 2e-6, "joint-motion": 2e-6, "bone-motion": 2e-6}
RULES = {"NTU60": "zero", "NTU120": "repeat"}
LARGE = 7 << 20  # floats; glibc takes the largest freed block, up to 32 MiB, for the size of its own stock
PASSES = 4  # of ours in each round: one alone is too short to time


def data(reference: Path | None, rounds: int, count: int = CLIPS) -> list[Row]:
    """On one thread, in seconds of CPU; both sides on the same clips, ours 64 at a time as training takes them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.empty(LARGE)  # freed: from now on the allocator keeps what it got, as it does beside a network that trains
    try:
        rows = [row for name, rule in RULES.items() for row in _rule(name, clips(count, rule), rule, reference, rounds)]
    finally:
        torch.set_num_threads(threads)
    return [*rows, memory(clips(count, "zero"))]


def _rule(name: str, skeletons: Skeletons, rule: str, reference: Path | None, rounds: int) -> list[Row]:
    values, rows = padded(skeletons, rule), list[Row]()
    for stream in STREAMS:
        for augmented in (True, False):
            config = Config(stream=stream, rotation=ROTATION)
            one = feeder(values, config, augmented=augmented, checkout=reference)
            what = f"{name} {stream}, {'training' if augmented else 'evaluation'}"
            rows.append(speed(what, skeletons, rule, config, one, augmented=augmented, rounds=rounds))
            rows.append(closeness(what, skeletons, rule, config, one, augmented=augmented))
    return rows


def speed(
    what: str, skeletons: Skeletons, rule: str, config: Config, one: Feeder, *, augmented: bool, rounds: int
) -> Row:
    packed, body, count = pack(skeletons), body_of(skeletons.layout, 2, rule), len(skeletons.names)
    chunks = torch.arange(count).split(BATCH)
    generator = torch.Generator().manual_seed(0)

    def ours() -> None:
        for _ in range(PASSES):
            for rows in chunks:
                batch(packed, rows, body, config, draw(generator, len(rows), config.window) if augmented else None)

    def theirs() -> None:
        for row in range(count):
            one(row)

    seconds = alternating([theirs, ours], rounds, time.process_time)
    seconds[:, 1] /= PASSES
    a, b = count / np.median(seconds, axis=0)
    times = (seconds[:, 0] / seconds[:, 1]).tolist()
    return measured(f"{what}: clips a second and core, {b:,.0f} to {a:,.0f}", times, least=TIMES[config.stream])


def closeness(what: str, skeletons: Skeletons, rule: str, config: Config, one: Feeder, *, augmented: bool) -> Row:
    """The largest difference of any value, both with the random numbers that the feeder drew."""
    one.drawn.clear()
    count = len(skeletons.names)
    wanted = torch.stack([torch.as_tensor(one(row)) for row in range(count)])
    draws = draws_of(one.drawn, skeletons.frames, config.window) if augmented else None
    body = body_of(skeletons.layout, 2, rule)
    found: Tensor = batch(pack(skeletons), torch.arange(count), body, config, draws)
    difference = float((found - wanted).abs().max())
    return Row(f"{what}: largest difference of a value", difference, most=CLOSE[config.stream])


def memory(skeletons: Skeletons) -> Row:
    """Bytes of a clip, packed and padded; what is packed does not know how far others would pad."""
    packed = pack(skeletons)
    own = sum(tensor.numel() * tensor.element_size() for tensor in packed) / len(skeletons.names)
    whole = padded(skeletons, "zero")[0].nbytes
    return Row("kB a clip", f"{own / 1000:.0f} packed, {whole / 1000:.0f} padded to {LONGEST} frames")
