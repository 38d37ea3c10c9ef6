"""Units of raw files read in this process or in several others, until all are done or a stop is asked."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path

from ..stop import Stop
from .dataset import RawDataset
from .units import Unit, Wanted, is_done, read_unit

FEW = 5000  # files; fewer are read sooner than other processes start

PARENTS_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Work = Callable[[Unit], None]


def read_all(
    raw: RawDataset,
    units: Sequence[Unit],
    parts: Path,
    progress: Callable[[int, int], None],
    *,
    jobs: int | None,
    stop: Stop,
) -> bool:
    """Read the units that have no record in `parts` yet; whether all have one now."""
    total = sum(len(unit.files) for unit in units)
    left = [unit for unit in units if not is_done(unit, parts)]
    done = total - sum(len(unit.files) for unit in left)
    progress(done, total)
    wanted = Wanted(raw.reader, len(raw.facts.layout.joints), len(raw.facts.classes))
    work, jobs = partial(read_unit, folder=parts, wanted=wanted), _jobs(raw, jobs, total)
    for unit in _here(left, work, stop) if jobs == 1 else _elsewhere(left, work, jobs, stop):
        done += len(unit.files)
        progress(done, total)
    return done == total


def _jobs(raw: RawDataset, asked: int | None, files: int) -> int:
    if getattr(raw, "in_memory", False):
        return 1
    return asked or (len(os.sched_getaffinity(0)) if files > FEW else 1)


def _here(units: Sequence[Unit], work: Work, stop: Stop) -> Iterator[Unit]:
    for unit in units:
        if stop():
            return
        work(unit)
        yield unit


def _elsewhere(units: Sequence[Unit], work: Work, jobs: int, stop: Stop) -> Iterator[Unit]:
    """Units in the order in which they are done; few are handed out ahead, so that a stop is soon."""
    waiting, running = list(reversed(units)), dict[Future[None], Unit]()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin, initargs=(work,)) as pool:
        while running or (waiting and not stop()):
            while waiting and len(running) < 2 * jobs and not stop():
                unit = waiting.pop()
                with deaf():
                    running[pool.submit(_do, unit)] = unit
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield _done(future, running.pop(future))


@contextmanager
def deaf() -> Iterator[None]:
    """A process begun meanwhile hears no signal from its first moment on; ours come a moment later."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _done(future: Future[None], unit: Unit) -> Unit:
    try:
        future.result()
    except BrokenProcessPool as error:
        said = "a process that reads files was killed, for want of memory perhaps"
        raise RuntimeError(f"{said}; run the same command again, it goes on (fewer processes: --jobs 1)") from error
    return unit


_work: Work


def _begin(work: Work) -> None:
    global _work
    _work = work
    as_child()


def as_child() -> None:
    """In a process that reads: signals are the parent's to hear, and it does not outlive the parent."""
    for number in PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _do(unit: Unit) -> None:
    _work(unit)
