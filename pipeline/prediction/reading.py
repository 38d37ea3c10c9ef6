"""Skeleton files read ahead by processes of their own, and given in their order: memory holds a few at a time.

A process sends clip after clip through a pipe and waits where nobody takes them. One that dies, for want of memory or
in a library's native code, costs the file that it was at.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from ..preparation.raw import RawFile
from ..preparation.reading import as_child, deaf
from .files import Named, Unread
from .reader import Read, Wanted, read_file

BLOCK = 8  # files that a process is given together
AHEAD = 2  # blocks that a process is given before the first is taken: their names fit into its pipe
GRACE = 5.0  # seconds for a killed process
SPAWN = get_context("spawn")

Outcome = Read | Unread


@contextmanager
def reading(paths: Iterable[Named], wanted: Wanted, jobs: int | None = None) -> Iterator[Iterator[Outcome]]:
    """Gives the clips of all files, in the files' order, read by `jobs` processes; one a core if not said.

    What is named and is no file comes as it is, at its place. A process begins when it has something to read, and all
    are gone when the context is left. RuntimeError where none can be started.
    """
    readers = [_Reader(wanted) for _ in range(jobs or len(os.sched_getaffinity(0)))]
    try:
        yield _outcomes(iter(paths), readers)
    finally:
        for reader in readers:
            reader.end()


def _outcomes(paths: Iterator[Named], readers: Sequence[_Reader]) -> Iterator[Outcome]:
    asked, turn = deque[_Reader](), cycle(readers)
    while block := list(islice(paths, BLOCK)):
        reader = next(turn)
        reader.ask(block)
        asked.append(reader)
        if len(asked) == AHEAD * len(readers):
            yield from asked.popleft().answers()
    for reader in asked:
        yield from reader.answers()


class _Reader:
    """One process, and the blocks of files that it has been asked for and has not answered."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._blocks = deque[deque[Named]]()
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._greeted = False

    def ask(self, block: Sequence[Named]) -> None:
        self._blocks.append(deque(block))
        if self._pipe is None:
            self._start()
        else:
            _send(self._pipe, block)

    def answers(self) -> Iterator[Outcome]:
        """What the files of the oldest block hold."""
        block = self._blocks[0]
        while block:
            if isinstance(first := block[0], Unread):
                block.popleft()
                yield first
                continue
            try:
                found, last = self._take(self._pipe or self._start())
            except (EOFError, OSError):
                block.popleft()
                yield Unread(str(first), "", f"crashed: the process that read it {self._death()}")
                continue
            if last:
                block.popleft()
            yield found
        self._blocks.popleft()

    def _take(self, pipe: Connection) -> tuple[Outcome, bool]:
        if not self._greeted:
            self._greet(pipe)
        return pipe.recv()

    def _greet(self, pipe: Connection) -> None:
        """Wait for a process to begin; one that never does would do so for no other file."""
        try:
            pipe.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(f"no process that reads files can be started: it {self._death()}") from error
        self._greeted = True

    def _start(self) -> Connection:
        """A process that is sent all that was asked and is not answered."""
        pipe, other = SPAWN.Pipe()
        assert isinstance(pipe, Connection)  # noqa: S101 - as it is everywhere but on Windows
        self._pipe = pipe
        self._process = SPAWN.Process(target=_serve, args=(other, self._wanted), daemon=True)
        with deaf():
            self._process.start()
        other.close()  # so that the end of the process is the end of the pipe
        for block in self._blocks:
            _send(pipe, block)
        return pipe

    def _death(self) -> str:
        """How the process ended; the next file begins another."""
        process = self._process
        self.end(patience=GRACE)
        code = process.exitcode if process else None
        if code is None or code >= 0:
            return f"left with exit code {code}"
        return f"died of signal {-code} ({signal.strsignal(-code)})"

    def end(self, patience: float = 0.0) -> None:
        """End the process, which is given so many seconds to go by itself."""
        if self._process and self._pipe:
            self._process.join(patience)
            self._process.kill()
            self._process.join(GRACE)
            self._pipe.close()
        self._process = self._pipe = None
        self._greeted = False


def _send(pipe: Connection, block: Iterable[Named]) -> None:
    with suppress(OSError):  # it has died, which is seen where its answer is taken
        pipe.send([os.fsencode(path) for path in block if isinstance(path, Path)])


# -- the other process


def _serve(pipe: Connection, wanted: Wanted) -> None:
    """Read what is asked and send each clip, and whether it is its file's last, until nobody asks any more."""
    as_child()
    with suppress(EOFError, OSError):
        pipe.send(None)
        while True:
            for path in pipe.recv():
                for found in _and_last(read_file(RawFile(Path(os.fsdecode(path))), wanted)):
                    pipe.send(found)


def _and_last(outcomes: Iterator[Outcome]) -> Iterator[tuple[Outcome, bool]]:
    """Each outcome, and whether it is the last one; there is one at least."""
    before = next(outcomes)
    for outcome in outcomes:
        yield before, False
        before = outcome
    yield before, True
