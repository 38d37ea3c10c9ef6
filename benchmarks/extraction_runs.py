"""One extraction in a process of its own, and what it cost."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any, TypeVar

import numpy as np

from mmcl.cache.skeletons import Ragged, Skeletons, write_skeletons
from mmcl.cache.terminal import new_console
from mmcl.pipeline.extraction.plan import Request
from mmcl.pipeline.extraction.stage import extract_features
from mmcl.pipeline.preparation.layouts import KINECT_V1
from mmcl.pipeline.report import show_extraction

T = TypeVar("T")
MODELS = "benchmarks.extraction_models"
CORES = len(os.sched_getaffinity(0))
TICK = os.sysconf("SC_CLK_TCK")
QUIET = 0.1  # of the machine may be others'; a run that they disturbed more is made again
TRIES, LOOKS, PATIENCE = 4, 2, 120.0  # runs at most; quiet seconds to see before each, and seconds to wait for them
LOOK = 0.02  # seconds between two looks at the memory in use


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock and of CPU, that of child processes too; what all others took of the machine; peaks in MB.

    `peak` counts mapped files, which the system takes back at need; `private` does not.
    """

    wall: float
    cpu: float
    children: float
    others: float
    peak: float
    private: float


@dataclass(frozen=True)
class Run:
    """An extraction's cost, the clock's seconds by step, and how many videos it opened and rows it made."""

    cost: Cost
    seconds: Mapping[str, float] = field(default_factory=dict)
    decoded: int = 0
    made: int = 0


def alone(function: Callable[..., T], *arguments: Any) -> T:
    """What a function gives that runs in a fresh process, so that nothing is warm and its cost is its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def quiet(run: Callable[[], Run]) -> Run:
    """A run during which others left the machine alone; of TRIES the one that was least disturbed."""
    runs = list[Run]()
    while len(runs) < TRIES and (not runs or runs[-1].cost.others > QUIET):
        _await_quiet()
        runs.append(run())
    return min(runs, key=lambda one: one.cost.others)


def _await_quiet() -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and any(_busy_share() > QUIET for _ in range(LOOKS)):
        continue


def _busy_share() -> float:
    """The part of the machine that was busy during a second."""
    before = _busy()
    time.sleep(1)
    return (_busy() - before) / (os.cpu_count() or 1)


def extract_shown(asked: Request) -> Run:
    """One extraction, and the tables that the command prints at its end."""
    return extract(asked, {}, show=True)


def extract(asked: Request, settings: Mapping[str, str], *, show: bool = False) -> Run:
    """One extraction, with the environment's settings for the encoders of extraction_models."""
    os.environ.update(settings)
    extraction, cost = costing(lambda: extract_features(asked, lambda title: lambda done, total: None))
    if show:
        show_extraction(new_console(), extraction)
    made = sum(report.made for report in extraction.reports)
    return Run(cost, dict(extraction.clock.seconds), extraction.decoded, made)


def request(data: Path, videos: Path | None, **asked: Any) -> Request:
    """As the command would make it, for whole frames on the CPU."""
    usual: dict[str, Any] = {"rgb": None, "llm": None, "prompts": (), "batch": 16, "device": "cpu"}
    return Request(data, videos, "frame", **usual | asked)


def clip_names(videos: Path) -> list[str]:
    """The names of a folder's videos."""
    return sorted(path.stem for path in videos.iterdir())


def new_data(folder: Path, names: Sequence[str]) -> Path:
    """A data set of these clips and nothing else, in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    count = len(names)
    joints = Ragged(np.zeros((count, len(KINECT_V1.joints), 3), np.float32), np.arange(count + 1))
    labels, bodies = np.zeros(count, np.int64), np.ones(count, np.int64)
    write_skeletons(
        folder / "skeletons.h5",
        Skeletons("benchmark", ("acting",), KINECT_V1, tuple(names), labels, bodies, joints, {}, {}),
    )
    return folder


def costing(work: Callable[[], T]) -> tuple[T, Cost]:
    """What `work` gives, and its cost; the CPU of its child processes counts where it waits for their end."""
    memory = _Memory()
    busy, started, self_before, children_before = _busy(), time.perf_counter(), _cpu(RUSAGE_SELF), _cpu(RUSAGE_CHILDREN)
    found = work()
    wall, children = time.perf_counter() - started, _cpu(RUSAGE_CHILDREN) - children_before
    cpu = _cpu(RUSAGE_SELF) - self_before + children
    others = max(0.0, _busy() - busy - cpu) / (wall * (os.cpu_count() or 1))
    return found, Cost(wall, cpu, children, others, *memory.peaks())


def _cpu(who: int) -> float:
    used = getrusage(who)
    return used.ru_utime + used.ru_stime


def _busy() -> float:
    """Seconds that all cores of the machine were busy, stolen ones too."""
    user, nice, system, _, _, *interrupts_and_stolen = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    return sum(map(int, (user, nice, system, *interrupts_and_stolen))) / TICK


class _Memory:
    """Watches this process's memory from a thread."""

    def __init__(self) -> None:
        self._private, self._done = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def peaks(self) -> tuple[float, float]:
        """The peak with and without mapped files, MB."""
        self._done.set()
        self._thread.join()
        return _status("VmHWM"), self._private

    def _watch(self) -> None:
        while not self._done.wait(LOOK):
            self._private = max(self._private, _status("RssAnon"))


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1000
    raise RuntimeError(f"/proc/self/status says no {name}")
