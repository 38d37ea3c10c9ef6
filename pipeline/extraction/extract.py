"""The loop of stage one: clips read ahead by threads -> batches -> the device -> part files, a unit at a time."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from ...cache.table import Column, Ragged
from ..stop import Stop
from .clock import Clock
from .gates import narrowed
from .ledger import Ledger
from .memory import is_shortage, too_large

AHEAD = 3  # batches being read and prepared while one is on the device; what memory holds
YIELD = 10  # how nice threads and their decoders are to the one that encodes, which they would hold up on a full CPU
DEVICE = threading.Lock()  # one network computes at a time, so that memory holds the larger, not the sum

Progress = Callable[[int, int], None]
Columns = dict[str, Column]


@dataclass(frozen=True)
class Input:
    """What one clip gives: `content` as the target wants it, blank where it failed; `failure` says why."""

    content: Any
    failure: str = ""


class Ready(NamedTuple):
    """What `prepare` gives where no network is needed: what `encode` would have given."""

    encoded: Any


class Target(Protocol):
    """One cache, and how its rows come out of a batch of inputs.

    `prepare` and `finish` run in threads; `encode` has the device, and is left out where a Ready was prepared. `close`
    looks at a whole unit: it gives the columns and why each row is not to be used, empty where it is. `try_out` finds
    out early what would fail, and gives the bytes of a row.
    """

    ledger: Ledger

    def try_out(self) -> int: ...

    def prepare(self, inputs: list[Input], /) -> Any: ...

    def encode(self, prepared: Any, inputs: list[Input], /) -> Any: ...

    def finish(self, encoded: Any, inputs: list[Input], /) -> Columns: ...

    def close(self, names: list[str], columns: Columns, reasons: list[str], /) -> tuple[Columns, list[str]]: ...


class Source(Protocol):
    """Where inputs come from, and when. `ready` says whether a unit's can be read, `wait` waits for it.

    `wait` is False where they will never be: the work was stopped. `checksums` are those of the person images, or None
    where the inputs are videos. `written` is told of every finished unit with the parts made of it.
    """

    @property
    def checksums(self) -> Mapping[str, int] | None: ...

    def read(self, name: str, /) -> Input: ...

    def ready(self, unit: int, /) -> bool: ...

    def wait(self, unit: int, /) -> bool: ...

    def written(self, unit: int, parts: Sequence[Path], /) -> None: ...


@dataclass(frozen=True)
class Slice:
    """A batch's worth of one unit, for the targets that lack these rows: all of these targets' where it is `last`."""

    unit: int
    names: Sequence[str]
    targets: Sequence[Target]
    last: bool
    ends_unit: bool


@dataclass
class _Batch:
    """A slice under way: its inputs until they were encoded, and what each target made of them."""

    slice: Slice
    inputs: list[Future[Input]]
    reasons: list[str] = field(default_factory=list)
    prepared: list[Future[Any]] = field(default_factory=list)
    finished: list[Future[Columns]] = field(default_factory=list)


class Pass:
    """One way over the clips of this process: every input is read once and goes to all targets.

    A unit is written when its last batch is done, before anything of the next is kept: a kill loses that unit alone.
    """

    def __init__(self, source: Source, targets: Sequence[Target], batch: int, clock: Clock) -> None:
        self.targets = targets
        self._source, self._clock = source, clock
        self._use(batch)
        clips = targets[0].ledger.clips
        units = [(unit, names, self._rows(names)) for unit, names in clips.shard.units(clips.names)]
        self._left = {unit: names for unit, names, rows in units if rows}
        self._expected = {unit: rows for unit, _, rows in units if rows}
        self._cores, self._seen = clips.shard.cores, 0
        self._progress: Progress = lambda done, total: None

    @property
    def units(self) -> list[int]:
        """The units with something left to make, as far as it can be told now."""
        return list(self._left)

    @property
    def rows(self) -> int:
        """How many rows are left to make."""
        return sum(self._expected.values())

    def try_out(self) -> int:
        """Try every target on one clip; gives about the bytes that its rows will take."""
        try:
            return self.rows * sum(target.try_out() for target in self.targets)
        except (MemoryError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            raise too_large(str(error)) from error

    def show(self, progress: Progress) -> None:
        """Tell `progress` of every unit that is done."""
        self._progress = progress

    def run(self, stop: Stop) -> None:
        """Make what is missing; ends early, after a whole unit, where `stop` says so."""
        self._progress(0, self.rows)
        while self._left and not stop():
            try:
                self._stream(stop)
                return
            except (MemoryError, RuntimeError) as error:
                if not is_shortage(error):
                    raise
                shortage = str(error)  # the error itself would keep the batch in memory
            self._halve(shortage)

    def _stream(self, stop: Stop) -> None:
        units, slices = deque(self._left.items()), deque[Slice]()
        waiting, unit, parts = deque[_Batch](), list[_Batch](), list[Path]()
        with ExitStack() as stack:
            crew = _Crew(stack, self._cores)
            while True:
                while len(waiting) < AHEAD and (found := self._next(units, slices, idle=not waiting)):
                    waiting.append(self._submit(found, crew))
                if not waiting:
                    return
                batch = waiting.popleft()
                self._encode(batch, crew)
                unit.append(batch)
                _bound(unit)
                if batch.slice.last:
                    parts += self._write(unit)
                    unit.clear()
                if batch.slice.ends_unit:
                    self._done(batch.slice.unit, parts)
                    parts.clear()
                    if stop():
                        return

    def _next(self, units: deque[tuple[int, list[str]]], slices: deque[Slice], *, idle: bool) -> Slice | None:
        """The next slice whose inputs can be read; where idle, waits for it. None where there is none, or no more."""
        while not slices and units:
            if not idle and not self._source.ready(units[0][0]):
                return None
            if not self._source.wait(units[0][0]):
                return None
            slices.extend(self._slices(*units.popleft()))
        return slices.popleft() if slices else None

    def _slices(self, unit: int, names: Sequence[str]) -> Iterator[Slice]:
        """A unit cut into batches, for each set of targets that lack the same rows."""
        groups: dict[tuple[str, ...], list[Target]] = {}
        for target in self.targets:
            if pending := target.ledger.pending(names, self._source.checksums):
                groups.setdefault(tuple(pending), []).append(target)
        if not groups:
            self._done(unit, [])
        for number, (pending, targets) in enumerate(groups.items(), start=1):
            for start in range(0, len(pending), self._fit):
                last = start + self._fit >= len(pending)
                names = pending[start : start + self._fit]
                yield Slice(unit, names, targets, last, last and number == len(groups))

    def _submit(self, found: Slice, crew: _Crew) -> _Batch:
        inputs = [crew.readers.submit(self._source.read, name) for name in found.names]
        batch = _Batch(found, inputs)
        batch.prepared = [crew.preparers.submit(self._prepare, target, inputs) for target in found.targets]
        return batch

    def _prepare(self, target: Target, inputs: list[Future[Input]]) -> Any:
        read = [one.result() for one in inputs]
        with self._clock("preprocess"):
            return target.prepare(read)

    def _encode(self, batch: _Batch, crew: _Crew) -> None:
        inputs = [one.result() for one in batch.inputs]
        batch.reasons = [one.failure for one in inputs]
        for target, prepared in zip(batch.slice.targets, batch.prepared, strict=True):
            ready = prepared.result()
            if not isinstance(ready, Ready):
                with DEVICE, self._clock("forward"):
                    started = time.perf_counter()
                    ready = Ready(target.encode(ready, inputs))
                    target.ledger.spent(time.perf_counter() - started)
            batch.finished.append(crew.finishers.submit(target.finish, ready.encoded, inputs))
        batch.inputs.clear()  # whole frames: a unit's would fill the memory
        batch.prepared.clear()

    def _write(self, unit: list[_Batch]) -> list[Path]:
        """The batches of one unit to a part file for each target."""
        first = unit[0].slice
        names = [name for batch in unit for name in batch.slice.names]
        reasons = [reason for batch in unit for reason in batch.reasons]
        parts = []
        for number, target in enumerate(first.targets):
            columns = joined([batch.finished[number].result() for batch in unit])
            columns, failures = target.close(names, columns, reasons)
            with self._clock("write"):
                parts.append(target.ledger.write(first.unit, names, failures, columns))
        return parts

    def _done(self, unit: int, parts: Sequence[Path]) -> None:
        self._source.written(unit, parts)
        del self._left[unit]
        self._seen += self._expected.pop(unit)
        self._progress(self._seen, self._seen + self.rows)

    def _rows(self, names: Sequence[str]) -> int:
        return max(len(target.ledger.pending(names, self._source.checksums)) for target in self.targets)

    def _halve(self, shortage: str) -> None:
        """Half the batch from the unit in flight on, noted in every part made with it."""
        if self._fit == 1:
            raise too_large(shortage)
        self._use(self._fit // 2)
        torch.cuda.empty_cache()

    def _use(self, batch: int) -> None:
        """Go on with this batch, and note it with every row."""
        self._fit = batch
        for target in self.targets:
            target.ledger.fit = min(batch, target.ledger.batch)


class _Crew:
    """The threads of one pass; leaving the stack, what has not begun is dropped."""

    def __init__(self, stack: ExitStack, cores: int) -> None:
        def pool(name: str) -> ThreadPoolExecutor:
            made = ThreadPoolExecutor(cores, name, os.nice, (YIELD,))  # on Linux a thread's own
            stack.callback(made.shutdown, cancel_futures=True)
            return made

        self.readers, self.preparers, self.finishers = pool("read"), pool("prepare"), pool("finish")


def _bound(unit: list[_Batch]) -> None:
    """Wait for the batch before the last to be finished, so that no more than two hold their inputs' frames."""
    if len(unit) > 1:
        for one in unit[-2].finished:
            one.result()


def joined(batches: Sequence[Columns]) -> Columns:
    """Batches of rows as one; ValueError where they disagree in columns."""
    if len({frozenset(columns) for columns in batches}) > 1:
        raise ValueError(f"an encoder gave columns {sorted(batches[0])} for one batch, others for another")
    return {name: _end_to_end([columns[name] for columns in batches]) for name in batches[0]}


def _end_to_end(pieces: Sequence[Column]) -> Column:
    if isinstance(pieces[0], Ragged):
        return Ragged.of([piece[row] for piece in pieces for row in range(len(piece))])
    return narrowed(np.concatenate([np.asarray(piece) for piece in pieces]))
