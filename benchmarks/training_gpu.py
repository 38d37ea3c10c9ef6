"""The training step on a GPU: against the original, eager, compiled and as CUDA graphs, in fp32 and bf16."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from mmcl.trainer.backbones.bodies import Bodies, bodies_of
from mmcl.trainer.model import SkeletonClassifier

from .training_networks import ONE, TWO, Case, batch_of, ours, unfused
from .training_rows import Call, Row, measured

CLIPS = 64
MODES = {"eager": None, "compiled": "default", "CUDA graphs": "reduce-overhead"}
TARGETS = {"fp32": 3.0, "bf16": 5.0}
BUSY = 0.9  # of a step's time, or more
SIZES = (1, 16, 64, 256)
WARM, STEPS, LEFT = 12, 20, 12  # steps before anything is timed, steps of a profile, lines of its table


def gpu(reference: Path | None, rounds: int) -> list[Row]:
    """Both sides with TF32 allowed; every measurement waits for the device."""
    device = torch.device("cuda")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    rows = [
        row
        for case in (TWO, ONE)
        for row in speeds(replace(case, clips=CLIPS, two=CLIPS * case.two // case.clips), reference, device, rounds)
    ]
    return [*rows, *throughput(reference, device), *profiled(device)]


def speeds(case: Case, reference: Path | None, device: torch.device, rounds: int) -> list[Row]:
    theirs = unfused(case, reference).to(device)
    x, labels = (tensor.to(device) for tensor in batch_of(case))
    first, rows = plain_step(theirs, x, labels), list[Row]()
    for precision, least in TARGETS.items():
        for name, mode in MODES.items():
            network = ours(case, unfused(case, reference)).to(device)
            step = our_step(network, case, x, labels, mode=mode, bf16=precision == "bf16")
            times = ratios(first, step, rounds)
            what = f"GPU, {case.name}, N{case.clips}: {name}, {precision}, times the original's fp32 speed"
            rows.append(measured(what, times, least=least if mode else None))
    return rows


def ratios(first: Call, second: Call, rounds: int) -> list[float]:
    for _ in range(WARM):
        first()
        second()
    return [timed(first) / timed(second) for _ in range(rounds)]


def timed(step: Call, steps: int = STEPS) -> float:
    """Seconds of a step, the device's work included."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / steps


def plain_step(network: nn.Module, x: Tensor, labels: Tensor) -> Call:
    return _step(network, lambda: network(x), labels, fused=False)


def our_step(
    network: SkeletonClassifier, case: Case, x: Tensor, labels: Tensor, *, mode: str | None, bf16: bool
) -> Call:
    """The step as training makes it: absent bodies counted, a compiled network given few sizes."""
    called = network if mode is None else torch.compile(network, mode=mode)
    multiple = 1 if mode is None else max(1, case.clips // 8)

    def scores() -> Tensor:
        bodies: Bodies | None = bodies_of(case.counts, case.slots, x.device, multiple)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            return called(x, bodies).scores.float()

    return _step(network, scores, labels, fused=True)


def _step(network: nn.Module, scores: Callable[[], Tensor], labels: Tensor, *, fused: bool) -> Call:
    network.train()
    rates = {"lr": 1e-3, "momentum": 0.9, "nesterov": True, "weight_decay": 4e-4}
    optimizer = torch.optim.SGD(network.parameters(), fused=fused, **rates)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(scores(), labels).backward()
        optimizer.step()

    return step


def throughput(reference: Path | None, device: torch.device) -> list[Row]:
    """Clips a second of training, two bodies each, fp32, as CUDA graphs; the original's beside them."""
    rows = []
    for clips in SIZES:
        case = replace(TWO, clips=clips, two=clips)
        theirs = unfused(case, reference).to(device)
        x, labels = (tensor.to(device) for tensor in batch_of(case))
        network = ours(case, theirs).to(device)
        steps = [plain_step(theirs, x, labels), our_step(network, case, x, labels, mode="reduce-overhead", bf16=False)]
        for step in steps:
            for _ in range(WARM):
                step()
        first, second = (clips / timed(step) for step in steps)
        rows.append(Row(f"GPU, {clips} clips a step: clips a second", f"{second:,.0f}; the original's {first:,.0f}"))
    return rows


def profiled(device: torch.device) -> list[Row]:
    """How much of a step the GPU computes, and a table of what on, printed."""
    case = replace(TWO, clips=CLIPS, two=CLIPS)
    x, labels = (tensor.to(device) for tensor in batch_of(case))
    rows = []
    for name, mode in MODES.items():
        network = ours(case, unfused(case, None)).to(device)
        step = our_step(network, case, x, labels, mode=mode, bf16=False)
        for _ in range(WARM):
            step()
        seconds = statistics.median(timed(step) for _ in range(3))
        with profile(activities=[ProfilerActivity.CUDA]) as found:
            for _ in range(STEPS):
                step()
            torch.cuda.synchronize()
        averages = found.key_averages()
        busy = sum(event.self_device_time_total for event in averages) / 1e6 / STEPS
        rows.append(
            Row(
                f"GPU, N{CLIPS}, {name}: share of the step that it computes",
                busy / seconds,
                least=BUSY if mode else None,
            )
        )
        print(f"{name}:\n{averages.table(sort_by='self_device_time_total', row_limit=LEFT, max_name_column_width=60)}")
    return rows
