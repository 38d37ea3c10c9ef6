"""`mmcl extract-features` as one function: plan, check, run all passes beside each other, merge, report."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...cache.files import write_csv
from ...cache.index import Index, open_index
from ...cache.lock import locked
from ...cache.merge import merge
from ...cache.recipe import Recipe
from ...cache.store import create_cache, is_merged, sweep
from ..stop import Stop
from ..videos.decoder import Decoders
from .clock import Clock
from .plan import Bars, Plan, Request, plan
from .shard import Shard, take_device

SPARE = 64 << 20  # bytes that are to stay free on the disk
NAMED = 3  # samples without a video that are named at once; all of them are in a file

Tell = Callable[[str], object]  # is given a line that is to be read before the work starts


@dataclass(frozen=True)
class Report:
    """One cache that the command used or made, with the rows it has of the data set's clips."""

    recipe: Recipe
    folder: Path
    rows: int
    missing: int
    made: int
    failures: dict[str, str]
    mass: float | None = None  # the median belief in a prompt's candidates, where it has some

    @property
    def note(self) -> str:
        done = f"made {self.made:,} rows" if self.made else "reused as it was"
        return f"{done}; {self.missing:,} are not there yet" if self.missing else done


@dataclass(frozen=True)
class Extraction:
    """What came of the command: a report a cache, how many videos were opened, and where the time went."""

    reports: list[Report]
    decoded: int
    clock: Clock
    shard: Shard

    @property
    def missing(self) -> int:
        """Rows that are not there yet: the work was stopped, or is other processes'."""
        return max(report.missing for report in self.reports)


def extract_features(
    request: Request, bars: Bars, stop: Stop | None = None, tell: Tell = lambda line: None
) -> Extraction:
    """Make every cache that was asked for and is not there yet; `bars(title)` gives a bar a cache.

    Raises ValueError or FileNotFoundError for what can't begin; a bad clip is a failed row of its cache. Where `stop`
    says so, it ends after the units in flight. `tell` hears first of samples without a video.
    """
    stop = stop or Stop()
    take_device(request.device)
    with Decoders(request.shard.cores) as decoders:
        planned = plan(request, decoders, bars, stop)
        _tell_missing(planned, tell)
        _check(planned)
        with _held(planned):
            _run(planned, stop, request.device)
    return _report(planned, request)


def _tell_missing(planned: Plan, tell: Tell) -> None:
    """Say which samples have no video, a few at once and all in a file; nothing where there is nothing to make."""
    if planned.videos is None or not planned.passes:
        return
    missing, listed = planned.videos.videos.missing, planned.clips.data / "missing-videos.csv"
    if not missing:
        if listed.exists():  # asked first: a read-only folder may be used too
            listed.unlink()
        return
    write_csv(listed, ("name", "looked for"), missing.items())
    count, named = len(planned.clips.names), ", ".join([*list(missing)[:NAMED], *(["..."] * (len(missing) > NAMED))])
    tell(f"{len(missing):,} of {count:,} samples have no video ({named}); all in {listed}")
    if len(missing) > count / 2:
        tell("warning: that is most of them; is it the right folder, and the right --video-pattern if one was given?")


def _check(planned: Plan) -> None:
    """What would fail later is said now: rows that would not fit, a broken model, a disk too small."""
    size = 0
    for one in planned.passes:
        for target in one.targets:
            target.ledger.check()
        size += one.try_out()
    free, needed = shutil.disk_usage(planned.clips.data).free, 2 * size + SPARE  # as parts, and as one table
    if planned.passes and needed > free:
        raise OSError(
            f"{planned.clips.data}: about {needed / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free; "
            "free some space, or take another disk"
        )


@contextmanager
def _held(planned: Plan) -> Iterator[None]:
    """No other process does the same share of the same caches meanwhile."""
    shard = planned.clips.shard
    with ExitStack() as stack:
        for ledger in (target.ledger for one in planned.passes for target in one.targets):
            folder = create_cache(planned.clips.data, ledger.recipe)
            lock = folder / "parts" / f"shard-{shard.index}-of-{shard.count}.lock"
            try:
                stack.enter_context(locked(lock, wait=False))
                sweep(folder, shard.index, shard.count)
            except BlockingIOError as error:
                raise RuntimeError(
                    f"{folder}: {error.strerror}; wait for it, or share the work with --shard 0/2 and --shard 1/2"
                ) from error
        yield


def _run(planned: Plan, stop: Stop, device: str) -> None:
    """All passes beside each other: person images are made while those before them are looked at."""
    if not planned.passes:
        return
    with ThreadPoolExecutor(len(planned.passes), "pass", take_device, (device,)) as threads:
        running = [threads.submit(one.run, stop) for one in planned.passes]
        if any(one.exception() for one in wait(running, return_when=FIRST_EXCEPTION).done):
            stop.ask()
    for one in running:
        one.result()


def _report(planned: Plan, request: Request) -> Extraction:
    recipes = [images.recipe for images in planned.images.values()]
    made = {ledger.recipe.key: len(ledger.made) for ledger in planned.ledgers}
    recipes += [ledger.recipe for ledger in planned.ledgers if ledger.recipe not in recipes]
    reports = [_account(planned, recipe, made.get(recipe.key, 0)) for recipe in recipes]
    if not any(report.missing for report in reports):
        for report in reports:
            if not is_merged(report.folder):
                merge(report.folder)
    decoded = planned.videos.decoded if planned.videos else 0
    return Extraction(reports, decoded, planned.clock, request.shard)


def _account(planned: Plan, recipe: Recipe, made: int) -> Report:
    folder = planned.clips.data / recipe.kind / recipe.key
    index: Index = open_index(folder)
    asked = set(planned.clips.names)
    failures = {name: reason for name, reason in index.failures.items() if name in asked}
    mass = [value for name, value in index.values("mass").items() if name in asked - failures.keys()]
    median = float(np.median(mass)) if mass else None
    return Report(recipe, folder, len(index.places), len(asked - index.places.keys()), made, failures, median)
