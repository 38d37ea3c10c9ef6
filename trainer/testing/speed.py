"""What a network costs where it is used, by one protocol that is printed, beside what its teachers cost in training."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table

from ...cache.words import cell
from ..backbones.cost import cost
from ..model import SkeletonClassifier
from ..run import Run
from .proof import skeleton_only
from .training_cost import TeacherCost, heads_parameters, teachers_of, training_seconds

BATCH = 16  # clips a pass, for the throughput
WARM_UP, REPEATS = 5, 50  # passes at most: untimed, timed
SECONDS = 2.0  # after which no further timed pass begins, at each batch; of those of the warm-up, a quarter of it


@dataclass(frozen=True)
class Timing:
    """Median seconds of a pass, and how many passes came before and were timed."""

    seconds: float
    warm_up: int
    repeats: int


@dataclass(frozen=True)
class Speed:
    """What a run's network costs at test time, and what training it took; None is what nobody knows any more.

    `latency` is in seconds at batch 1, `throughput` in clips a second at batch `batch`; `protocol` says in one line how
    they were measured, `proof` that the network sees skeletons only. `heads` are the parameters of FAM and FRM.
    """

    parameters: int
    multiply_adds: int
    latency: float
    throughput: float
    batch: int
    protocol: str
    proof: str
    teachers: tuple[TeacherCost, ...]
    heads: int | None
    training_seconds: float | None


def measure_speed(run: Run, model: SkeletonClassifier, folder: Path, device: torch.device) -> Speed:
    """The cost of a run's network on this device, in a few seconds; nothing of its training need be there any more.

    The network alone is timed, on clips that are cut and scaled already. Raises ValueError where model.safetensors
    holds more than the network. Leaves the model on the device, in eval mode.
    """
    proof = skeleton_only(folder, run)
    one, many = (_time(model.to(device).eval(), clips(run, size, device)) for size in (1, BATCH))
    config = run.config
    found = cost(
        config.backbone,
        run.layout,
        frames=config.window,
        bodies=run.slots,
        classes=len(run.classes),
        width=config.width,
    )
    return Speed(
        parameters=found.parameters,
        multiply_adds=found.multiply_adds,
        latency=one.seconds,
        throughput=BATCH / many.seconds,
        batch=BATCH,
        protocol=_protocol(run, device, one, many),
        proof=proof,
        teachers=teachers_of(run),
        heads=heads_parameters(folder, run),
        training_seconds=training_seconds(folder),
    )


def clips(run: Run, count: int, device: torch.device) -> torch.Tensor:
    """Noise [count, 3, T, V, M] as the run's network takes it; all bodies are there, none is left out as absent."""
    generator = torch.Generator().manual_seed(0)
    shape = count, 3, run.config.window, len(run.layout.joints), run.slots
    return torch.randn(shape, generator=generator).to(device)


def _time(model: SkeletonClassifier, given: torch.Tensor) -> Timing:
    def once() -> None:
        model(given)
        if given.device.type != "cpu":
            torch.accelerator.synchronize(given.device)

    with torch.inference_mode():
        warm = _passes(once, WARM_UP, SECONDS / 4)
        timed = _passes(once, REPEATS, SECONDS)
    return Timing(statistics.median(timed), len(warm), len(timed))


def _passes(once: Callable[[], None], most: int, limit: float) -> list[float]:
    """The seconds of each of `most` passes, or of as many as begin within the limit; of one at least."""
    started, found = time.perf_counter(), list[float]()
    while not found or (len(found) < most and time.perf_counter() - started < limit):
        before = time.perf_counter()
        once()
        found.append(time.perf_counter() - before)
    return found


def _protocol(run: Run, device: torch.device, one: Timing, many: Timing) -> str:
    shape = f"3, {run.config.window}, {len(run.layout.joints)}, {run.slots}"
    threads = torch.get_num_threads()
    return (
        f"the network alone, clips [N, {shape}] of noise, all bodies present; float32, eval and inference mode; "
        f"{_device_name(device)}, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}; median pass of "
        f"{one.repeats} timed after {one.warm_up} of warm-up at N = 1, of {many.repeats} after {many.warm_up} at "
        f"N = {BATCH} (at most {REPEATS}, and those that begin within {SECONDS:g} s)"
    )


def _device_name(device: torch.device) -> str:
    """Such as NVIDIA H200; of a CPU the maker's name where Linux tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.machine())


def speed_table(speed: Speed) -> Table:
    """The cost at test time, and below it what training took beside it; `speed_lines` belong under it."""
    table = Table(title="cost", title_justify="left")
    table.add_column("at test time: skeletons only")
    table.add_column("", justify="right")
    table.add_row("parameters", f"{speed.parameters:,}")
    table.add_row("multiply-adds a clip, which papers call FLOPs", _multiply_adds(speed.multiply_adds))
    table.add_row("latency at batch 1", f"{1000 * speed.latency:,.2f} ms")
    table.add_row(f"throughput at batch {speed.batch}", f"{speed.throughput:,.1f} clips/s")
    table.add_section()
    table.add_row("[bold]in training only[/bold]", "")
    table.add_row("parameters of FAM and FRM", _said(speed.heads))
    for teacher in speed.teachers:
        _add_teacher(table, teacher)
    table.add_row("training", _said(speed.training_seconds, " s"))
    return table


def speed_lines(speed: Speed) -> tuple[str, str]:
    """How it was measured, and what proves that it sees skeletons only: a line each."""
    return f"measured: {speed.protocol}", speed.proof


def _add_teacher(table: Table, teacher: TeacherCost) -> None:
    table.add_row(cell(f"{teacher.kind} teacher, frozen: {teacher.name}"), "")
    table.add_row("  its parameters", _said(teacher.parameters))
    clips = "" if teacher.clips is None else f", {teacher.clips:,} clips"
    table.add_row(f"  its device time{clips}", _said(teacher.seconds, " s"))
    table.add_row("  features that training reads of a clip", _said(teacher.clip_bytes, " bytes"))
    table.add_row("  its cache", _said(teacher.cache_bytes, " bytes"))


def _multiply_adds(count: int) -> str:
    return f"{count / 1e9:.2f} G" if count >= 1e9 else f"{count / 1e6:.1f} M"


def _said(value: float | None, unit: str = "") -> str:
    if value is None:
        return "not known"
    return f"{value:,}{unit}" if isinstance(value, int) else f"{value:,.1f}{unit}"
